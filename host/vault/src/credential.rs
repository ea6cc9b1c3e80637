//! Opened credentials, on their way from the vault to the gate. They cannot be printed, serialised or copied.

use std::collections::BTreeMap;
use std::time::Duration;

use sgen_model::{SecretBytes, SlotName, Timestamp};

/// How long the previous secret stays valid beside the current one after a rotation, for schemes whose receiver
/// verifies (signatures): long enough to change the receiver's configuration within a working day.
pub const OVERLAP: Duration = Duration::from_hours(24);

/// One credential, opened.
pub struct Credential {
    version: u32,
    current: SecretBytes,
    previous: Option<Previous>,
}

/// The secret before the last rotation.
pub struct Previous {
    /// The secret.
    pub secret: SecretBytes,
    /// It counts until then.
    pub until: Timestamp,
}

impl Credential {
    /// A credential that was never rotated.
    #[must_use]
    pub fn new(version: u32, current: SecretBytes) -> Self {
        Self { version, current, previous: None }
    }

    /// Adds the secret before the last rotation, which counts until `until`.
    #[must_use]
    pub fn with_previous(mut self, secret: SecretBytes, until: Timestamp) -> Self {
        self.previous = Some(Previous { secret, until });
        self
    }

    /// Counts rotations, from 1.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The secret in force.
    #[must_use]
    pub fn current(&self) -> &SecretBytes {
        &self.current
    }

    /// The secret before the last rotation, if it is kept. Whether it still counts is for the reader's clock to say.
    #[must_use]
    pub fn previous(&self) -> Option<&Previous> {
        self.previous.as_ref()
    }
}

/// The credentials of one connector instance, by slot.
#[derive(Default)]
pub struct Credentials(BTreeMap<SlotName, Credential>);

impl Credentials {
    /// No credentials.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// The credential of a slot.
    #[must_use]
    pub fn get(&self, slot: &SlotName) -> Option<&Credential> {
        self.0.get(slot)
    }

    /// Every credential with its slot.
    pub fn iter(&self) -> impl Iterator<Item = (&SlotName, &Credential)> {
        self.0.iter()
    }
}

impl FromIterator<(SlotName, Credential)> for Credentials {
    fn from_iter<I: IntoIterator<Item = (SlotName, Credential)>>(credentials: I) -> Self {
        Self(credentials.into_iter().collect())
    }
}
