//! The outer keys at hand: the present one wraps, and the one before it still opens while keys are being rewrapped.

use std::sync::Arc;

use sgen_model::Entropy;
use zeroize::Zeroizing;

use crate::envelope::{Bound, Sealer, Unopened, tag_of};
use crate::error::VaultError;
use crate::key::{KEY_BYTES, OuterKey};

/// The outer keys that a host is started with.
pub struct OuterKeys {
    pub(crate) present: OuterKey,
    pub(crate) previous: Option<OuterKey>,
}

impl OuterKeys {
    /// The key to wrap with, and the one before it for as long as anything is wrapped under that one.
    #[must_use]
    pub fn new(present: OuterKey, previous: Option<OuterKey>) -> Self {
        Self { present, previous }
    }
}

impl From<OuterKey> for OuterKeys {
    fn from(present: OuterKey) -> Self {
        Self::new(present, None)
    }
}

/// A key with its bytes, from which keys of one purpose are derived.
pub(crate) struct Wrapper {
    pub(crate) sealer: Sealer,
    pub(crate) bytes: Zeroizing<[u8; KEY_BYTES]>,
}

impl Wrapper {
    fn new(key: OuterKey, deployment: &str, entropy: Arc<dyn Entropy>) -> Result<Self, VaultError> {
        let bytes = key.into_bytes();
        let sealer = Sealer::new(Zeroizing::new(*bytes), deployment, "", entropy)?;
        Ok(Self { sealer, bytes })
    }

    pub(crate) fn id(&self) -> &str {
        self.sealer.key_id()
    }
}

pub(crate) struct Outer {
    pub(crate) present: Wrapper,
    previous: Option<Wrapper>,
}

impl Outer {
    pub(crate) fn new(keys: OuterKeys, deployment: &str, entropy: &Arc<dyn Entropy>) -> Result<Self, VaultError> {
        let wrapper = |key| Wrapper::new(key, deployment, Arc::clone(entropy));
        let present = wrapper(keys.present)?;
        let previous = keys.previous.map(wrapper).transpose()?;
        // The same key given twice is one key.
        let previous = previous.filter(|previous| previous.id() != present.id());
        Ok(Self { present, previous })
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Wrapper> {
        std::iter::once(&self.present).chain(&self.previous)
    }

    pub(crate) fn by_id(&self, id: &str) -> Option<&Wrapper> {
        self.all().find(|wrapper| wrapper.id() == id)
    }

    /// The ids of the keys at hand, for an error.
    pub(crate) fn ids(&self) -> String {
        self.all().map(Wrapper::id).collect::<Vec<_>>().join(" and ")
    }

    /// The key that a record is wrapped under, when it is at hand.
    pub(crate) fn of(&self, record: &[u8]) -> Option<&Wrapper> {
        let tag = tag_of(record)?;
        self.all().find(|wrapper| wrapper.sealer.tag() == tag)
    }

    pub(crate) fn open(&self, bound: Bound<'_>, record: &[u8]) -> Result<Zeroizing<Vec<u8>>, Unopened> {
        let wrapper = self.of(record).ok_or(Unopened::OtherKey)?;
        wrapper.sealer.open(bound, record).map(Zeroizing::new)
    }
}
