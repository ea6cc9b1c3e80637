//! What a host under load is asked for until it is killed: events, changes of the title, a rotation, a replay.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Result, bail};
use fastrand::Rng;
use serde_json::{Value, json};

use crate::client::{CallError, Client};
use crate::fakes::webhook::Secret;
use crate::proofs::ledger::{Ledger, event};
use crate::scene::{LIVE, SITE, WEBHOOK};
use crate::wait::eventually;

/// No life lasts as long.
const LIFE_BOUND: Duration = Duration::from_secs(60);

/// How long a sender waits before each event once the life has had its share.
const PACE: Duration = Duration::from_millis(10);

/// How many more events may be posted at full speed, shared by a life's senders. The instance delivers no faster than its
/// connector's rate: without a bound the last life would have to deliver for as long as all others have lasted.
pub(super) struct Room(AtomicU64);

impl Room {
    pub(super) fn new(events: u64) -> Self {
        Self(AtomicU64::new(events))
    }

    /// Takes room for so many events; false when there is not as much.
    fn take(&self, events: u64) -> bool {
        self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(events)).is_ok()
    }
}

/// One sender of events.
pub(super) struct Sender {
    pub(super) ingest: Client,
    pub(super) ledger: Arc<Ledger>,
    pub(super) ended: Arc<AtomicBool>,
    pub(super) number: Arc<AtomicU64>,
    pub(super) room: Arc<Room>,
    pub(super) rng: Rng,
    pub(super) round: u64,
}

impl Sender {
    /// Posts until the host is gone, `repeats` first; answers the requests that got no answer.
    pub(super) async fn run(mut self, mut repeats: Vec<Value>) -> Result<Vec<Value>> {
        let mut unanswered = Vec::new();
        while !self.ended.load(Ordering::SeqCst) {
            let request = match repeats.pop() {
                Some(request) => request,
                None => self.request().await,
            };
            let ids: Vec<String> = request
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|event| event.get("id").and_then(Value::as_str).map(str::to_owned))
                .collect();
            match self.ingest.post_events(SITE, LIVE, &request).await {
                Ok(_) => self.ledger.note(ids, true)?,
                Err(error) if error.problem().is_some_and(|problem| problem.status < 429) => {
                    bail!("the host refused a valid request: {error}")
                }
                Err(_) => {
                    self.ledger.note(ids, false)?;
                    unanswered.push(request);
                    if !self.ended.load(Ordering::SeqCst) {
                        // The host is gone and this sender is about to hear of it.
                        tokio::task::yield_now().await;
                    }
                    break;
                }
            }
        }
        unanswered.extend(repeats);
        Ok(unanswered)
    }

    async fn request(&mut self) -> Value {
        let mut size = if self.rng.bool() { 1 } else { self.rng.usize(2..20) };
        if !self.room.take(size as u64) {
            tokio::time::sleep(PACE).await;
            size = 1;
        }
        let events: Vec<Value> = (0..size)
            .map(|_| {
                let number = self.number.fetch_add(1, Ordering::SeqCst);
                let id = format!("r{}-{number}", self.round);
                // Most events are small; some are larger than one value of the store.
                let length =
                    if self.rng.u8(0..20) == 0 { self.rng.usize(4_000..20_000) } else { self.rng.usize(0..400) };
                let padding: String = (0..length).map(|_| self.rng.alphanumeric()).collect();
                event(&id, &padding)
            })
            .collect();
        Value::from(events)
    }
}

/// Changes the instance's title until the host is gone.
pub(super) async fn change_titles(
    operator: Client,
    ledger: Arc<Ledger>,
    ended: Arc<AtomicBool>,
    round: u64,
) -> Result<()> {
    for number in 0_u64.. {
        if ended.load(Ordering::SeqCst) {
            break;
        }
        let title = format!("title {round}.{number}");
        match operator.change(WEBHOOK, &json!({ "title": title })).await {
            Ok(_) => ledger.note_title(title)?,
            Err(error) if error.problem().is_some_and(|problem| problem.status < 429) => {
                bail!("the host refused a valid change: {error}")
            }
            Err(_) => break,
        }
    }
    Ok(())
}

/// A rotation that the operator has to make: the downstream believes another secret by now.
#[derive(Clone)]
pub(super) struct Rotation {
    /// The secret that is believed.
    pub(super) secret: Secret,
    /// It was asked for and not answered: it may have been made.
    pub(super) asked: bool,
}

/// How far the operator got before the host was gone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Mended {
    /// The lane was seen paused for the credential.
    pub(super) paused: bool,
    /// The rotation was asked for.
    pub(super) asked: bool,
    /// The rotation was acknowledged.
    pub(super) rotated: bool,
}

/// Waits until the lane is paused, as an operator does, and rotates.
pub(super) async fn rotate_when_paused(operator: Client, ledger: Arc<Ledger>, rotation: Rotation) -> Result<Mended> {
    let mut mended = Mended::default();
    if !rotation.asked {
        let paused = eventually("the pause", LIFE_BOUND, || async {
            let status = operator.status(WEBHOOK).await?;
            let class = status.0.pointer("/failure/class").and_then(Value::as_str);
            Ok((status.state() == "paused" && class == Some("auth-revoked")).then_some(()))
        })
        .await;
        if let Err(error) = paused {
            // A host that is gone ends the wait; one that never pauses would end the proof.
            return if error.downcast_ref::<CallError>().is_some() { Ok(mended) } else { Err(error) };
        }
        mended.paused = true;
    }
    mended.asked = true;
    mended.rotated = rotate(&operator, &ledger, &rotation.secret).await?;
    Ok(mended)
}

/// Rotates; answers whether that was acknowledged.
pub(super) async fn rotate(operator: &Client, ledger: &Ledger, secret: &Secret) -> Result<bool> {
    match operator.rotate(WEBHOOK, "secret", secret.text()).await {
        Ok(view) => {
            let Some(version) = view.get("version").and_then(Value::as_u64) else {
                bail!("the rotation was answered without a version: {view}")
            };
            ledger.note_rotation(version)?;
            Ok(true)
        }
        Err(error) if error.problem().is_some_and(|problem| problem.status < 429) => {
            bail!("the host refused a valid rotation: {error}")
        }
        Err(_) => Ok(false),
    }
}

/// Replays every dead letter that there is; answers how many, once that is acknowledged.
pub(super) async fn replay_all(operator: Client, ledger: Arc<Ledger>) -> Result<Option<u64>> {
    match operator.replay(WEBHOOK, &json!({ "all": true })).await {
        Ok(begun) => {
            let Some(count) = begun.pointer("/matched/count").and_then(Value::as_u64) else {
                bail!("the replay was answered without a count: {begun}")
            };
            ledger.note_replay()?;
            Ok(Some(count))
        }
        // There is none to replay, or as many replays are under way as an instance may have.
        Err(error) if error.problem().is_some_and(|problem| matches!(problem.status, 404 | 409)) => Ok(None),
        Err(error) if error.problem().is_some_and(|problem| problem.status < 429) => {
            bail!("the host refused a valid replay: {error}")
        }
        Err(_) => Ok(None),
    }
}
