//! Rotation of data keys and of the outer key: while others write, and cut off at every commit.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod rotation_kit;

use std::sync::Arc;

use proptest::prelude::*;
use rotation_kit::{House, INSTANCE, Interrupted, Keys, place, shelves, site, slot};
use sgen_model::{SecretBytes, SharedRef, Timestamp};
use sgen_store::{Commit, Keyspace, MemoryStore, Store};
use sgen_vault::{KeyChange, KeyOwner, Resealed, VaultError};

/// Everything of a rotation, from the start that brings the new outer key to the end.
async fn rotate_all(house: &House) -> Result<(), VaultError> {
    for name in ["acme", "other"] {
        house.rotation.begin(&site(name).into()).await?;
    }
    house.write("acme", 100).await?;
    for name in ["acme", "other"] {
        house.rotation.reseal(&site(name).into(), &shelves(name), &mut |_| ()).await?;
    }
    house.rotation.remove_idle(&mut |_| ()).await?;
    house.rotation.rewrap(&mut |_| ()).await?;
    Ok(())
}

#[tokio::test]
async fn a_rotation_that_is_cut_off_at_any_commit_leaves_everything_readable_and_goes_on() {
    let mut cut = 0;
    loop {
        let store = House::furnished().await;
        let interrupted = Interrupted::after(&store, cut);
        let ended = match House::open(interrupted, Keys::BOTH).await {
            Ok(house) => rotate_all(&house).await.is_ok(),
            Err(_) => false,
        };
        // A kill: nothing is left but what was durable.
        let house = House::open(store.clone(), Keys::BOTH).await.unwrap();
        house.assert_readable("acme", 30);
        house.assert_readable("other", 30);
        rotate_all(&house).await.unwrap();
        house.assert_readable("acme", 30);
        house.audit_is_whole();
        drop(house);
        // What the process that began a key sealed with the one before it may have been under way: after another start
        // that is known not to be so.
        let house = House::open(store.clone(), Keys::BOTH).await.unwrap();
        for name in ["acme", "other"] {
            house.rotation.reseal(&site(name).into(), &shelves(name), &mut |_| ()).await.unwrap();
        }
        house.rotation.remove_idle(&mut |_| ()).await.unwrap();
        let status = house.vault.key_status(true, &mut |_| ()).await.unwrap();
        assert!(status.older_outer_keys.is_empty(), "cut at {cut}");
        for owner in &status.owners {
            assert_eq!((owner.keys.len(), owner.wrapped_under.len()), (1, 1), "cut at {cut}: {owner:?}");
        }
        drop(house);
        // The outer key before is not needed any more, and alone it is not enough.
        let house = House::open(store.clone(), Keys::NEW).await.unwrap();
        house.assert_readable("acme", 30);
        house.assert_readable("other", 30);
        assert!(matches!(House::open(store, Keys::OLD).await.err(), Some(VaultError::WrongKey { .. })));
        if ended {
            assert!(cut > 8, "the rotation has {cut} commits");
            return;
        }
        cut += 1;
    }
}

#[tokio::test]
async fn a_new_key_seals_at_once_for_every_holder_and_old_records_stay_readable() {
    let house = House::open(House::furnished().await, Keys::OLD).await.unwrap();
    let held = house.vault.site(&site("acme")).unwrap().unwrap();
    let before = held.key_id();
    let begun = house.rotation.begin(&site("acme").into()).await.unwrap();
    assert_eq!((begun.previous.as_str(), begun.key.as_str()), (before.as_str(), held.key_id().as_str()));
    assert_eq!(held.older_ids(), std::slice::from_ref(&before));
    house.assert_readable("acme", 30);
    house.write("acme", 31).await.unwrap();
    let status = house.vault.key_status(true, &mut |_| ()).await.unwrap();
    let acme = status.owners.iter().find(|owner| owner.site == Some(site("acme"))).unwrap();
    let counts: Vec<_> = acme.keys.iter().map(|key| (key.id.clone(), key.records.unwrap())).collect();
    // 30 events, 30 letters, 30 entries of the log, a credential, and a grant.
    assert_eq!(counts, [(begun.key, 3), (before, 92)]);
}

#[tokio::test]
async fn a_key_that_this_process_sealed_with_is_kept_until_the_next_start() {
    let store = House::furnished().await;
    let house = House::open(store.clone(), Keys::OLD).await.unwrap();
    house.write("acme", 31).await.unwrap();
    house.rotation.begin(&site("acme").into()).await.unwrap();
    let done = house.rotation.reseal(&site("acme").into(), &shelves("acme"), &mut |_| ()).await.unwrap();
    assert_eq!((done.resealed, done.unreadable), (95, 0));
    assert_eq!(house.rotation.remove_idle(&mut |_| ()).await.unwrap(), 0);
    // The very record that was on its way.
    house.seal_late("acme", 32);
    drop(house);
    let house = House::open(store, Keys::OLD).await.unwrap();
    house.rotation.reseal(&site("acme").into(), &shelves("acme"), &mut |_| ()).await.unwrap();
    assert_eq!(house.rotation.remove_idle(&mut |_| ()).await.unwrap(), 1);
    house.assert_readable("acme", 32);
    let kinds: Vec<_> = house.changes().into_iter().map(|change| std::mem::discriminant(&change)).collect();
    let removed = KeyChange::Removed { owner: site("acme").into(), keys: Vec::new() };
    assert_eq!(kinds, [std::mem::discriminant(&removed)]);
}

#[tokio::test]
async fn a_record_that_nobody_named_keeps_its_key() {
    let store = House::furnished().await;
    let house = House::open(store.clone(), Keys::OLD).await.unwrap();
    house.rotation.begin(&site("acme").into()).await.unwrap();
    let some = shelves("acme").into_iter().filter(|shelf| shelf.keyspace != Keyspace::Dead).collect::<Vec<_>>();
    house.rotation.reseal(&site("acme").into(), &some, &mut |_| ()).await.unwrap();
    assert_eq!(house.rotation.remove_idle(&mut |_| ()).await.unwrap(), 0);
    house.assert_readable("acme", 30);
}

#[tokio::test]
async fn a_damaged_record_keeps_its_key_and_is_counted() {
    let store = House::furnished().await;
    let (at, mut record) = store.scan(Keyspace::Log, b"", b"acme/", 1).unwrap().remove(0);
    *record.last_mut().unwrap() ^= 1;
    let mut commit = Commit::new();
    commit.put(Keyspace::Log, at.clone(), record.clone());
    store.submit(commit).await.unwrap();
    let house = House::open(store.clone(), Keys::OLD).await.unwrap();
    house.rotation.begin(&site("acme").into()).await.unwrap();
    let done = house.rotation.reseal(&site("acme").into(), &shelves("acme"), &mut |_| ()).await.unwrap();
    assert_eq!(done, Resealed { looked_at: 92, resealed: 91, unreadable: 1 });
    assert_eq!(house.rotation.remove_idle(&mut |_| ()).await.unwrap(), 0);
    assert_eq!(store.get(Keyspace::Log, &at).unwrap().unwrap(), record);
}

#[tokio::test]
async fn what_is_deleted_or_written_while_a_page_is_sealed_anew_stays_so() {
    let store = House::furnished().await;
    let house = House::open(store.clone(), Keys::OLD).await.unwrap();
    house.rotation.begin(&site("acme").into()).await.unwrap();
    // Between the reading of the page and its commit, the way a lane's commit that was submitted earlier is.
    let deleting = Interrupted::deleting(&store, Keyspace::Dead, b"acme-crm/");
    let other = House::open(deleting, Keys::OLD).await.unwrap();
    other.rotation.reseal(&site("acme").into(), &shelves("acme"), &mut |_| ()).await.unwrap();
    assert!(store.scan(Keyspace::Dead, b"", b"acme-crm/", 10).unwrap().is_empty(), "a deleted letter has come back");
}

#[tokio::test]
async fn the_outer_keys_that_are_missing_are_named_and_nothing_is_changed() {
    let store = House::furnished().await;
    let before = store.scan(Keyspace::Meta, b"vault/", b"vault/", 10).unwrap();
    assert!(matches!(House::open(store.clone(), Keys::NEW).await.err(), Some(VaultError::WrongKey { .. })));
    assert_eq!(store.scan(Keyspace::Meta, b"vault/", b"vault/", 10).unwrap(), before);
    let looked_at = rotation_kit::look(&store, Keys::BOTH).await;
    assert_eq!(looked_at.older_outer_keys.len(), 1);
    assert_eq!(store.scan(Keyspace::Meta, b"vault/", b"vault/", 10).unwrap(), before, "looking changes nothing");
    let house = House::open(store.clone(), Keys::BOTH).await.unwrap();
    let status = house.vault.key_status(false, &mut |_| ()).await.unwrap();
    assert_eq!((status.older_outer_keys.len(), status.owners[0].keys[0].records), (1, None));
    drop(house);
    // Half of the way, either alone is refused with the other's name.
    for (keys, missing) in [(Keys::NEW, &status.older_outer_keys[0]), (Keys::OLD, &status.outer_key)] {
        let Some(VaultError::KeyMissing { missing: named, .. }) = House::open(store.clone(), keys).await.err() else {
            panic!("another error")
        };
        assert_eq!(named, *missing);
    }
    // Going back is possible as long as both are there.
    let back = House::open(store.clone(), Keys { present: 1, previous: Some(2) }).await.unwrap();
    back.rotation.rewrap(&mut |_| ()).await.unwrap();
    drop(back);
    House::open(store, Keys::OLD).await.unwrap().assert_readable("acme", 30);
}

#[tokio::test]
async fn a_fingerprint_stays_the_same_under_every_outer_key() {
    let store = House::furnished().await;
    let print = |house: &House| {
        let secret = SecretBytes::from("the-same-secret".to_owned());
        let mut unused = Commit::new();
        let vault = &house.vault;
        vault
            .seal_credential(&place("acme"), &INSTANCE.parse().unwrap(), &slot(), 9, secret, Timestamp(1), &mut unused)
            .unwrap()
            .fingerprint
    };
    let first = print(&House::open(store.clone(), Keys::OLD).await.unwrap());
    for keys in [Keys::BOTH, Keys::NEW, Keys { present: 3, previous: Some(2) }, Keys { present: 3, previous: None }] {
        let house = House::open(store.clone(), keys).await.unwrap();
        assert_eq!(print(&house), first);
        house.rotation.rewrap(&mut |_| ()).await.unwrap();
        assert_eq!(print(&house), first);
    }
}

#[tokio::test]
async fn a_destroyed_site_is_not_rotated_and_a_rotation_under_way_ends() {
    let store = House::furnished().await;
    let house = House::open(store.clone(), Keys::BOTH).await.unwrap();
    house.rotation.begin(&site("acme").into()).await.unwrap();
    let mut commit = Commit::new();
    let turn = house.vault.turn().await;
    house.vault.destroy_site(&turn, &site("acme"), &mut commit).unwrap();
    store.submit(commit).await.unwrap();
    drop(turn);
    assert!(house.vault.is_destroyed(&site("acme")).unwrap());
    let refused = house.rotation.begin(&site("acme").into()).await;
    assert!(matches!(refused, Err(VaultError::SiteDestroyed { .. })));
    let unknown = house.rotation.begin(&site("nobody").into()).await;
    assert!(matches!(unknown, Err(VaultError::UnknownSite { .. })));
    let done = house.rotation.reseal(&site("acme").into(), &shelves("acme"), &mut |_| ()).await.unwrap();
    assert_eq!(done, Resealed::default());
    house.rotation.rewrap(&mut |_| ()).await.unwrap();
    house.assert_readable("other", 30);
    let status = house.vault.key_status(true, &mut |_| ()).await.unwrap();
    assert!(status.owners.iter().any(|owner| owner.destroyed && owner.keys.is_empty()));
}

#[tokio::test]
async fn an_accounts_key_is_rotated_like_a_sites() {
    let store = House::furnished().await;
    let house = House::open(store.clone(), Keys::OLD).await.unwrap();
    let shared = SharedRef { account: "acme".parse().unwrap(), id: "crm".parse().unwrap() };
    let secret = SecretBytes::from("the-shared-secret".to_owned());
    let mut commit = Commit::new();
    let reference = house.vault.seal_shared(&shared, 1, &secret, Timestamp(5), &mut commit).unwrap();
    store.submit(commit).await.unwrap();
    drop(house);
    let house = House::open(store.clone(), Keys::BOTH).await.unwrap();
    let owner = KeyOwner::Account(shared.account.clone());
    house.rotation.begin(&owner).await.unwrap();
    let done = house.rotation.reseal(&owner, &[], &mut |_| ()).await.unwrap();
    assert_eq!((done.looked_at, done.resealed), (1, 1));
    assert_eq!(house.rotation.remove_idle(&mut |_| ()).await.unwrap(), 1);
    house.rotation.rewrap(&mut |_| ()).await.unwrap();
    drop(house);
    let house = House::open(store, Keys::NEW).await.unwrap();
    let slots = std::collections::BTreeMap::from([(slot(), reference)]);
    let opened = house.vault.credentials(&place("other"), &INSTANCE.parse().unwrap(), &slots).unwrap();
    assert_eq!(opened.get(&slot()).unwrap().current().expose(), b"the-shared-secret");
}

#[tokio::test]
async fn keys_do_not_pile_up_without_bound() {
    let house = House::open(House::furnished().await, Keys::OLD).await.unwrap();
    let owner = KeyOwner::Site(site("acme"));
    let refused = loop {
        if let Err(error) = house.rotation.begin(&owner).await {
            break error;
        }
    };
    assert!(matches!(refused, VaultError::TooManyKeys { count: 32, .. }), "{refused}");
    house.assert_readable("acme", 30);
    house.rotation.reseal(&owner, &shelves("acme"), &mut |_| ()).await.unwrap();
    assert_eq!(house.rotation.remove_idle(&mut |_| ()).await.unwrap(), 31);
    house.rotation.begin(&owner).await.unwrap();
}

#[derive(Debug, Clone)]
enum Step {
    Begin,
    Write,
    Delete(u64),
    Reseal,
    Remove,
    Restart,
    Rewrap,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => Just(Step::Begin),
        4 => Just(Step::Write),
        2 => (1..40_u64).prop_map(Step::Delete),
        2 => Just(Step::Reseal),
        2 => Just(Step::Remove),
        1 => Just(Step::Restart),
        1 => Just(Step::Rewrap),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_the_order_of_steps_every_record_that_was_not_deleted_is_readable(
        steps in proptest::collection::vec(step(), 1..24)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let store: Arc<MemoryStore> = House::furnished().await;
            let mut keys = Keys::OLD;
            let mut house = House::open(store.clone(), keys).await.unwrap();
            let (mut last, mut deleted) = (30, std::collections::BTreeSet::new());
            for step in steps {
                match step {
                    Step::Begin => drop(house.rotation.begin(&site("acme").into()).await),
                    Step::Write => {
                        last += 1;
                        house.write("acme", last).await.unwrap();
                    }
                    Step::Delete(number) => {
                        deleted.insert(number);
                        house.delete("acme", number).await;
                    }
                    Step::Reseal => {
                        house.rotation.reseal(&site("acme").into(), &shelves("acme"), &mut |_| ()).await.unwrap();
                    }
                    Step::Remove => drop(house.rotation.remove_idle(&mut |_| ()).await.unwrap()),
                    Step::Restart => {
                        drop(house);
                        keys = Keys::BOTH;
                        house = House::open(store.clone(), keys).await.unwrap();
                    }
                    Step::Rewrap => drop(house.rotation.rewrap(&mut |_| ()).await.unwrap()),
                }
                for number in (1..=last).filter(|number| !deleted.contains(number)) {
                    house.assert_record("acme", number);
                }
            }
            drop(house);
            House::open(store, keys).await.unwrap().assert_credential("acme");
        });
    }
}
