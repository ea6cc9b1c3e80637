//! What must hold when a host was hit, and when it is started again.

use std::time::SystemTime;

use anyhow::{Context as _, Result, bail};
use reqwest::Method;
use serde_json::json;

use super::interposer::Hit;
use super::kind::Kind;
use super::life::{Life, Owed, Record};
use super::stage::{Stage, Step};
use crate::client::NewInstance;
use crate::fakes::WebhookFake;
use crate::host::HostFolder;
use crate::proofs::examine::{Before, check_store, examine};
use crate::proofs::ledger::Ledger;
use crate::scene::{ACCOUNT, SITE, WEBHOOK};

/// The engine's one file of records; what is acknowledged is in there.
const RECORDS: &str = "sled/db";
/// How many lines of a log are told.
const TAIL: usize = 12;

/// What was found wrong at one point.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Acknowledged and not there, or acknowledged on top of a failed write.
    pub lost: Vec<String>,
    /// There in part or with other contents.
    pub torn: Vec<String>,
    /// The host does not start again, or starts and does not work.
    pub unopenable: Vec<String>,
    /// An error that nobody was told of.
    pub unsaid: Vec<String>,
}

impl Verdict {
    /// Every finding with its kind.
    pub fn findings(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let kinds =
            [("LOST", &self.lost), ("TORN", &self.torn), ("UNOPENABLE", &self.unopenable), ("UNSAID", &self.unsaid)];
        kinds.into_iter().flat_map(|(kind, all)| all.iter().map(move |finding| (kind, finding.as_str())))
    }

    /// Whether nothing was found.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.findings().next().is_none()
    }
}

/// Judges the life that was hit.
///
/// # Errors
/// When a host that was to be killed was not.
pub fn judge(kind: Kind, hit: &Hit, record: &Record) -> Result<Verdict> {
    let mut verdict = Verdict::default();
    let Some(error) = kind.error() else {
        if kind == Kind::Short {
            verdict.unsaid.extend(disturbance(record).map(|what| format!("half a write is no error, but {what}")));
        } else if record.end.signal() != Some(9) {
            bail!("the host was to be killed at {}, and ended with {}", hit.point, record.end);
        }
        return Ok(verdict);
    };
    if !record.log.contains(error) && !record.refused.iter().any(|refusal| refusal.contains(error)) {
        let tail = tail(&record.log);
        verdict.unsaid.push(format!("{error} is named nowhere; the host ended with {}:\n{tail}", record.end));
    } else if !matches!(record.end, super::life::End::Exited(_)) {
        verdict.unsaid.push(format!("the host goes on without serving or ending: {}", tail(&record.log)));
    } else if let Some(signal) = record.end.signal() {
        verdict.unsaid.push(format!("the host ended by signal {signal}: {}", tail(&record.log)));
    } else if record.end.in_order() && !(record.served && record.refused.is_empty()) {
        verdict.unsaid.push(format!("the host ended as if in order, and had refused: {}", record.refused.join("; ")));
    }
    verdict.unsaid.extend(record.stalled.iter().cloned());
    if hit.point.path == RECORDS {
        verdict.lost.extend(
            after(&record.acknowledged, hit.at)
                .map(|what| format!("{what}: acknowledged although {} had failed before it was asked for", hit.point)),
        );
    }
    Ok(verdict)
}

/// What was asked for, and acknowledged, after a time.
fn after(acknowledged: &[(String, SystemTime)], at: SystemTime) -> impl Iterator<Item = &str> {
    acknowledged.iter().filter(move |(_, sent)| *sent > at).map(|(what, _)| what.as_str())
}

/// What a life shows that was not hit by anything; `None` when it went as it must.
#[must_use]
pub fn disturbance(record: &Record) -> Option<String> {
    let problems: Vec<&str> = record.refused.iter().chain(&record.stalled).map(String::as_str).collect();
    if record.served && record.end.in_order() && problems.is_empty() {
        return None;
    }
    Some(format!("the host ended with {}: {}\n{}", record.end, problems.join("; "), tail(&record.log)))
}

/// The host that is started again, and what it owes.
pub struct Restart<'a> {
    /// The folder, without harm.
    pub folder: &'a HostFolder,
    /// What is configured if it is not yet.
    pub instance: &'a NewInstance,
    /// Tokens and keys that were handed out.
    pub owed: Owed,
    /// What was acknowledged.
    pub ledger: &'a Ledger,
    /// The receiver.
    pub webhook: &'a WebhookFake,
    /// What it had before.
    pub before: &'a Before,
}

impl Restart<'_> {
    /// Starts the host, uses everything that it owes, lets it work, and compares.
    ///
    /// # Errors
    /// When a process cannot be started or waited for, or a host that serves does not answer.
    pub async fn judge(mut self, verdict: &mut Verdict) -> Result<()> {
        let owed = self.owed.clone();
        let life = Life::begin(self.folder, self.instance, &mut self.owed, self.ledger).await?;
        if !life.serves() {
            verdict.unopenable.push(format!("the host does not start again:\n{}", tail(&life.log()?)));
            life.end().await?;
            return Ok(());
        }
        let mut life = life.repeating();
        outlived(&owed, &life, verdict).await?;
        let mut script = Stage::setup();
        script.extend([Step::Post(vec![("after", 50)]), Step::Settled]);
        life.play(&script).await?;
        if life.serves()
            && let Some(operator) = life.operator()
        {
            let findings = examine(&operator, self.webhook, self.ledger, self.before).await?;
            verdict.lost.extend(findings.lost);
            verdict.torn.extend(findings.torn);
        }
        let record = life.end().await?;
        verdict.unopenable.extend(disturbance(&record).map(|what| format!("the host starts again, but {what}")));
        verdict.torn.extend(check_store(self.folder).await?);
        Ok(())
    }
}

/// Everything that was handed out still works.
async fn outlived(owed: &Owed, life: &Life<'_>, verdict: &mut Verdict) -> Result<()> {
    let platform = life.platform().context("the host serves without an address")?;
    if owed.site {
        let again = platform.request(Method::PUT, &format!("/v1/accounts/{ACCOUNT}/sites/{SITE}")).json(&json!({}));
        let status = again.send().await?.status();
        if status != 200 {
            verdict.lost.push(format!("the site's registration was acknowledged; repeating it answers {status}"));
        }
    }
    if let Some(token) = &owed.operator {
        let operator = platform.with_token(token);
        if let Err(error) = operator.verify_audit(SITE).await {
            verdict.lost.push(format!("the operator's token was handed out and does not work: {error}"));
        }
        if owed.instance
            && let Err(error) = operator.instance(WEBHOOK).await
        {
            verdict.lost.push(format!("the instance was acknowledged: {error}"));
        }
    }
    // The ingest key is used for the event that is posted next.
    Ok(())
}

/// The last lines.
#[must_use]
pub fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    let from = lines.len().saturating_sub(TAIL);
    lines.into_iter().skip(from).map(|line| format!("    {line}\n")).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::ExitStatus;
    use std::time::Duration;

    use super::super::interposer::Point;
    use super::super::life::End;
    use super::*;

    const AT: SystemTime = SystemTime::UNIX_EPOCH;

    fn hit(path: &str) -> Hit {
        Hit { point: Point { call: "fdatasync".to_owned(), bytes: 0, path: path.to_owned() }, at: AT }
    }

    fn record(status: i32, log: &str) -> Record {
        Record {
            served: true,
            acknowledged: Vec::new(),
            refused: Vec::new(),
            stalled: Vec::new(),
            end: End::Exited(ExitStatus::from_raw(status)),
            log: log.to_owned(),
        }
    }

    #[test]
    fn an_error_that_is_named_nowhere_is_unsaid() {
        let said = record(256, "error: Input/output error (os error 5)");
        assert!(judge(Kind::Eio, &hit(RECORDS), &said).unwrap().is_clean());
        let silent = record(0, "stopped");
        assert_eq!(judge(Kind::Eio, &hit(RECORDS), &silent).unwrap().unsaid.len(), 1);
        let stuck = Record { end: End::Stuck, ..said.clone() };
        assert_eq!(judge(Kind::Eio, &hit(RECORDS), &stuck).unwrap().unsaid.len(), 1);
        let aborted = Record { end: End::Exited(ExitStatus::from_raw(6)), ..said.clone() };
        assert_eq!(judge(Kind::Eio, &hit(RECORDS), &aborted).unwrap().unsaid.len(), 1);
        let pretends = Record { refused: vec!["503".to_owned()], end: record(0, "").end, ..said };
        assert_eq!(judge(Kind::Eio, &hit(RECORDS), &pretends).unwrap().unsaid.len(), 1);
    }

    #[test]
    fn an_acknowledgement_on_top_of_a_failed_write_is_a_loss() {
        let acknowledged = vec![("a".to_owned(), AT), ("b".to_owned(), AT + Duration::from_secs(1))];
        let record = Record { acknowledged, ..record(256, "No space left on device") };
        assert_eq!(judge(Kind::Enospc, &hit(RECORDS), &record).unwrap().lost.len(), 1);
        assert!(judge(Kind::Enospc, &hit("sled/snap.0.generating"), &record).unwrap().is_clean());
    }

    #[test]
    fn half_a_write_disturbs_nothing_and_a_kill_kills() {
        assert!(judge(Kind::Short, &hit(RECORDS), &record(0, "")).unwrap().is_clean());
        assert_eq!(judge(Kind::Short, &hit(RECORDS), &record(256, "error")).unwrap().unsaid.len(), 1);
        assert!(judge(Kind::Kill, &hit(RECORDS), &record(9, "")).unwrap().is_clean());
        assert!(judge(Kind::Kill, &hit(RECORDS), &record(0, "")).is_err());
    }
}
