//! Sealing records anew under the present data key, page by page, while others write.
//!
//! A record is exchanged only for the very one that was read, so nothing that was changed or deleted meanwhile comes back,
//! and what a kill leaves undone is found again by the next pass.

use std::collections::HashMap;

use serde::Serialize;
use sgen_model::{Environment, InstanceId, Place, SiteId, SlotName};
use sgen_store::{Commit, Keyspace, Ticket};
use zeroize::Zeroizing;

use crate::credentials::CredentialPlace;
use crate::data_key::{DataKey, SealContext};
use crate::envelope::{KEY_TAG, tag_of};
use crate::error::VaultError;
use crate::grants::GRANT;
use crate::owner::KeyOwner;
use crate::vault::Vault;

/// How many records are read at a time.
const PAGE: usize = 64;
/// The bytes after which a page ends, so that a commit stays small.
const PAGE_BYTES: usize = 1024 * 1024;
/// How many records are counted at a time.
const COUNTED: usize = 1024;

/// Sealed records that lie together, and what each is bound to.
#[derive(Debug, Clone)]
pub struct Shelf {
    /// Where.
    pub keyspace: Keyspace,
    /// What their keys begin with.
    pub prefix: Vec<u8>,
    /// The environment they belong to.
    pub environment: Environment,
    /// The kind they were sealed as.
    pub kind: &'static str,
    /// The id they were sealed with.
    pub id: String,
    /// Where in the key the number is that they were sealed with.
    pub numbering: Numbering,
}

/// Where in a record's key its number is: 8 bytes, big-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Numbering {
    /// At the end.
    Last,
    /// Before another number that ends the key.
    BeforeLast,
}

impl Numbering {
    fn number(self, key: &[u8]) -> Option<u64> {
        let end = match self {
            Self::Last => key.len(),
            Self::BeforeLast => key.len().checked_sub(8)?,
        };
        key.get(..end)?.last_chunk::<8>().map(|bytes| u64::from_be_bytes(*bytes))
    }
}

/// How far sealing anew is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Resealed {
    /// Records looked at.
    pub looked_at: u64,
    /// Records sealed anew.
    pub resealed: u64,
    /// Records under an older key that do not open: they are damaged, and that key is kept.
    pub unreadable: u64,
}

impl Resealed {
    pub(crate) fn add(&mut self, other: Self) {
        self.looked_at = self.looked_at.saturating_add(other.looked_at);
        self.resealed = self.resealed.saturating_add(other.resealed);
        self.unreadable = self.unreadable.saturating_add(other.unreadable);
    }
}

/// One page that was sealed anew.
pub(crate) struct Page {
    pub(crate) done: Resealed,
    /// The commit under way, when there was anything to seal anew.
    pub(crate) ticket: Option<Ticket>,
    /// Where the next page begins; nothing after the last.
    pub(crate) next: Option<Vec<u8>>,
}

impl Vault {
    /// Seals the records of a page anew that are under an older key.
    pub(crate) fn reseal_page(&self, key: &DataKey, shelf: &Shelf, from: &[u8]) -> Result<Page, VaultError> {
        self.page(key, shelf.keyspace, &shelf.prefix, from, |at, record| {
            let Some(version) = shelf.numbering.number(at) else { return Ok(None) };
            let context = SealContext { environment: &shelf.environment, kind: shelf.kind, id: &shelf.id, version };
            let Ok(plain) = key.open(&context, record).map(Zeroizing::new) else { return Ok(None) };
            key.seal(&context, &plain).map(Some)
        })
    }

    /// The same for the credentials of the owner.
    pub(crate) fn reseal_credentials(&self, key: &DataKey, from: &[u8]) -> Result<Page, VaultError> {
        let site = match key.owner() {
            KeyOwner::Site(site) => site,
            KeyOwner::Account(account) => return self.reseal_shared(key, account, from),
        };
        self.page(key, Keyspace::Credential, format!("{site}/").as_bytes(), from, |at, record| {
            let Some((place, instance, slot, last)) = credential_of(site, at) else { return Ok(None) };
            let at = CredentialPlace { place: &place, instance: &instance, slot: &slot };
            if last == GRANT {
                return at.reseal_grant(key, record);
            }
            let Ok(version) = last.parse() else { return Ok(None) };
            let plain = at.with_bound(version, |bound| key.open_bound(bound, record));
            let Ok(plain) = plain.map(Zeroizing::new) else { return Ok(None) };
            at.with_bound(version, |bound| key.seal_bound(bound, &plain)).map(Some)
        })
    }

    pub(crate) fn page(
        &self,
        key: &DataKey,
        keyspace: Keyspace,
        prefix: &[u8],
        from: &[u8],
        reseal: impl Fn(&[u8], &[u8]) -> Result<Option<Vec<u8>>, VaultError>,
    ) -> Result<Page, VaultError> {
        let entries = self.store.scan(keyspace, from, prefix, PAGE)?;
        let full = entries.len() == PAGE;
        let (mut done, mut commit, mut bytes) = (Resealed::default(), Commit::new(), 0_usize);
        let (mut next, mut cut) = (None, false);
        for (at, record) in entries {
            if bytes >= PAGE_BYTES {
                cut = true;
                break;
            }
            let mut after = at.clone();
            after.push(0);
            next = Some(after);
            done.looked_at = done.looked_at.saturating_add(1);
            if !key.is_older(&record) {
                continue;
            }
            match reseal(&at, &record)? {
                Some(fresh) => {
                    bytes = bytes.saturating_add(fresh.len());
                    done.resealed = done.resealed.saturating_add(1);
                    commit.exchange(keyspace, at, record, fresh);
                }
                None => done.unreadable = done.unreadable.saturating_add(1),
            }
        }
        let ticket = (!commit.is_empty()).then(|| self.store.submit(commit));
        Ok(Page { done, ticket, next: next.filter(|_| full || cut) })
    }

    /// Counts the sealed records of the whole store by the tag of their key, wherever they are: what a key is needed for
    /// does not depend on anybody's list of places. `told` gets the records looked at so far.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn census(&self, told: &mut (dyn FnMut(u64) + Send)) -> Result<Census, VaultError> {
        let (mut census, mut looked_at) = (Census::default(), 0_u64);
        for keyspace in Keyspace::ALL.into_iter().filter(|keyspace| *keyspace != Keyspace::Key) {
            let mut from = Vec::new();
            loop {
                let page = self.store.scan(keyspace, &from, b"", COUNTED)?;
                let Some((last, _)) = page.last() else { break };
                from.clone_from(last);
                from.push(0);
                looked_at = looked_at.saturating_add(page.len() as u64);
                for tag in page.iter().filter_map(|(_, record)| tag_of(record)) {
                    let count = census.0.entry(tag).or_default();
                    *count = count.saturating_add(1);
                }
                told(looked_at);
                // A large store is read between other work.
                tokio::task::yield_now().await;
            }
        }
        Ok(census)
    }
}

/// How many records there are under each key.
#[derive(Default)]
pub(crate) struct Census(HashMap<[u8; KEY_TAG], u64>);

impl Census {
    pub(crate) fn under(&self, tag: [u8; KEY_TAG]) -> u64 {
        self.0.get(&tag).copied().unwrap_or(0)
    }
}

/// `SITE/ENVIRONMENT/INSTANCE/SLOT/LAST`, where the last is a version or [`GRANT`].
fn credential_of<'a>(site: &SiteId, key: &'a [u8]) -> Option<(Place, InstanceId, SlotName, &'a str)> {
    let text = std::str::from_utf8(key).ok()?;
    let mut parts = text.split('/').skip(1);
    let environment = Environment::parse(parts.next()?).ok()?;
    let instance = InstanceId::parse(parts.next()?).ok()?;
    let slot = SlotName::parse(parts.next()?).ok()?;
    Some((Place::new(site.clone(), environment), instance, slot, parts.next()?))
}
