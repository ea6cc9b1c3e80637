//! Copying a store that is being written, so that the copy is exactly the store at the moment at which the copying ends.
//!
//! The tree is read in the order of its keys while commits go on, so what is read is of no one moment. From before the
//! first read every commit is also kept in a [`Redo`]; those are put after what was read, the last of them being the last
//! commit before the end. A key that was written meanwhile has its last write there, a key that was not is as it was read.
//!
//! The redo is taken between two pages of the reading. What is read after that is at least as new as what was taken,
//! because a page is read afresh, so the order of the steps is the order in which a copy applies them.

use std::path::Path;
use std::sync::Arc;

use crate::embedded::committer::Queue;
use crate::embedded::record::Reader;
use crate::embedded::redo::Redo;
use crate::error::StoreError;
use crate::keyspace::Keyspace;

/// How much redo gathers before it is taken, in bytes.
const REDO_BYTES: u64 = 32 * 1024 * 1024;

/// One step of a copy. Later steps win.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step<'a> {
    /// An entry as it was read.
    Entry(Keyspace, &'a [u8], &'a [u8]),
    /// A write that was committed meanwhile; without a value it deletes.
    Redo(Keyspace, &'a [u8], Option<&'a [u8]>),
}

/// A copy that is being made. Dropping it ends the redo.
pub(super) struct Copy {
    pub(super) redo: Arc<Redo>,
}

impl Copy {
    /// Begins the redo. Its files are made in `folder`.
    pub(super) fn begin(queue: &Queue, folder: &Path) -> Result<Self, StoreError> {
        let redo = Redo::new(folder)
            .map_err(|e| StoreError::Backup(format!("no place to keep the commits made meanwhile: {e}")))?;
        let redo = Arc::new(redo);
        queue.begin(&redo)?;
        Ok(Self { redo })
    }

    /// Reads every entry.
    pub(super) fn read(
        &self,
        reader: &Reader,
        step: &mut dyn FnMut(Step<'_>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let step = std::cell::RefCell::new(step);
        for keyspace in Keyspace::ALL {
            reader.pages(
                keyspace,
                |key, value| (step.borrow_mut())(Step::Entry(keyspace, key, value)),
                || if self.redo.bytes() >= REDO_BYTES { self.catch_up(*step.borrow_mut()) } else { Ok(()) },
            )?;
        }
        Ok(())
    }

    /// Takes the redo that has gathered.
    pub(super) fn catch_up(&self, step: &mut dyn FnMut(Step<'_>) -> Result<(), StoreError>) -> Result<(), StoreError> {
        self.redo.take(|keyspace, key, value| step(Step::Redo(keyspace, key, value))).map(drop)
    }
}
