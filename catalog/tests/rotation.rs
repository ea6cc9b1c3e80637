//! How one root document gives way to the next, and everything that must not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod kit;

use kit::{NOW, Platform, at, root_document};
use sgen_catalog::{SigningKey, TrustError, TrustRoot};

fn new_keys(platform: &Platform, name: &str, count: usize) -> Vec<SigningKey> {
    (0..count).map(|i| SigningKey::generate(&platform.folder.path().join(format!("{name}{i}.key"))).unwrap()).collect()
}

#[test]
fn the_next_root_is_signed_by_the_old_and_the_new_keys() {
    let platform = Platform::new();
    let next_keys = new_keys(&platform, "next", 2);
    let release = new_keys(&platform, "release-next", 1);
    let document = root_document(2, &next_keys, 2, &release, 1);
    let old: Vec<&SigningKey> = platform.root_keys.iter().take(2).collect();
    let new: Vec<&SigningKey> = next_keys.iter().collect();
    let both = document.sign(&[old.clone(), new.clone()].concat()).unwrap();
    let root = platform.root.update(&both).unwrap();
    assert_eq!(root.version(), 2);

    for (keys, why) in [
        (new.clone(), "only the new keys"),
        (old.clone(), "only the old keys"),
        ([old.clone(), new[..1].to_vec()].concat(), "the new threshold is not reached"),
        ([old[..1].to_vec(), new.clone()].concat(), "the old threshold is not reached"),
        ([vec![old[0], old[0]], new.clone()].concat(), "one old key twice"),
        ([platform.release_keys.iter().collect(), new.clone()].concat(), "release keys for root keys"),
    ] {
        let error = platform.root.update(&document.sign(&keys).unwrap()).unwrap_err();
        assert!(matches!(error, TrustError::Envelope(_)), "{why}: {error}");
    }
    // The old keys have no say any more.
    let third = root_document(3, &next_keys, 2, &platform.release_keys, 1);
    assert!(root.update(&third.sign(&old).unwrap()).is_err());
    assert!(root.update(&third.sign(&new).unwrap()).is_ok());
}

#[test]
fn root_versions_go_up_by_one() {
    let platform = Platform::new();
    let signers: Vec<&SigningKey> = platform.root_keys.iter().collect();
    for version in [1, 3, u64::MAX] {
        let bytes = root_document(version, &platform.root_keys, 2, &platform.release_keys, 1).sign(&signers).unwrap();
        let error = platform.root.update(&bytes).unwrap_err();
        assert!(matches!(error, TrustError::Version { current: 1, .. }), "{version}: {error}");
    }
}

#[test]
fn a_release_under_retired_keys_is_refused_after_the_rotation() {
    let platform = Platform::new();
    platform.release(1);
    let release = new_keys(&platform, "release-next", 1);
    let bytes = root_document(2, &platform.root_keys, 2, &release, 1)
        .sign(&platform.root_keys.iter().collect::<Vec<_>>())
        .unwrap();
    let root = platform.root.update(&bytes).unwrap();
    assert!(sgen_catalog::open(&platform.catalog(), &root, NOW, sgen_catalog::Floor::default()).is_err());
}

#[test]
fn a_root_document_that_contradicts_itself_is_neither_signed_nor_read() {
    let platform = Platform::new();
    let (keys, release) = (&platform.root_keys, &platform.release_keys);
    let mut expired = root_document(1, keys, 2, release, 1);
    expired.expires = at(NOW - 400 * kit::DAY);
    let mut shared = root_document(1, keys, 2, release, 1);
    shared.release.keys.insert(keys[0].public());
    for (document, says) in [
        (root_document(0, keys, 2, release, 1), "start at 1"),
        (root_document(1, keys, 0, release, 1), "threshold"),
        (root_document(1, keys, 4, release, 1), "threshold"),
        (root_document(1, keys, 2, release, 3), "threshold"),
        (root_document(1, keys, 2, &[], 1), "threshold"),
        (expired, "expires before"),
        (shared, "also a root key"),
    ] {
        let signers: Vec<&SigningKey> = keys.iter().collect();
        let error = document.sign(&signers).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
        let payload = serde_json::to_vec(&document).unwrap();
        let forced = sgen_catalog::dsse::Envelope::sign(sgen_catalog::Role::Root.payload_type(), payload, &signers)
            .to_json()
            .unwrap();
        assert!(TrustRoot::parse(&forced).unwrap_err().to_string().contains(says));
    }
}

#[test]
fn a_root_document_must_be_signed_by_its_own_keys() {
    let platform = Platform::new();
    let document = root_document(1, &platform.root_keys, 2, &platform.release_keys, 1);
    for keys in
        [vec![], vec![&platform.root_keys[0]], vec![&platform.root_keys[0]; 2], platform.release_keys.iter().collect()]
    {
        assert!(matches!(TrustRoot::parse(&document.sign(&keys).unwrap()), Err(TrustError::Envelope(_))));
    }
    let missing = TrustRoot::load(&platform.folder.path().join("none")).unwrap_err().to_string();
    assert!(missing.contains("none") && missing.contains("restore"), "{missing}");
}
