//! The claim: whatever the host acknowledged survives SIGKILL at any moment, and the host always starts again.
//!
//! The host takes events, delivers them and has its configuration changed while it is killed; in some lives the downstream
//! fails or refuses events, its credential is revoked and rotated, dead letters are replayed, or a backup is taken and
//! restored ([`happening`]). A fifth of the kills hit the host's start, half of those the very first start on an empty
//! store. A ledger outside of the host says what it owes.

mod backup;
mod happening;
mod load;

use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use fastrand::Rng;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use self::backup::{Backup, back_up};
use self::happening::{Happening, Met};
use self::load::{Mended, Room, Rotation, Sender, change_titles, replay_all, rotate, rotate_when_paused};
use super::examine::{Before, check_store, examine};
use super::ledger::{Findings, Ledger};
use crate::fakes::Fault;
use crate::fakes::webhook::Secret;
use crate::host::{Host, HostFolder};
use crate::scene::{Downstreams, LIVE, SITE, Scene, WEBHOOK};

/// How many senders post at once.
const SENDERS: usize = 4;
/// How long a loaded host lives, in milliseconds.
const LIFE_MS: std::ops::Range<u64> = 20..700;
/// How long a life with a backup waits for it to be complete.
const BACKUP_BOUND: Duration = Duration::from_secs(60);
/// After how long a restore is killed, in milliseconds.
const RESTORE_MS: std::ops::Range<u64> = 5..1_000;
/// How many events may wait to be delivered while lives take more at full speed.
const BACKLOG: u64 = 20_000;
/// How many events every life may take at full speed.
const SHARE: u64 = 100;
/// How long the last life may take to deliver what is left.
const DRAIN_BOUND: Duration = Duration::from_secs(300);
/// How many findings of a kind are told in words.
const TOLD: usize = 10;

/// What to prove.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How often the host is killed.
    pub rounds: u64,
    /// Decides moments, sizes and contents.
    pub seed: u64,
    /// The folder of everything; emptied first, removed after a success.
    pub folder: PathBuf,
    /// The folder of the signed release.
    pub catalog: PathBuf,
}

/// What was found. Its text is the proof's closing line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Figures {
    /// Kills.
    pub rounds: u64,
    /// Events acknowledged.
    pub acked: u64,
    /// Acknowledged events and changes that are not there.
    pub lost: u64,
    /// Events or requests that are there in part or with other contents.
    pub torn: u64,
    /// Starts after a kill that did not serve.
    pub unopenable: u64,
    /// Deliveries beyond the first of a webhook id: allowed, and counted.
    pub duplicates: u64,
}

impl Figures {
    /// Whether the claim holds.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.lost == 0 && self.torn == 0 && self.unopenable == 0
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rounds, acked, lost, torn, unopenable, duplicates } = self;
        write!(
            f,
            "rounds {rounds}, acked {acked}, lost {lost}, torn {torn}, unopenable {unopenable}, duplicates {duplicates}"
        )
    }
}

/// Where a kill hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kill {
    /// A host under load.
    UnderLoad,
    /// A start on the store as it is.
    Start,
    /// The first start on an empty store.
    FirstStart,
}

/// One kill in five hits a start, at a random place among the five; every second of these an empty store's first.
fn schedule(rounds: u64, rng: &mut Rng) -> Vec<Kill> {
    let mut kills = Vec::new();
    let mut starts = 0_u64;
    while (kills.len() as u64) < rounds {
        let chosen = rng.usize(0..5);
        for place in 0..5 {
            if place == chosen {
                kills.push(if starts.is_multiple_of(2) { Kill::Start } else { Kill::FirstStart });
                starts += 1;
            } else {
                kills.push(Kill::UnderLoad);
            }
        }
    }
    kills.truncate(usize::try_from(rounds).unwrap_or(usize::MAX));
    kills
}

/// What all rounds share.
struct Course {
    scene: Scene,
    ledger: Arc<Ledger>,
    figures: Figures,
    rng: Rng,
    /// How long the last undisturbed start took.
    start_time: Duration,
    /// Requests whose fate is unknown: their answer never came.
    unanswered: Vec<Value>,
    /// What the operator has yet to do about a revoked credential.
    rotation: Option<Rotation>,
    met: Met,
    /// What was found before the end.
    found: Findings,
}

/// What is to be done in one life beside events and changes of the title.
#[derive(Default)]
struct Agenda {
    replay: bool,
    /// A backup, and whether the host is to live until it is complete.
    backup: Option<bool>,
}

/// Runs the proof; `tell` is given a line now and then.
///
/// # Errors
/// When the proof itself cannot go on; what it proves or disproves is in the figures.
pub async fn run(plan: &Plan, mut tell: impl FnMut(String)) -> Result<Figures> {
    if plan.folder.exists() {
        fs::remove_dir_all(&plan.folder).with_context(|| format!("{} cannot be emptied", plan.folder.display()))?;
    }
    fs::create_dir_all(&plan.folder)?;
    let ledger = Arc::new(Ledger::create(&plan.folder.join("ledger.txt"))?);
    let downstreams = Downstreams::start().await?;
    let folder = HostFolder::create_on(&plan.folder.join("host"), &plan.catalog).await?;
    let folder = downstreams.attach(folder);
    let scene = Scene::start_with(downstreams, folder).await?;
    let mut webhook = scene.webhook_instance();
    webhook.mapping = json!({ "event_id": { "from": "id" }, "check": { "from": "fields.check" } });
    scene.operator()?.configure(SITE, LIVE, &webhook).await?;
    let mut rng = Rng::with_seed(plan.seed);
    let kills = schedule(plan.rounds, &mut rng);
    let mut course = Course {
        scene,
        ledger,
        figures: Figures::default(),
        rng,
        start_time: Duration::from_millis(500),
        unanswered: Vec::new(),
        rotation: None,
        met: Met::default(),
        found: Findings::default(),
    };
    course.stop_host().await?;
    let began = Instant::now();
    for (number, kill) in (1..).zip(kills) {
        course.round(number, kill, plan, &mut tell).await?;
        course.figures.rounds += 1;
        if number % 10 == 0 {
            let acked = course.ledger.acknowledged().len();
            tell(format!("round {number}: {acked} acknowledged, {:.0} s", began.elapsed().as_secs_f32()));
        }
    }
    course.conclude(&mut tell).await?;
    tell(format!("met: {}", course.met));
    if let Some(what) = course.met.missing(plan.rounds) {
        bail!("this run proves nothing about what it should: {what} in {} rounds (seed {})", plan.rounds, plan.seed);
    }
    if course.figures.holds() {
        drop(course.scene);
        fs::remove_dir_all(&plan.folder)?;
    } else {
        tell(format!("everything of this run is kept in {}", plan.folder.display()));
    }
    Ok(course.figures)
}

impl Course {
    async fn stop_host(&mut self) -> Result<()> {
        let host = self.scene.host.take().context("the host is down already")?;
        let status = host.stop().await?;
        if !status.success() {
            bail!("the host did not stop cleanly: {status}");
        }
        Ok(())
    }

    /// Starts a host after a kill. One that does not serve is counted, and tried once more.
    async fn open(&mut self, folder: &HostFolder, tell: &mut impl FnMut(String)) -> Result<Host> {
        let mut host = folder.spawn()?;
        match host.wait_until_serving().await {
            Ok(took) => self.start_time = took,
            Err(error) => {
                self.figures.unopenable += 1;
                tell(format!("UNOPENABLE {error:#}"));
                drop(host);
                return folder.start().await.context("the store stays unopenable");
            }
        }
        Ok(host)
    }

    async fn round(&mut self, number: u64, kill: Kill, plan: &Plan, tell: &mut impl FnMut(String)) -> Result<()> {
        match kill {
            Kill::UnderLoad => {
                let folder = self.scene.folder.clone();
                self.scene.host = Some(self.open(&folder, tell).await?);
                self.load(number, plan).await
            }
            Kill::Start => {
                let folder = self.scene.folder.clone();
                self.kill_while_starting(&folder).await
            }
            Kill::FirstStart => {
                let place = plan.folder.join(format!("first-{number}"));
                let folder = self.scene.folder.with_empty_store(&place)?;
                self.kill_while_starting(&folder).await?;
                let start_time = self.start_time;
                self.open(&folder, tell).await?.kill().await?;
                self.start_time = start_time;
                fs::remove_dir_all(&place)?;
                Ok(())
            }
        }
    }

    async fn kill_while_starting(&mut self, folder: &HostFolder) -> Result<()> {
        let span = u64::try_from(self.start_time.as_micros())?.max(1);
        let moment = Duration::from_micros(self.rng.u64(0..span + span / 5));
        let host = folder.spawn()?;
        tokio::time::sleep(moment).await;
        host.kill().await
    }

    /// Posts, changes and delivers until the host is killed at a random moment.
    async fn load(&mut self, round: u64, plan: &Plan) -> Result<()> {
        let mut agenda = Agenda::default();
        for happening in happening::draw(&mut self.rng) {
            self.enact(happening, &mut agenda);
        }
        let ended = Arc::new(AtomicBool::new(false));
        let mut senders = self.start_senders(round, &ended)?;
        let operator = self.scene.operator()?;
        let ledger = &self.ledger;
        let titles = tokio::spawn(change_titles(operator.clone(), ledger.clone(), ended.clone(), round));
        let replay = agenda.replay.then(|| tokio::spawn(replay_all(operator.clone(), ledger.clone())));
        let mending = self.rotation.clone();
        let mending = mending.map(|rotation| tokio::spawn(rotate_when_paused(operator, ledger.clone(), rotation)));
        let mut backup = agenda.backup.map(|_| {
            let file = plan.folder.join(format!("backup-{round}"));
            tokio::spawn(back_up(self.scene.folder.clone(), ledger.fork(), file))
        });
        tokio::time::sleep(Duration::from_millis(self.rng.u64(LIFE_MS))).await;
        let mut backed_up = None;
        if agenda.backup == Some(true)
            && let Some(task) = backup.take()
        {
            let complete = tokio::time::timeout(BACKUP_BOUND, task).await.context("a backup takes too long")???;
            backed_up = Some(complete.context("a running host gave no backup")?);
        }
        let host = self.scene.host.take().context("the host is down already")?;
        host.kill().await?;
        ended.store(true, Ordering::SeqCst);
        while let Some(done) = senders.join_next().await {
            let unanswered = done??;
            // Half of what was not answered is sent again, as a careful site does; the other half never, so that a
            // request that was stored in part would stay so and be seen.
            let again = unanswered.into_iter().filter(|_| self.rng.bool());
            self.unanswered.extend(again);
        }
        titles.await??;
        if let Some(replay) = replay
            && let Some(letters) = replay.await??.filter(|letters| *letters > 0)
        {
            self.met.replayed += 1;
            self.met.letters += letters;
        }
        if let Some(mending) = mending {
            self.note_mended(mending.await??);
        }
        if let Some(task) = backup {
            backed_up = task.await??;
        }
        match backed_up {
            Some(backup) => self.restore(round, backup, plan).await,
            None => Ok(()),
        }
    }

    fn start_senders(&mut self, round: u64, ended: &Arc<AtomicBool>) -> Result<JoinSet<Result<Vec<Value>>>> {
        let number = Arc::new(AtomicU64::new(0));
        let delivered = self.scene.downstreams.webhook.summary().delivered;
        let waiting = self.ledger.taken().saturating_sub(delivered);
        let room = Arc::new(Room::new(BACKLOG.saturating_sub(waiting).max(SHARE)));
        let ingest = self.scene.ingest()?;
        let mut repeats = std::mem::take(&mut self.unanswered);
        let mut senders = JoinSet::new();
        for _ in 0..SENDERS {
            let share = repeats.split_off(repeats.len() - repeats.len().div_ceil(SENDERS).min(repeats.len()));
            let sender = Sender {
                ingest: ingest.clone(),
                ledger: self.ledger.clone(),
                ended: ended.clone(),
                number: number.clone(),
                room: room.clone(),
                rng: self.rng.fork(),
                round,
            };
            senders.spawn(sender.run(share));
        }
        self.unanswered = repeats;
        Ok(senders)
    }

    fn note_mended(&mut self, mended: Mended) {
        self.met.paused += u64::from(mended.paused);
        self.met.rotated += u64::from(mended.rotated);
        if mended.rotated {
            self.rotation = None;
        } else if let Some(rotation) = &mut self.rotation {
            rotation.asked |= mended.asked;
        }
    }

    /// Looks into the store that a backup makes. It stands beside the course's own, which goes on as it is.
    async fn restore(&mut self, round: u64, backup: Backup, plan: &Plan) -> Result<()> {
        let place = plan.folder.join(format!("restored-{round}"));
        let killed_after = Duration::from_millis(self.rng.u64(RESTORE_MS));
        let found = backup.restore(&self.scene.folder, &place, killed_after, &self.scene.operator_token).await?;
        self.found.lost.extend(found.lost);
        self.found.torn.extend(found.torn);
        self.met.restored += 1;
        Ok(())
    }

    fn enact(&mut self, happening: Happening, agenda: &mut Agenda) {
        let webhook = &self.scene.downstreams.webhook;
        match happening {
            Happening::Failing { fault, times } => {
                webhook.faults().next(times, fault);
                self.met.failing += 1;
            }
            Happening::Revoked => {
                let secret = Secret::from_seed(self.rng.u64(..));
                webhook.set_secrets(vec![secret.clone()]);
                self.rotation = Some(Rotation { secret, asked: false });
                self.met.revoked += 1;
            }
            Happening::Refusing(times) => webhook.faults().next(times, Fault::status(422)),
            Happening::Replayed => agenda.replay = true,
            Happening::BackedUp { complete } => agenda.backup = Some(complete),
        }
    }

    /// The last life: deliver what is left and compare everything with the ledger.
    async fn conclude(&mut self, tell: &mut impl FnMut(String)) -> Result<()> {
        let folder = self.scene.folder.clone();
        self.scene.host = Some(self.open(&folder, tell).await?);
        let operator = self.scene.operator()?;
        let webhook = &self.scene.downstreams.webhook;
        webhook.faults().clear();
        if let Some(rotation) = self.rotation.take() {
            if !rotate(&operator, &self.ledger, &rotation.secret).await? {
                bail!("the host did not answer the rotation that it waits for");
            }
            self.met.rotated += 1;
        }
        self.scene.settled(WEBHOOK, DRAIN_BOUND).await?;
        // With a sound downstream whatever was given up can be delivered.
        let given_up = operator.dead_letters(WEBHOOK).await?.len();
        if given_up > 0 {
            replay_all(operator.clone(), self.ledger.clone()).await?.context("the host did not answer a replay")?;
            self.scene.settled(WEBHOOK, DRAIN_BOUND).await?;
            self.met.replayed += 1;
            self.met.letters += given_up as u64;
        }
        for letter in operator.dead_letters(WEBHOOK).await? {
            self.found.lost.push(format!("{} stays a dead letter: {}", letter.event_id, letter.message()));
        }
        let Findings { mut lost, mut torn } = examine(&operator, webhook, &self.ledger, &Before::default()).await?;
        let duplicates = webhook.deliveries().values().map(|delivery| delivery.times - 1).sum();
        self.stop_host().await?;
        torn.extend(check_store(&self.scene.folder).await?);
        lost.append(&mut self.found.lost);
        torn.append(&mut self.found.torn);
        for (kind, findings) in [("LOST", &lost), ("TORN", &torn)] {
            for finding in findings.iter().take(TOLD) {
                tell(format!("{kind} {finding}"));
            }
        }
        self.figures.acked = self.ledger.acknowledged().len() as u64;
        self.figures.lost = lost.len() as u64;
        self.figures.torn = torn.len() as u64;
        self.figures.duplicates = duplicates;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_kill_in_five_hits_a_start() {
        for seed in 0..20 {
            let kills = schedule(50, &mut Rng::with_seed(seed));
            assert_eq!(kills.len(), 50);
            assert_eq!(kills.iter().filter(|kill| **kill == Kill::Start).count(), 5, "seed {seed}");
            assert_eq!(kills.iter().filter(|kill| **kill == Kill::FirstStart).count(), 5, "seed {seed}");
        }
        assert_eq!(schedule(3, &mut Rng::with_seed(1)).len(), 3);
    }

    #[test]
    fn the_closing_line_has_its_figures_in_order() {
        let figures = Figures { rounds: 50, acked: 1234, lost: 0, torn: 0, unopenable: 0, duplicates: 7 };
        assert!(figures.holds());
        assert_eq!(figures.to_string(), "rounds 50, acked 1234, lost 0, torn 0, unopenable 0, duplicates 7");
        assert!(!Figures { lost: 1, ..figures.clone() }.holds());
        assert!(!Figures { torn: 1, ..figures.clone() }.holds());
        assert!(!Figures { unopenable: 1, ..figures }.holds());
    }
}
