//! One worker: it has downstreams and prepared stores of its own, and takes one point after the other.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::json;

use super::interposer::{Interposer, Shot, Trace};
use super::life::{Life, Owed, Record};
use super::stage::Stage;
use super::verdict::{self, Restart, Verdict, disturbance};
use crate::client::NewInstance;
use crate::fakes::Fault;
use crate::host::HostFolder;
use crate::proofs::examine::{Before, delivered_since};
use crate::proofs::ledger::Ledger;
use crate::scene::{Downstreams, WEBHOOK};
use crate::wait::until;

/// A store in the state that a stage begins with, and what its host owes.
struct Template {
    store: Option<PathBuf>,
    owed: Owed,
    ledger: Ledger,
    before: Before,
}

/// What became of one point.
pub struct Outcome {
    /// What the interposer saw. Without a hit there was no such point.
    pub trace: Trace,
    /// How many events and changes were acknowledged.
    pub acknowledged: u64,
    /// What was found wrong.
    pub verdict: Verdict,
    /// Where everything of it is.
    pub folder: PathBuf,
}

/// Takes points, one after the other.
pub struct Worker {
    interposer: Interposer,
    base: HostFolder,
    downstreams: Downstreams,
    instance: NewInstance,
    place: PathBuf,
    templates: BTreeMap<Stage, Template>,
}

impl Worker {
    /// Prepares downstreams and stores in `place`. `base` has the keys and the compile cache.
    ///
    /// # Errors
    /// When a host that nothing is done to does not do what it is asked for.
    pub async fn prepare(interposer: Interposer, base: &HostFolder, place: &Path) -> Result<Self> {
        fs::create_dir_all(place)?;
        let downstreams = Downstreams::start().await?;
        let instance = NewInstance {
            id: Some(WEBHOOK.to_owned()),
            connector: "webhook".to_owned(),
            title: Some("Data team".to_owned()),
            settings: json!({ "url": downstreams.webhook.hook_url() }),
            mapping: json!({ "event_id": { "from": "id" }, "check": { "from": "fields.check" } }),
            scope: Some(vec!["*".to_owned()]),
            credentials: json!({ "secret": downstreams.secret.text() }),
        };
        let base = downstreams.attach(base.clone());
        let empty =
            Template { store: None, owed: Owed::default(), ledger: Ledger::default(), before: Before::default() };
        let mut worker = Self {
            interposer,
            base,
            downstreams,
            instance,
            place: place.to_path_buf(),
            templates: BTreeMap::from([(Stage::First, empty)]),
        };
        for (stage, of) in [(Stage::Again, Stage::First), (Stage::Crashed, Stage::Again)] {
            let template = worker.template(stage, of).await.with_context(|| format!("preparing the stage {stage}"))?;
            worker.templates.insert(stage, template);
        }
        Ok(worker)
    }

    /// The store that a stage begins with: after the stage before it.
    async fn template(&self, stage: Stage, of: Stage) -> Result<Template> {
        let earlier = self.templates.get(&of).context("the stage before is not prepared")?;
        let (mut owed, ledger) = (earlier.owed.clone(), earlier.ledger.fork());
        let folder = self.folder(&format!("template-{stage}"), earlier)?;
        let webhook = &self.downstreams.webhook;
        let before = Before::now(webhook, earlier.before.accounted.clone());
        let mut life = Life::begin(&folder, &self.instance, &mut owed, &ledger).await?;
        life.play(&of.script()).await?;
        let mut accounted = before.accounted.clone();
        accounted.extend(delivered_since(webhook, &before));
        if stage == Stage::Crashed {
            webhook.faults().always(Fault::Hang);
            let asked = webhook.journal().total();
            life.play(&Stage::undelivered()).await?;
            until("a request under way", Duration::from_secs(20), || webhook.journal().total() > asked).await?;
            life.kill().await?;
            webhook.faults().clear();
            if !ledger.acknowledged().contains("left-3") {
                bail!("the host did not take what it was to be killed with");
            }
        } else {
            undisturbed(&life.end().await?)?;
        }
        let before = Before { accounted, ..Before::default() };
        Ok(Template { store: Some(folder.store()), owed, ledger, before })
    }

    /// A fresh folder with a copy of the template's store.
    fn folder(&self, name: &str, template: &Template) -> Result<HostFolder> {
        let place = self.place.join(name);
        if place.exists() {
            fs::remove_dir_all(&place)?;
        }
        let folder = self.base.with_empty_store(&place)?;
        if let Some(store) = &template.store {
            copy(store, &folder.store())?;
        }
        Ok(folder)
    }

    /// Plays a stage and hits it, or nothing; then starts the host again and judges.
    ///
    /// # Errors
    /// When the proof itself cannot go on.
    pub async fn run(&self, stage: Stage, shot: Option<Shot>) -> Result<Outcome> {
        let name = match shot {
            None => format!("{stage}-untouched"),
            Some(Shot { kind, at }) => format!("{stage}-{kind}-{at}"),
        };
        let template = self.templates.get(&stage).context("the stage is not prepared")?;
        let folder = self.folder(&name, template)?;
        let points = folder.path().join("points.log");
        let armed = self.interposer.arm(&folder, &points, shot);
        self.play(stage, shot, template, &folder, &armed, &points).await.with_context(|| name)
    }

    /// The same under another program that watches the host; nothing is hit.
    pub(super) async fn watched(
        &self,
        stage: Stage,
        launcher: impl FnOnce(&Interposer, &HostFolder, &Path) -> HostFolder,
    ) -> Result<Outcome> {
        let template = self.templates.get(&stage).context("the stage is not prepared")?;
        let folder = self.folder(&format!("{stage}-watched"), template)?;
        let points = folder.path().join("points.log");
        let armed = launcher(&self.interposer, &folder, &points);
        self.play(stage, None, template, &folder, &armed, &points).await
    }

    async fn play(
        &self,
        stage: Stage,
        shot: Option<Shot>,
        template: &Template,
        folder: &HostFolder,
        armed: &HostFolder,
        points: &Path,
    ) -> Result<Outcome> {
        let webhook = &self.downstreams.webhook;
        let before = Before::now(webhook, template.before.accounted.clone());
        let (mut owed, ledger) = (template.owed.clone(), template.ledger.fork());
        let mut life = Life::begin(armed, &self.instance, &mut owed, &ledger).await?;
        life.play(&stage.script()).await?;
        let record = life.end().await?;
        let trace = Trace::read(points)?;
        let acknowledged = record.acknowledged.len() as u64;
        let verdict = match (&trace.hit, shot) {
            (Some(hit), Some(shot)) => {
                let mut verdict = verdict::judge(shot.kind, hit, &record)?;
                let instance = &self.instance;
                let restart = Restart { folder, instance, owed, ledger: &ledger, webhook, before: &before };
                restart.judge(&mut verdict).await?;
                verdict
            }
            _ => {
                undisturbed(&record)?;
                Verdict::default()
            }
        };
        Ok(Outcome { trace, acknowledged, verdict, folder: folder.path().to_path_buf() })
    }
}

fn undisturbed(record: &Record) -> Result<()> {
    match disturbance(record) {
        None => Ok(()),
        Some(what) => bail!("nothing was done to the host, but {what}"),
    }
}

/// Copies a folder with everything in it.
fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
