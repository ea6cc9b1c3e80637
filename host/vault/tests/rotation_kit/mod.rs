//! A store with two sites, a vault over it, and stores that are cut off.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, dead_code)]

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use sgen_audit::{Action, Actor, AuditLog, Draft};
use sgen_model::{
    CredentialRef, Environment, InstanceId, Place, SecretBytes, SiteId, SlotName, SystemClock, SystemEntropy, Timestamp,
};
use sgen_store::{BackupSummary, Commit, Entry, Keyspace, MemoryStore, Store, StoreError, Ticket};
use sgen_vault::{
    KeyChange, KeyRecord, KeyStatus, Numbering, OuterKey, OuterKeys, Rotation, SealContext, Shelf, Vault, VaultError,
};
use tokio::sync::watch;

pub(crate) const INSTANCE: &str = "crm";

pub(crate) fn site(name: &str) -> SiteId {
    SiteId::parse(name).unwrap()
}

pub(crate) fn environment() -> Environment {
    Environment::parse("live").unwrap()
}

pub(crate) fn place(name: &str) -> Place {
    Place::new(site(name), environment())
}

pub(crate) fn slot() -> SlotName {
    SlotName::parse("token").unwrap()
}

/// Where the records of a site are, as the delivery room has them.
pub(crate) fn shelves(name: &str) -> Vec<Shelf> {
    let shelf = |keyspace, prefix: String, kind, id: String, numbering| Shelf {
        keyspace,
        prefix: prefix.into_bytes(),
        environment: environment(),
        kind,
        id,
        numbering,
    };
    let id = format!("{name}-{INSTANCE}");
    vec![
        shelf(Keyspace::Log, format!("{name}/live/"), "event", String::new(), Numbering::Last),
        shelf(Keyspace::Dead, format!("{id}/"), "dead-letter", id.clone(), Numbering::Last),
        shelf(Keyspace::Journal, format!("{id}/"), "integration-log", id, Numbering::BeforeLast),
    ]
}

/// Which outer keys a vault is opened with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Keys {
    pub(crate) present: u8,
    pub(crate) previous: Option<u8>,
}

impl Keys {
    pub(crate) const OLD: Self = Self { present: 1, previous: None };
    pub(crate) const BOTH: Self = Self { present: 2, previous: Some(1) };
    pub(crate) const NEW: Self = Self { present: 2, previous: None };

    fn given(self) -> OuterKeys {
        let key = |byte| OuterKey::from_bytes([byte; 32]);
        OuterKeys::new(key(self.present), self.previous.map(key))
    }
}

/// The status of a store that is not open.
pub(crate) async fn look(store: &Arc<MemoryStore>, keys: Keys) -> KeyStatus {
    let entropy = Arc::new(SystemEntropy::default());
    Vault::look(store.clone(), keys.given(), "dev", entropy, &mut |_| ()).await.unwrap()
}

pub(crate) struct House {
    pub(crate) vault: Arc<Vault>,
    pub(crate) rotation: Rotation,
    store: Arc<dyn Store>,
    audit: Arc<AuditLog>,
    record: Arc<Recorded>,
    late: Mutex<BTreeMap<u64, Vec<u8>>>,
}

struct Recorded {
    audit: Arc<AuditLog>,
    changes: Mutex<Vec<KeyChange>>,
}

impl KeyRecord for Recorded {
    fn submit(&self, change: KeyChange, commit: Commit) -> Result<Ticket, VaultError> {
        let draft = Draft {
            environment: None,
            actor: Actor::Platform,
            instance: None,
            connector: None,
            catalog_version: None,
            component_digest: None,
            action: Action::AccessDenied { what: format!("{change:?}") },
        };
        self.changes.lock().unwrap().push(change);
        self.audit.append(&site("platform"), vec![draft], commit).map_err(|e| VaultError::Unrecorded(e.to_string()))
    }
}

impl House {
    /// A store under the first outer key: two sites, thirty records of each kind, a credential each.
    pub(crate) async fn furnished() -> Arc<MemoryStore> {
        let store = Arc::new(MemoryStore::new());
        let house = Self::open(store.clone(), Keys::OLD).await.unwrap();
        for name in ["acme", "other"] {
            let mut commit = Commit::new();
            house.vault.create_site(&site(name), &mut commit).unwrap();
            let secret = SecretBytes::from(format!("the-secret-of-{name}"));
            let instance = InstanceId::parse(INSTANCE).unwrap();
            house
                .vault
                .seal_credential(&place(name), &instance, &slot(), 1, secret, Timestamp(5), &mut commit)
                .unwrap();
            house.vault.seal_grant(&place(name), &instance, &slot(), 7, granted(name).as_bytes(), &mut commit).unwrap();
            store.submit(commit).await.unwrap();
            for number in 1..=30 {
                house.write(name, number).await.unwrap();
            }
        }
        store
    }

    pub(crate) async fn open(store: Arc<impl Store>, keys: Keys) -> Result<Self, VaultError> {
        let store: Arc<dyn Store> = store;
        let entropy = Arc::new(SystemEntropy::default());
        let vault = Vault::open(store.clone(), keys.given(), "dev", entropy).await?;
        let audit = AuditLog::new(store.clone(), Arc::new(SystemClock)).unwrap();
        let record = Arc::new(Recorded { audit: audit.clone(), changes: Mutex::default() });
        let rotation = Rotation::new(vault.clone(), record.clone());
        Ok(Self { vault, rotation, store, audit, record, late: Mutex::default() })
    }

    /// Writes the records of one number, one on each shelf.
    pub(crate) async fn write(&self, name: &str, number: u64) -> Result<(), VaultError> {
        let key = self.vault.site(&site(name))?.expect("the site has a key");
        let mut commit = Commit::new();
        for shelf in shelves(name) {
            let sealed = key.seal(&context(&shelf, number), content(name, number).as_bytes())?;
            commit.put(shelf.keyspace, at(&shelf, number), sealed);
        }
        self.store.submit(commit).await?;
        // A record that was sealed just before, and is committed only now.
        let shelf = shelves(name).remove(0);
        let late = key.seal(&context(&shelf, number + 1), content(name, number + 1).as_bytes())?;
        self.late.lock().unwrap().insert(number + 1, late);
        Ok(())
    }

    /// Commits what was sealed together with the record before it.
    pub(crate) fn seal_late(&self, name: &str, number: u64) {
        let key = self.vault.site(&site(name)).unwrap().unwrap();
        let sealed = self.late.lock().unwrap().remove(&number).unwrap();
        let mut commit = Commit::new();
        for (at_shelf, shelf) in shelves(name).iter().enumerate() {
            let sealed = match at_shelf {
                0 => sealed.clone(),
                _ => key.seal(&context(shelf, number), content(name, number).as_bytes()).unwrap(),
            };
            commit.put(shelf.keyspace, at(shelf, number), sealed);
        }
        self.store.submit(commit).wait().unwrap();
    }

    pub(crate) async fn delete(&self, name: &str, number: u64) {
        let mut commit = Commit::new();
        for shelf in shelves(name) {
            commit.delete(shelf.keyspace, at(&shelf, number));
        }
        self.store.submit(commit).await.unwrap();
    }

    pub(crate) fn assert_readable(&self, name: &str, last: u64) {
        (1..=last).for_each(|number| self.assert_record(name, number));
        self.assert_credential(name);
    }

    pub(crate) fn assert_record(&self, name: &str, number: u64) {
        let key = self.vault.site(&site(name)).unwrap().unwrap();
        for shelf in shelves(name) {
            let record = self.store.get(shelf.keyspace, &at(&shelf, number)).unwrap().expect("a record is gone");
            let plain = key.open(&context(&shelf, number), &record).unwrap();
            assert_eq!(plain, content(name, number).as_bytes());
        }
    }

    pub(crate) fn assert_credential(&self, name: &str) {
        let reference = CredentialRef { version: 1, fingerprint: String::new(), set_at: Timestamp(5), shared: None };
        let slots = BTreeMap::from([(slot(), reference)]);
        let opened = self.vault.credentials(&place(name), &InstanceId::parse(INSTANCE).unwrap(), &slots).unwrap();
        let expected = format!("the-secret-of-{name}");
        assert_eq!(opened.get(&slot()).unwrap().current().expose(), expected.as_bytes());
        let kept = self.vault.grant(&place(name), &InstanceId::parse(INSTANCE).unwrap(), &slot()).unwrap().unwrap();
        assert_eq!((kept.version, kept.granted.as_slice()), (7, granted(name).as_bytes()));
    }

    pub(crate) fn audit_is_whole(&self) {
        let found = self.audit.verify(&site("platform")).unwrap();
        assert!(found.records > 0);
    }

    pub(crate) fn changes(&self) -> Vec<KeyChange> {
        self.record.changes.lock().unwrap().clone()
    }
}

fn granted(name: &str) -> String {
    format!("what-was-granted-to-{name}")
}

fn context(shelf: &Shelf, number: u64) -> SealContext<'_> {
    SealContext { environment: &shelf.environment, kind: shelf.kind, id: &shelf.id, version: number }
}

fn at(shelf: &Shelf, number: u64) -> Vec<u8> {
    let mut key = shelf.prefix.clone();
    key.extend_from_slice(&number.to_be_bytes());
    if shelf.numbering == Numbering::BeforeLast {
        key.extend_from_slice(&7_u64.to_be_bytes());
    }
    key
}

fn content(name: &str, number: u64) -> String {
    format!("what {name} captured as number {number}")
}

/// A store that does something before a commit.
pub(crate) struct Interrupted {
    store: Arc<MemoryStore>,
    /// So many commits are taken; the next one fails, and all after it.
    left: AtomicU64,
    failed: MemoryStore,
    /// What is deleted just before a commit takes effect.
    deleting: Option<(Keyspace, Vec<u8>)>,
}

impl Interrupted {
    pub(crate) fn after(store: &Arc<MemoryStore>, commits: u64) -> Arc<Self> {
        Self::over(store, commits, None)
    }

    pub(crate) fn deleting(store: &Arc<MemoryStore>, keyspace: Keyspace, prefix: &[u8]) -> Arc<Self> {
        Self::over(store, u64::MAX, Some((keyspace, prefix.to_vec())))
    }

    fn over(store: &Arc<MemoryStore>, left: u64, deleting: Option<(Keyspace, Vec<u8>)>) -> Arc<Self> {
        let failed = MemoryStore::new();
        failed.fail("the host was killed");
        Arc::new(Self { store: store.clone(), left: AtomicU64::new(left), failed, deleting })
    }
}

impl Store for Interrupted {
    fn submit(&self, commit: Commit) -> Ticket {
        if self.left.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(1)).is_err() {
            return self.failed.submit(commit);
        }
        if let Some((keyspace, prefix)) = &self.deleting {
            let mut deletion = Commit::new();
            for (key, _) in self.store.scan(*keyspace, b"", prefix, usize::MAX).unwrap() {
                deletion.delete(*keyspace, key);
            }
            self.store.submit(deletion).wait().unwrap();
        }
        self.store.submit(commit)
    }

    fn get(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.store.get(keyspace, key)
    }

    fn scan(&self, keyspace: Keyspace, from: &[u8], prefix: &[u8], limit: usize) -> Result<Vec<Entry>, StoreError> {
        self.store.scan(keyspace, from, prefix, limit)
    }

    fn scan_back(
        &self,
        keyspace: Keyspace,
        before: &[u8],
        prefix: &[u8],
        limit: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        self.store.scan_back(keyspace, before, prefix, limit)
    }

    fn export(&self, sink: &mut dyn Write) -> Result<u64, StoreError> {
        self.store.export(sink)
    }

    fn backup(&self, sink: &mut dyn Write, created: Timestamp) -> Result<BackupSummary, StoreError> {
        self.store.backup(sink, created)
    }

    fn failure(&self) -> watch::Receiver<Option<String>> {
        self.store.failure()
    }
}
