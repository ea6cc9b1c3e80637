//! The hostile components, one row each: what is run, and what it has to come to.
//!
//! A fault has to be the one of the cap that the component runs against: a component that is ended for another reason is
//! not contained by what was meant to contain it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use sgen_engine::{FaultKind, Invocation, Limits};
use sgen_model::Outcome;
use sgen_tests::fakes::server::Received;

/// One hostile component.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// The guest's folder.
    pub(crate) guest: &'static str,
    /// How many events it is given: some guests choose by it what they do.
    pub(crate) events: usize,
    /// The event whose fields contain the word that makes a guest panic.
    pub(crate) poisonous: Option<usize>,
    pub(crate) contained: Contained,
}

/// What it has to come to.
#[derive(Clone, Copy)]
pub(crate) enum Contained {
    /// Ended by one of these caps.
    By(&'static [FaultKind]),
    /// Ended by one of these caps, or refused by the gate with nothing sent.
    ByOrUnsent(&'static [FaultKind]),
    /// It delivers, and its log is cut, escaped and counted.
    LogCut,
    /// It delivers, and of all that it tried the downstream has seen the one request that was granted.
    OneGranted,
    /// It delivers, and what it carried elsewhere held no credential.
    NothingCarried,
}
use Contained::{By, ByOrUnsent, LogCut, NothingCarried, OneGranted};

const fn case(name: &'static str, guest: &'static str, events: usize, contained: Contained) -> Case {
    Case { name, guest, events, poisonous: None, contained }
}

/// All of them.
pub(crate) const CASES: [Case; 21] = [
    case("endless loop", "endless-loop", 1, By(&[FaultKind::Cpu])),
    case("deep recursion", "deep-recursion", 1, By(&[FaultKind::Stack])),
    case("memory growth", "memory-growth", 1, By(&[FaultKind::Memory])),
    case("table growth", "table-growth", 1, By(&[FaultKind::Memory])),
    case("handle leak", "handle-leak", 1, By(&[FaultKind::Quota])),
    case("a huge list as answer", "huge-answer", 1, By(&[FaultKind::Answer])),
    case("huge texts as answer", "huge-answer", 2, By(&[FaultKind::Quota])),
    case("a huge request", "huge-call", 1, By(&[FaultKind::Quota])),
    case("a huge list of requests", "huge-call", 2, By(&[FaultKind::Quota])),
    case("a huge list of headers", "huge-call", 3, ByOrUnsent(&[FaultKind::Quota, FaultKind::Memory])),
    case("a huge line of log", "huge-call", 4, By(&[FaultKind::Quota, FaultKind::Memory])),
    case("huge responses", "huge-responses", 1, By(&[FaultKind::Quota])),
    case("log flood with control characters", "log-flood", 1, LogCut),
    case("a gigabyte of randomness", "random-flood", 1, By(&[FaultKind::Trap])),
    case("randomness without end", "random-flood", 2, By(&[FaultKind::Cpu])),
    case("other endpoints, URLs and headers", "greedy-paths", 1, OneGranted),
    case("a reflected credential sent elsewhere", "exfiltrate", 2, NothingCarried),
    case("sleeping on a host call", "sleepy", 1, By(&[FaultKind::Wall])),
    case("wrong number of outcomes", "wrong-count", 3, By(&[FaultKind::Answer])),
    case("a panic at once", "trap", 1, By(&[FaultKind::Trap])),
    Case {
        name: "a panic in the middle of a batch",
        guest: "poison",
        events: 9,
        poisonous: Some(4),
        contained: By(&[FaultKind::Trap]),
    },
];

/// Judges one run. The error says what was not contained.
pub(crate) fn judge(
    case: &Case,
    run: &Invocation<Vec<Outcome>>,
    limits: &Limits,
    token: &str,
    seen: &[Received],
) -> Result<(), String> {
    log_is_bounded(run, limits)?;
    match (case.contained, &run.result) {
        (By(kinds) | ByOrUnsent(kinds), Err(fault)) if kinds.contains(&fault.kind) => Ok(()),
        (ByOrUnsent(_), Ok(_)) if seen.is_empty() => Ok(()),
        (LogCut, Ok(_)) => match run.log.last() {
            Some(last) if last.text.contains("dropped") => Ok(()),
            _ => Err("its log was not cut, or does not say so".to_owned()),
        },
        (OneGranted, Ok(_)) => match seen {
            [one] if one.path == "/echo" && one.query.is_empty() => Ok(()),
            _ => Err(format!("the downstream saw {:?}", paths(seen))),
        },
        (NothingCarried, Ok(_)) => carried_nothing(token, seen),
        (_, Err(fault)) => Err(format!("it was ended by {:?}: {fault}", fault.kind)),
        (_, Ok(outcomes)) => Err(format!("nothing ended it; it answered {} outcomes", outcomes.len())),
    }
}

/// A log is bounded and escaped whatever else happens.
fn log_is_bounded(run: &Invocation<Vec<Outcome>>, limits: &Limits) -> Result<(), String> {
    let bytes: usize = run.log.iter().map(|line| line.text.len()).sum();
    // One line tells how many were dropped; the last one kept may be over by an escape.
    if run.log.len() > limits.log_lines.saturating_add(1) || bytes > limits.log_bytes.saturating_add(2048) {
        return Err(format!("its log has {} lines of {bytes} bytes", run.log.len()));
    }
    match run.log.iter().find(|line| line.text.chars().any(char::is_control)) {
        Some(line) => Err(format!("its log has a control character: {:?}", line.text)),
        None => Ok(()),
    }
}

/// What reached the second endpoint was meant to carry the credential, and carries what stands in its place.
fn carried_nothing(token: &str, seen: &[Received]) -> Result<(), String> {
    let (elsewhere, own): (Vec<_>, Vec<_>) = seen.iter().partition(|request| request.path.contains("/collect"));
    if own.is_empty() || elsewhere.len() < 2 {
        return Err(format!("nothing was sent elsewhere, so nothing is shown: {:?}", paths(seen)));
    }
    let needles = [token.to_owned(), hex::encode(token), STANDARD_NO_PAD.encode(token)];
    for request in &elsewhere {
        let told = format!(
            "{}?{} {:?} {}",
            request.path,
            request.query,
            request.headers,
            String::from_utf8_lossy(&request.body)
        );
        if needles.iter().any(|needle| told.contains(needle)) {
            return Err(format!("the credential was carried to {}", request.path));
        }
    }
    let marked = elsewhere.iter().any(|request| String::from_utf8_lossy(&request.body).contains("[redacted]"));
    if marked { Ok(()) } else { Err("what was carried does not show the place of the credential".to_owned()) }
}

fn paths(seen: &[Received]) -> Vec<&str> {
    seen.iter().take(5).map(|request| request.path.as_str()).collect()
}
