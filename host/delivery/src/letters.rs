//! Dead letters: listed, inspected, replayed, discarded.

use std::sync::Arc;

use serde::Serialize;
use sgen_audit::Actor;
use sgen_model::{InstanceId, Sequence};
use sgen_store::Keyspace;

use crate::error::DeliveryError;
use crate::inspect::TraceAttempt;
use crate::jobs::{Job, JobKind, Selection};
use crate::keys;
use crate::lane::{Answer, OrderKind};
use crate::records::{DeadLetter, Sealed};
use crate::runtime::{PAGE, Runtime};

/// A dead letter with everything that is known of it.
#[derive(Debug, Clone, Serialize)]
pub struct LetterDetail {
    /// The letter; its `fields` are the mapped request.
    #[serde(flatten)]
    pub letter: DeadLetter,
    /// Every attempt, with the downstream's response.
    pub tried: Vec<TraceAttempt>,
}

/// How many letters a selection has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Preview {
    /// So many.
    pub count: u64,
    /// The oldest of them.
    pub first: Option<Sequence>,
    /// The newest of them.
    pub last: Option<Sequence>,
}

impl Runtime {
    /// An instance's dead letters, newest position first. `before` is a position to go on from.
    ///
    /// # Errors
    /// [`DeliveryError::UnknownInstance`], the store's or the vault's.
    pub fn dead_letters(
        &self,
        id: &InstanceId,
        selection: &Selection,
        before: Option<Sequence>,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, DeliveryError> {
        let slot = self.slot(id)?;
        let sealer = self.sealer(&slot.record.instance.place)?;
        let prefix = keys::instance_prefix(id);
        let mut upper = before.map(|before| keys::dead(id, before)).unwrap_or_default();
        let mut found = Vec::new();
        loop {
            let page = self.parts.store.scan_back(Keyspace::Dead, &upper, &prefix, PAGE)?;
            let ended = page.len() < PAGE;
            for (key, bytes) in page {
                let letter: DeadLetter =
                    sealer.open(Sealed::Dead, id.as_str(), keys::number(&key).unwrap_or(0), &bytes)?;
                upper = key;
                if selection.admits(&letter) {
                    // The capture has a page of its own.
                    found.push(DeadLetter { event: None, ..letter });
                    if found.len() >= limit {
                        return Ok(found);
                    }
                }
            }
            if ended {
                return Ok(found);
            }
        }
    }

    /// One dead letter with its attempts.
    ///
    /// # Errors
    /// [`DeliveryError::Unknown`] when there is none at this position, and as [`Runtime::dead_letters`].
    pub fn dead_letter(&self, id: &InstanceId, sequence: Sequence) -> Result<LetterDetail, DeliveryError> {
        let slot = self.slot(id)?;
        let sealer = self.sealer(&slot.record.instance.place)?;
        let bytes = self.parts.store.get(Keyspace::Dead, &keys::dead(id, sequence))?;
        let bytes =
            bytes.ok_or_else(|| DeliveryError::Unknown(format!("dead letter at position {sequence} of {id}")))?;
        let letter: DeadLetter = sealer.open(Sealed::Dead, id.as_str(), sequence.0, &bytes)?;
        let tried = self.attempts(id, &sealer, sequence, letter.captured_at)?;
        Ok(LetterDetail { letter: DeadLetter { event: None, ..letter }, tried })
    }

    /// How many letters a replay or a discard would deal with: the dry run.
    ///
    /// # Errors
    /// As [`Runtime::dead_letters`].
    pub async fn preview(self: &Arc<Self>, id: &InstanceId, selection: &Selection) -> Result<Preview, DeliveryError> {
        let (runtime, id, selection) = (self.clone(), id.clone(), selection.clone());
        // A million letters take seconds: off the async threads.
        let counted = tokio::task::spawn_blocking(move || runtime.count(&id, &selection)).await;
        counted.map_err(|_| DeliveryError::Stopping)?
    }

    fn count(&self, id: &InstanceId, selection: &Selection) -> Result<Preview, DeliveryError> {
        let slot = self.slot(id)?;
        let sealer = self.sealer(&slot.record.instance.place)?;
        let mut preview = Preview { count: 0, first: None, last: None };
        let mut from = selection.sequence.map(|sequence| keys::dead(id, sequence)).unwrap_or_default();
        loop {
            let page = self.parts.store.scan(Keyspace::Dead, &from, &keys::instance_prefix(id), PAGE)?;
            let ended = page.len() < PAGE;
            for (key, bytes) in page {
                let sequence = Sequence(keys::number(&key).unwrap_or(0));
                if selection.sequence.is_some_and(|only| sequence > only) {
                    return Ok(preview);
                }
                let letter: DeadLetter = sealer.open(Sealed::Dead, id.as_str(), sequence.0, &bytes)?;
                if selection.admits(&letter) {
                    preview.count = preview.count.saturating_add(1);
                    preview.first.get_or_insert(sequence);
                    preview.last = Some(sequence);
                }
                from = key;
            }
            from.push(0);
            if ended {
                return Ok(preview);
            }
        }
    }

    /// Begins to replay or to discard dead letters; answers the job, which goes on by itself, across restarts too.
    ///
    /// # Errors
    /// [`DeliveryError::Unknown`] when nothing matches, [`DeliveryError::Conflict`] when too many jobs are under way, and
    /// as [`Runtime::dead_letters`].
    pub async fn begin_job(
        self: &Arc<Self>,
        actor: &Actor,
        id: &InstanceId,
        kind: JobKind,
        selection: Selection,
    ) -> Result<(Job, Preview), DeliveryError> {
        let preview = self.preview(id, &selection).await?;
        if preview.count == 0 {
            return Err(DeliveryError::Unknown(format!("dead letter of {id} that matches")));
        }
        let order = OrderKind::Begin { kind, selection, count: preview.count, actor: actor.clone() };
        match self.slot(id)?.lane.order(order).await? {
            Answer::Begun(job) => Ok((job, preview)),
            _ => Err(DeliveryError::Stopping),
        }
    }

    /// Ends a replay or a discard where it is.
    ///
    /// # Errors
    /// [`DeliveryError::Unknown`] when it has ended already.
    pub async fn cancel_job(&self, id: &InstanceId, job: u64) -> Result<(), DeliveryError> {
        match self.slot(id)?.lane.order(OrderKind::Cancel { job }).await? {
            Answer::Unknown => Err(DeliveryError::Unknown(format!("job {job} of {id} under way"))),
            _ => Ok(()),
        }
    }
}
