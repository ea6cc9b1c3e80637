//! The vault over a store: what survives, what is refused, what is gone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sgen_model::{
    CredentialRef, Environment, InstanceId, Place, SecretBytes, SharedRef, SiteId, SlotName, SystemEntropy, Timestamp,
};
use sgen_store::{Commit, Keyspace, MemoryStore, Store};
use sgen_vault::{OVERLAP, OuterKey, SealContext, Vault, VaultError};

const NOW: Timestamp = Timestamp(1_795_460_400_000);

fn site(name: &str) -> SiteId {
    SiteId::parse(name).unwrap()
}

fn place(name: &str) -> Place {
    Place::new(site(name), Environment::parse("live").unwrap())
}

fn instance(name: &str) -> InstanceId {
    InstanceId::parse(name).unwrap()
}

fn slot(name: &str) -> SlotName {
    SlotName::parse(name).unwrap()
}

fn secret(text: &str) -> SecretBytes {
    SecretBytes::from(text.to_owned())
}

async fn open(store: &Arc<MemoryStore>, key: u8, deployment: &str) -> Result<Arc<Vault>, VaultError> {
    let store: Arc<dyn Store> = store.clone();
    Vault::open(store, OuterKey::from_bytes([key; 32]), deployment, Arc::new(SystemEntropy::default())).await
}

async fn refusal(store: &Arc<MemoryStore>, key: u8, deployment: &str) -> VaultError {
    match open(store, key, deployment).await {
        Ok(_) => panic!("the vault opened"),
        Err(error) => error,
    }
}

/// A store with a site and the credential `crm-1/token`.
async fn furnished() -> (Arc<MemoryStore>, Arc<Vault>, BTreeMap<SlotName, CredentialRef>) {
    let store = Arc::new(MemoryStore::new());
    let vault = open(&store, 1, "dev").await.unwrap();
    let mut commit = Commit::new();
    vault.create_site(&site("acme"), &mut commit).unwrap();
    let reference = seal(&vault, "crm-1", "token", 1, "the-first-secret", NOW, &mut commit);
    store.submit(commit).await.unwrap();
    (store, vault, BTreeMap::from([(slot("token"), reference)]))
}

fn seal(
    vault: &Vault,
    id: &str,
    name: &str,
    version: u32,
    text: &str,
    now: Timestamp,
    commit: &mut Commit,
) -> CredentialRef {
    vault.seal_credential(&place("acme"), &instance(id), &slot(name), version, secret(text), now, commit).unwrap()
}

#[tokio::test]
async fn what_is_sealed_opens_after_a_restart() {
    let (store, vault, slots) = furnished().await;
    let environment = Environment::parse("live").unwrap();
    let context = SealContext { environment: &environment, kind: "event", id: "7", version: 1 };
    let record = vault.site(&site("acme")).unwrap().unwrap().seal(&context, b"a capture").unwrap();
    drop(vault);
    let vault = open(&store, 1, "dev").await.unwrap();
    let key = vault.site(&site("acme")).unwrap().unwrap();
    assert_eq!(key.open(&context, &record).unwrap(), b"a capture");
    let moved = SealContext { id: "8", ..context };
    assert!(matches!(key.open(&moved, &record), Err(VaultError::Unopenable { .. })));
    let credentials = vault.credentials(&place("acme"), &instance("crm-1"), &slots).unwrap();
    let token = credentials.get(&slot("token")).unwrap();
    assert_eq!(token.current().expose(), b"the-first-secret");
    assert!(token.previous().is_none());
}

#[tokio::test]
async fn the_store_holds_no_secret_and_no_key_in_plain() {
    let (store, _, _) = furnished().await;
    let mut dump = Vec::new();
    store.export(&mut dump).unwrap();
    let dump = String::from_utf8(dump).unwrap();
    assert!(!dump.contains(&hex::encode("the-first-secret")));
    assert!(!dump.contains(&"01".repeat(32)));
}

#[tokio::test]
async fn a_wrong_key_is_refused_by_name_and_changes_nothing() {
    let (store, vault, _) = furnished().await;
    let before = store.scan(Keyspace::Meta, b"", b"", 10).unwrap();
    let VaultError::WrongKey { expected, found } = refusal(&store, 2, "dev").await else { panic!("another error") };
    assert_eq!(expected, vault.key_id());
    assert_ne!(expected, found);
    assert!(matches!(refusal(&store, 1, "prod").await, VaultError::WrongDeployment { .. }));
    assert_eq!(store.scan(Keyspace::Meta, b"", b"", 10).unwrap(), before);
}

#[tokio::test]
async fn no_key_is_made_over_existing_ciphertext() {
    let (store, _, _) = furnished().await;
    let mut commit = Commit::new();
    for (key, _) in store.scan(Keyspace::Meta, b"", b"", 10).unwrap() {
        commit.delete(Keyspace::Meta, key);
    }
    store.submit(commit).await.unwrap();
    assert!(matches!(refusal(&store, 1, "dev").await, VaultError::KeyCheckMissing));
}

#[tokio::test]
async fn a_damaged_key_check_is_told_from_a_wrong_key() {
    let (store, _, _) = furnished().await;
    let (key, value) = store.scan(Keyspace::Meta, b"", b"", 10).unwrap().remove(0);
    let mut text = String::from_utf8(value).unwrap();
    let last = text.rfind('"').unwrap();
    let digit = if text.as_bytes()[last - 1] == b'0' { "1" } else { "0" };
    text.replace_range(last - 1..last, digit);
    let mut commit = Commit::new();
    commit.put(Keyspace::Meta, key, text);
    store.submit(commit).await.unwrap();
    assert!(matches!(refusal(&store, 1, "dev").await, VaultError::Damaged { .. }));
}

#[tokio::test]
async fn a_site_never_has_two_keys() {
    let store = Arc::new(MemoryStore::new());
    let vault = open(&store, 1, "dev").await.unwrap();
    assert!(vault.site(&site("acme")).unwrap().is_none());
    let (mut dropped, mut first, mut second) = (Commit::new(), Commit::new(), Commit::new());
    let keys = [&mut dropped, &mut first, &mut second].map(|commit| vault.create_site(&site("acme"), commit).unwrap());
    assert!(vault.site(&site("acme")).unwrap().is_none(), "not durable yet");
    assert!(keys.iter().all(|key| key.key_id() == keys[0].key_id()));
    assert_eq!(first, second);
    store.submit(first).await.unwrap();
    assert!(Arc::ptr_eq(&vault.site(&site("acme")).unwrap().unwrap(), &keys[0]));
    let mut nothing = Commit::new();
    vault.create_site(&site("acme"), &mut nothing).unwrap();
    assert!(nothing.is_empty());
    let mut other = Commit::new();
    assert_ne!(vault.create_site(&site("other"), &mut other).unwrap().key_id(), keys[0].key_id());
}

#[tokio::test]
async fn a_destroyed_site_is_unreadable_for_every_holder_and_its_id_is_spent() {
    let (store, vault, slots) = furnished().await;
    let environment = Environment::parse("live").unwrap();
    let context = SealContext { environment: &environment, kind: "event", id: "7", version: 1 };
    let held = vault.site(&site("acme")).unwrap().unwrap();
    let record = held.seal(&context, b"a capture").unwrap();
    let mut commit = Commit::new();
    let turn = vault.turn().await;
    vault.destroy_site(&turn, &site("acme"), &mut commit).unwrap();
    assert!(vault.site(&site("acme")).unwrap().is_none(), "from now on, not from the commit on");
    store.submit(commit).await.unwrap();
    assert!(matches!(held.open(&context, &record), Err(VaultError::SiteDestroyed { .. })));
    assert!(matches!(held.seal(&context, b"x"), Err(VaultError::SiteDestroyed { .. })));
    assert!(store.scan(Keyspace::Credential, b"", b"", 10).unwrap().is_empty());
    for vault in [vault, open(&store, 1, "dev").await.unwrap()] {
        assert!(vault.site(&site("acme")).unwrap().is_none());
        let again = vault.create_site(&site("acme"), &mut Commit::new());
        assert!(matches!(again, Err(VaultError::SiteDestroyed { .. })));
        let opened = vault.credentials(&place("acme"), &instance("crm-1"), &slots);
        assert!(matches!(opened, Err(VaultError::SiteDestroyed { .. })));
    }
}

#[tokio::test]
async fn a_rotation_keeps_the_previous_secret_for_a_day_and_no_older_one() {
    let (store, vault, mut slots) = furnished().await;
    let later = NOW.after(Duration::from_hours(1));
    for (version, text) in [(2, "the-second-secret"), (3, "the-third-secret")] {
        let mut commit = Commit::new();
        slots.insert(slot("token"), seal(&vault, "crm-1", "token", version, text, later, &mut commit));
        store.submit(commit).await.unwrap();
    }
    let credentials = vault.credentials(&place("acme"), &instance("crm-1"), &slots).unwrap();
    let token = credentials.get(&slot("token")).unwrap();
    assert_eq!((token.version(), token.current().expose()), (3, b"the-third-secret".as_slice()));
    let previous = token.previous().unwrap();
    assert_eq!((previous.secret.expose(), previous.until), (b"the-second-secret".as_slice(), later.after(OVERLAP)));
    assert_eq!(store.scan(Keyspace::Credential, b"", b"", 10).unwrap().len(), 2);
}

#[tokio::test]
async fn a_credential_opens_for_its_own_instance_slot_and_version_only() {
    let (store, vault, slots) = furnished().await;
    let (key, value) = store.scan(Keyspace::Credential, b"", b"", 10).unwrap().remove(0);
    let key = String::from_utf8(key).unwrap();
    for (from, to, id, name, version) in [
        ("crm-1", "crm-2", "crm-2", "token", 1),
        ("token", "key", "crm-1", "key", 1),
        ("0000000001", "0000000002", "crm-1", "token", 2),
    ] {
        let mut commit = Commit::new();
        commit.put(Keyspace::Credential, key.replace(from, to), value.clone());
        store.submit(commit).await.unwrap();
        let reference = CredentialRef { version, ..slots[&slot("token")].clone() };
        let opened = vault.credentials(&place("acme"), &instance(id), &BTreeMap::from([(slot(name), reference)]));
        assert!(matches!(opened, Err(VaultError::Unopenable { .. })), "{to}");
    }
    let gone = CredentialRef { version: 9, ..slots[&slot("token")].clone() };
    let opened = vault.credentials(&place("acme"), &instance("crm-1"), &BTreeMap::from([(slot("token"), gone)]));
    assert!(matches!(opened, Err(VaultError::CredentialMissing { version: 9, .. })));
}

#[tokio::test]
async fn deleting_an_instance_leaves_its_neighbours() {
    let (store, vault, slots) = furnished().await;
    let mut commit = Commit::new();
    seal(&vault, "crm-10", "token", 1, "another-secret", NOW, &mut commit);
    store.submit(commit).await.unwrap();
    let mut commit = Commit::new();
    vault.delete_instance(&place("acme"), &instance("crm-1"), &mut commit).unwrap();
    store.submit(commit).await.unwrap();
    assert!(vault.credentials(&place("acme"), &instance("crm-1"), &slots).is_err());
    assert!(vault.credentials(&place("acme"), &instance("crm-10"), &slots).is_ok());
}

#[tokio::test]
async fn a_fingerprint_tells_equal_credentials_and_nothing_else() {
    let (store, vault, slots) = furnished().await;
    let mut commit = Commit::new();
    let same = seal(&vault, "crm-2", "token", 1, "the-first-secret", NOW, &mut commit);
    let other = seal(&vault, "crm-3", "token", 1, "the-other-secret", NOW, &mut commit);
    assert_eq!(same.fingerprint, slots[&slot("token")].fingerprint);
    assert_ne!(other.fingerprint, same.fingerprint);
    assert_eq!(same.fingerprint.len(), 16);
    let of = |purpose: &str, value: &str| vault.fingerprint(purpose, value.as_bytes());
    assert_eq!(of("account", "42"), of("account", "42"));
    assert_ne!(of("account", "42"), of("accoun", "t42"));
    assert_ne!(of("account", "the-first-secret"), same.fingerprint);
    let fresh = Arc::new(MemoryStore::new());
    let elsewhere = open(&fresh, 2, "dev").await.unwrap();
    let mut commit = Commit::new();
    elsewhere.create_site(&site("acme"), &mut commit).unwrap();
    let under_another_key = seal(&elsewhere, "crm-1", "token", 1, "the-first-secret", NOW, &mut commit);
    assert_ne!(under_another_key.fingerprint, same.fingerprint);
    drop(store);
}

#[tokio::test]
async fn credentials_that_cannot_be_scrubbed_or_counted_are_refused() {
    let (_, vault, _) = furnished().await;
    let mut commit = Commit::new();
    let mut refused = |version, length: usize| {
        let secret = SecretBytes::new(vec![b'x'; length]);
        vault.seal_credential(&place("acme"), &instance("a"), &slot("b"), version, secret, NOW, &mut commit).err()
    };
    assert!(matches!(refused(1, 7), Some(VaultError::CredentialLength { length: 7, .. })));
    assert!(matches!(refused(1, 64 * 1024 + 1), Some(VaultError::CredentialLength { .. })));
    assert!(matches!(refused(0, 8), Some(VaultError::CredentialVersion)));
    assert!(refused(1, 8).is_none());
    let unknown = vault.seal_credential(
        &place("nobody"),
        &instance("a"),
        &slot("b"),
        1,
        secret("long enough"),
        NOW,
        &mut Commit::new(),
    );
    assert!(matches!(unknown, Err(VaultError::UnknownSite { .. })));
}

#[tokio::test]
async fn a_shared_credential_opens_for_its_account_and_id_only_and_survives_the_rotation_of_its_key() {
    let (store, vault, _) = furnished().await;
    let shared = |account: &str, id: &str| SharedRef { account: account.parse().unwrap(), id: id.parse().unwrap() };
    let mut given = None;
    for (version, text) in [(1, "the-first-shared"), (2, "the-second-shared"), (3, "the-third-shared")] {
        let mut commit = Commit::new();
        let sealed = vault.seal_shared(&shared("acme", "crm"), version, &secret(text), NOW, &mut commit);
        given = Some(sealed.unwrap());
        store.submit(commit).await.unwrap();
    }
    // One more than the one before, for instances that have not gone over yet.
    let reference = given.unwrap();
    let open = |vault: &Vault, reference: CredentialRef| {
        vault.credentials(&place("acme"), &instance("crm-9"), &BTreeMap::from([(slot("token"), reference)]))
    };
    let before = CredentialRef { version: 2, ..reference.clone() };
    for vault in [vault.clone(), open_again(&store).await] {
        let opened = open(&vault, reference.clone()).unwrap();
        let token = opened.get(&slot("token")).unwrap();
        assert_eq!(token.current().expose(), b"the-third-shared");
        assert_eq!(token.previous().unwrap().secret.expose(), b"the-second-shared");
        let opened = open(&vault, before.clone()).unwrap();
        assert_eq!(opened.get(&slot("token")).unwrap().current().expose(), b"the-second-shared");
        let first = CredentialRef { version: 1, ..reference.clone() };
        assert!(matches!(open(&vault, first), Err(VaultError::CredentialMissing { version: 1, .. })));
    }
    // Another account, or another credential of the account: with its record in the place of the other's.
    let mut commit = Commit::new();
    vault.seal_shared(&shared("other", "crm"), 1, &secret("the-secret-of-other"), NOW, &mut commit).unwrap();
    for (key, value) in store.scan(Keyspace::Credential, b"@acme/", b"@acme/crm/0000000003", 9).unwrap() {
        let key = String::from_utf8(key).unwrap();
        for to in ["@other/crm/0000000003", "@acme/crm2/0000000003", "@acme/crm/0000000004"] {
            commit.put(Keyspace::Credential, key.replace(&key, to), value.clone());
        }
    }
    store.submit(commit).await.unwrap();
    for (of, version) in [(shared("other", "crm"), 3), (shared("acme", "crm2"), 3), (shared("acme", "crm"), 4)] {
        let moved = CredentialRef { version, shared: Some(of), ..reference.clone() };
        assert!(matches!(open(&vault, moved), Err(VaultError::Unopenable { .. })));
    }
    let mut commit = Commit::new();
    let short = vault.seal_shared(&shared("acme", "crm"), 4, &secret("short"), NOW, &mut commit);
    assert!(matches!(short, Err(VaultError::SharedLength { length: 5, .. })));
    vault.delete_shared(&shared("acme", "crm"), &mut commit).unwrap();
    store.submit(commit).await.unwrap();
    assert!(matches!(open(&vault, reference), Err(VaultError::CredentialMissing { .. })));
    assert!(!store.scan(Keyspace::Credential, b"", b"@other/", 9).unwrap().is_empty());
}

async fn open_again(store: &Arc<MemoryStore>) -> Arc<Vault> {
    open(store, 1, "dev").await.unwrap()
}

#[tokio::test]
async fn a_derived_key_depends_on_the_purpose_and_on_the_outer_key() {
    let store = Arc::new(MemoryStore::new());
    let vault = open(&store, 1, "dev").await.unwrap();
    let cache = vault.derive_key("compile cache").unwrap();
    assert_eq!(cache, vault.derive_key("compile cache").unwrap());
    assert_ne!(cache, vault.derive_key("something else").unwrap());
    let elsewhere = open(&Arc::new(MemoryStore::new()), 2, "dev").await.unwrap();
    assert_ne!(cache, elsewhere.derive_key("compile cache").unwrap());
}

#[tokio::test]
async fn what_a_vendor_granted_opens_where_it_belongs_and_is_replaced_whole() {
    let (store, vault, _) = furnished().await;
    let (at, crm, grant) = (place("acme"), instance("crm-1"), slot("grant"));
    assert!(vault.grant(&at, &crm, &grant).unwrap().is_none());
    for (version, granted) in [(1, "the-first-refresh-token"), (2, "the-second-refresh-token")] {
        let mut commit = Commit::new();
        vault.seal_grant(&at, &crm, &grant, version, granted.as_bytes(), &mut commit).unwrap();
        store.submit(commit).await.unwrap();
        let kept = vault.grant(&at, &crm, &grant).unwrap().unwrap();
        assert_eq!((kept.version, kept.granted.as_slice()), (version, granted.as_bytes()));
    }
    let records = store.scan(Keyspace::Credential, b"", b"acme/live/crm-1/grant/", 10).unwrap();
    assert_eq!(records.len(), 1);
    assert!(!records[0].1.windows(7).any(|window| window == b"refresh"));
    for key in [&b"acme/live/crm-2/grant/grant"[..], b"acme/live/crm-1/other/grant"] {
        let mut commit = Commit::new();
        commit.put(Keyspace::Credential, key, records[0].1.clone());
        store.submit(commit).await.unwrap();
    }
    for (of, slot) in [("crm-2", "grant"), ("crm-1", "other")] {
        let moved = vault.grant(&at, &instance(of), &self::slot(slot));
        assert!(matches!(moved, Err(VaultError::Unopenable { .. })), "{of}/{slot}");
    }
    let mut older = records[0].1.clone();
    *older.last_mut().unwrap() = 1;
    let mut commit = Commit::new();
    commit.put(Keyspace::Credential, records[0].0.clone(), older);
    store.submit(commit).await.unwrap();
    assert!(matches!(vault.grant(&at, &crm, &grant), Err(VaultError::Unopenable { .. })), "its version is bound too");
    let mut commit = Commit::new();
    commit.put(Keyspace::Credential, records[0].0.clone(), b"short".to_vec());
    store.submit(commit).await.unwrap();
    assert!(matches!(vault.grant(&at, &crm, &grant), Err(VaultError::Damaged { .. })));
}

#[tokio::test]
async fn a_slot_is_emptied_with_everything_that_it_held() {
    let (store, vault, _) = furnished().await;
    let (at, crm, token) = (place("acme"), instance("crm-1"), slot("token"));
    let mut commit = Commit::new();
    vault.seal_grant(&at, &crm, &token, 1, b"the-refresh-token", &mut commit).unwrap();
    store.submit(commit).await.unwrap();
    assert_eq!(store.scan(Keyspace::Credential, b"", b"acme/live/crm-1/token/", 10).unwrap().len(), 2);
    let mut commit = Commit::new();
    vault.delete_slot(&at, &crm, &token, &mut commit).unwrap();
    store.submit(commit).await.unwrap();
    assert!(store.scan(Keyspace::Credential, b"", b"acme/", 10).unwrap().is_empty());
    let mut commit = Commit::new();
    vault.seal_grant(&at, &crm, &token, 1, b"the-refresh-token", &mut commit).unwrap();
    let turn = vault.turn().await;
    vault.destroy_site(&turn, &site("acme"), &mut commit).unwrap();
    store.submit(commit).await.unwrap();
    assert!(vault.grant(&at, &crm, &token).is_err());
}
