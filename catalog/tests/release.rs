//! A release is opened whole or not at all: everything that a damaged, forged, old or foolish one can contain.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod kit;

use kit::{DAY, NOW, Platform, component, draft, manifest, names};
use serde_json::json;
use sgen_catalog::dsse::Envelope;
use sgen_catalog::folder::{COMPONENT_CAP, DOCUMENT_CAP, RELEASE, ROOT, WriteError, previous_sequence, write};
use sgen_catalog::{CatalogError, Digest, Floor, Role, SigningKey, TrustRoot};

#[test]
fn a_release_is_opened_as_it_was_written() {
    let platform = Platform::new();
    let digest = platform.release(7);
    let catalog = platform.open().unwrap();
    assert_eq!((catalog.version.as_str(), catalog.sequence, catalog.root_version), ("2026.11.0", 7, 1));
    let entry = &catalog.connectors["webhook"];
    assert_eq!(entry.manifest, manifest());
    assert_eq!((entry.digest.to_string(), entry.version.to_string()), (digest.clone(), "1.0.0".into()));
    assert_eq!(Digest::of(&entry.wasm), entry.digest);
    assert_eq!(names(&platform.catalog()), [format!("{digest}.wasm"), RELEASE.into(), ROOT.into()].into());
    assert_eq!(TrustRoot::load(&platform.file(ROOT)).unwrap(), platform.root);
}

#[test]
fn a_flipped_byte_in_any_file_is_refused() {
    let platform = Platform::new();
    let digest = platform.release(1);
    let component = platform.file(&format!("{digest}.wasm"));
    for file in [platform.file(RELEASE), component] {
        let good = std::fs::read(&file).unwrap();
        // Every byte of a small file, a few hundred places of a large one.
        for at in (0..good.len()).step_by((good.len() / 400).max(1)) {
            for bit in [0x01, 0x20, 0x80] {
                let mut bad = good.clone();
                bad[at] ^= bit;
                std::fs::write(&file, &bad).unwrap();
                assert!(platform.open().is_err(), "{} at {at} bit {bit:#x}", file.display());
            }
        }
        for bad in [&good[..0], &good[..good.len() - 1], &[good.as_slice(), b" x"].concat()] {
            std::fs::write(&file, bad).unwrap();
            assert!(platform.open().is_err(), "{} with {} bytes", file.display(), bad.len());
        }
        std::fs::write(&file, good).unwrap();
    }
    assert!(platform.open().is_ok());
}

#[test]
fn a_flipped_byte_in_the_root_document_is_refused() {
    let platform = Platform::new();
    platform.release(1);
    let good = std::fs::read(platform.file(ROOT)).unwrap();
    for at in (0..good.len()).step_by(3) {
        let mut bad = good.clone();
        bad[at] ^= 0x01;
        assert!(TrustRoot::parse(&bad).is_err(), "at {at}");
    }
}

#[test]
fn an_unsigned_release_or_one_signed_by_a_stranger_is_refused() {
    let platform = Platform::new();
    platform.release(1);
    let payload = platform.payload();
    let stranger = SigningKey::generate(&platform.folder.path().join("stranger.key")).unwrap();
    let root_key = &platform.root_keys[0];
    for keys in [vec![], vec![&stranger], vec![root_key], vec![&stranger, root_key]] {
        platform.sign_as_release(&payload, &keys);
        let error = platform.open().unwrap_err();
        assert!(matches!(error, CatalogError::Signature { .. }), "{error}");
        assert!(error.to_string().contains("the platform must sign"), "{error}");
    }
    std::fs::write(platform.file(RELEASE), serde_json::to_vec(&payload).unwrap()).unwrap();
    assert!(matches!(platform.open(), Err(CatalogError::Signature { .. })), "a bare document");
}

#[test]
fn one_key_signing_twice_does_not_reach_a_threshold_of_two() {
    let platform = Platform::with_release_threshold(2);
    let keys: Vec<&SigningKey> = platform.release_keys.iter().collect();
    write(&platform.catalog(), &draft(1), &platform.root, &keys).unwrap();
    assert!(platform.open().is_ok());
    platform.sign_as_release(&platform.payload(), &[keys[0], keys[0]]);
    let text = platform.open().unwrap_err().to_string();
    assert!(text.contains("1 of the 2"), "{text}");
}

#[test]
fn a_document_of_one_role_is_no_document_of_another() {
    let platform = Platform::new();
    platform.release(1);
    std::fs::copy(platform.file(ROOT), platform.file(RELEASE)).unwrap();
    let text = platform.open().unwrap_err().to_string();
    assert!(text.contains("vnd.sgen.root+json"), "{text}");
    // A release key's signature over root-typed bytes, and over release bytes under the root's type.
    let payload = b"{}".to_vec();
    let envelope = Envelope::sign(Role::Root.payload_type(), payload, &[&platform.release_keys[0]]).to_json().unwrap();
    std::fs::write(platform.file(RELEASE), &envelope).unwrap();
    assert!(matches!(platform.open(), Err(CatalogError::Signature { .. })));
    assert!(TrustRoot::parse(&envelope).is_err());
    assert!(platform.root.update(&envelope).is_err());
}

#[test]
fn an_older_release_than_one_seen_is_refused_with_both_numbers() {
    let platform = Platform::new();
    platform.release(5);
    let floor = |sequence| Floor { sequence, root_version: 1 };
    assert!(platform.open_with(NOW, floor(5)).is_ok(), "the same one may be opened again");
    let text = platform.open_with(NOW, floor(6)).unwrap_err().to_string();
    assert!(text.contains("sequence 5") && text.contains("but 6"), "{text}");
    let error = platform.open_with(NOW, Floor { sequence: 0, root_version: 2 }).unwrap_err();
    assert!(matches!(error, CatalogError::RootRollback { version: 1, seen: 2 }));
}

#[test]
fn an_expired_release_is_refused_and_so_is_one_under_an_expired_root() {
    let platform = Platform::new();
    platform.release(1);
    assert!(platform.open_with(NOW + 30 * DAY, Floor::default()).is_ok(), "up to the last moment");
    let error = platform.open_with(NOW + 30 * DAY + 1, Floor::default()).unwrap_err();
    assert!(matches!(error, CatalogError::Expired { .. }), "{error}");
    for now in [NOW + 4000 * DAY, u64::MAX] {
        assert!(matches!(platform.open_with(now, Floor::default()), Err(CatalogError::RootExpired { .. })));
    }
}

#[test]
fn a_component_with_other_bytes_or_another_size_is_refused() {
    let platform = Platform::new();
    let file = platform.file(&format!("{}.wasm", platform.release(1)));
    let other = component(&["sgen:connector/log@1.0.0", "sgen:connector/egress@1.0.0"]);
    std::fs::write(&file, &other).unwrap();
    assert!(matches!(platform.open(), Err(CatalogError::Size { .. })));
    let mut same_size = component(&["sgen:connector/egress@1.0.0"]);
    *same_size.last_mut().unwrap() ^= 1;
    std::fs::write(&file, &same_size).unwrap();
    assert!(matches!(platform.open(), Err(CatalogError::Content { .. })));
    std::fs::remove_file(&file).unwrap();
    assert!(matches!(platform.open(), Err(CatalogError::File { .. })));
    std::fs::create_dir(&file).unwrap();
    assert!(platform.open().unwrap_err().to_string().contains("no regular file"));
}

#[test]
fn oversized_files_are_refused_without_reading_them() {
    let platform = Platform::new();
    let component = platform.file(&format!("{}.wasm", platform.release(1)));
    // Sparse: a read of the whole would be noticed, a look at the size is not.
    std::fs::OpenOptions::new().write(true).open(component).unwrap().set_len(1 << 40).unwrap();
    assert!(matches!(platform.open(), Err(CatalogError::TooLarge { cap: COMPONENT_CAP, .. })));
    std::fs::OpenOptions::new().write(true).open(platform.file(RELEASE)).unwrap().set_len(DOCUMENT_CAP + 1).unwrap();
    assert!(matches!(platform.open(), Err(CatalogError::TooLarge { cap: DOCUMENT_CAP, .. })));
}

#[test]
fn a_signed_document_that_makes_no_sense_is_refused_with_its_reason() {
    let platform = Platform::new();
    platform.release(1);
    let good = platform.payload();
    let pinned = good["connectors"]["webhook"].clone();
    let with = |path: &str, value: serde_json::Value| {
        let mut changed = good.clone();
        *changed.pointer_mut(path).unwrap() = value;
        changed
    };
    for (payload, says) in [
        (json!({}), "missing field"),
        (json!([]), "invalid"),
        (with("/format", json!(2)), "format 2"),
        (with("/minimum_host", json!("9.0.0")), "needs host 9.0.0"),
        (with("/version", json!("latest")), "release version"),
        (with("/sequence", json!(-1)), "invalid value"),
        (with("/expires", json!("2020-01-01T00:00:00Z")), "expired"),
        (with("/issued", json!("2030-01-01T00:00:00Z")), "before it is issued"),
        (with("/revoked", json!(["../x"])), "digest"),
        (with("/connectors", json!({ "other": pinned })), "its manifest says webhook"),
        (with("/connectors/webhook/version", json!("2.0.0")), "its manifest says webhook 1.0.0"),
        (with("/connectors/webhook/world", json!("sgen:connector@3.0.0")), "sgen:connector@3.0.0"),
        (with("/connectors/webhook/manifest/world", json!("sgen:connector@3.0.0")), "not supported"),
        (with("/connectors/webhook/manifest/endpoints/receiver/auth/slot", json!("x")), "no [credentials.x]"),
        (with("/connectors/webhook/sha256", json!("../../etc/passwd")), "digest"),
        (with("/connectors/webhook/size", json!(COMPONENT_CAP + 1)), "at most"),
        (with("/connectors/webhook/size", json!(1)), "the release says 1"),
    ] {
        platform.sign_as_release(&payload, &[&platform.release_keys[0]]);
        let text = platform.open().unwrap_err().to_string();
        assert!(text.contains(says), "{says}: {text}");
        assert!(text.contains("must"), "who must act: {text}");
    }
    let mut more = good.clone();
    more["extra"] = json!(1);
    platform.sign_as_release(&more, &[&platform.release_keys[0]]);
    assert!(platform.open().unwrap_err().to_string().contains("unknown field"));
    platform.sign_as_release(&good, &[&platform.release_keys[0]]);
    assert!(platform.open().is_ok());
}

#[test]
fn a_signed_component_with_imports_that_are_not_allowed_is_refused() {
    let platform = Platform::new();
    platform.release(1);
    let wasm = component(&["wasi:sockets/tcp@0.2.6"]);
    let digest = Digest::of(&wasm);
    std::fs::write(platform.file(&format!("{digest}.wasm")), &wasm).unwrap();
    let mut payload = platform.payload();
    payload["connectors"]["webhook"]["sha256"] = json!(digest);
    payload["connectors"]["webhook"]["size"] = json!(wasm.len());
    platform.sign_as_release(&payload, &[&platform.release_keys[0]]);
    let error = platform.open().unwrap_err();
    assert!(matches!(error, CatalogError::Component { .. }), "{error}");
    assert!(error.to_string().contains("wasi:sockets/tcp@0.2.6"), "{error}");
}

#[test]
fn what_no_host_would_accept_is_not_written() {
    let platform = Platform::new();
    let digest = platform.release(1);
    let before = names(&platform.catalog());
    let mut bad = draft(2);
    bad.version = "next".into();
    bad.connectors.push((manifest(), component(&["wasi:http/types@0.2.6", "wasi:sockets/tcp@0.2.6"])));
    let Err(WriteError::Refused(reasons)) =
        write(&platform.catalog(), &bad, &platform.root, &[&platform.release_keys[0]])
    else {
        panic!()
    };
    let text = reasons.join("\n");
    for says in ["release version", "wasi:http/types@0.2.6", "wasi:sockets/tcp@0.2.6", "two connectors"] {
        assert!(text.contains(says), "{text}");
    }
    assert!(write(&platform.catalog(), &draft(2), &platform.root, &[]).is_err(), "unsigned");
    assert!(
        write(&platform.catalog(), &draft(2), &platform.root, &[&platform.root_keys[0]]).is_err(),
        "signed by a root key"
    );
    assert_eq!(names(&platform.catalog()), before);
    assert_eq!(platform.open().unwrap().connectors["webhook"].digest.to_string(), digest);
}

#[test]
fn a_new_release_replaces_the_old_one_and_its_components() {
    let platform = Platform::new();
    assert_eq!(previous_sequence(&platform.catalog()), Ok(None));
    let old = platform.release(41);
    assert_eq!(previous_sequence(&platform.catalog()), Ok(Some(41)));
    std::fs::write(platform.file("notes.txt"), "kept").unwrap();
    let mut next = draft(42);
    next.connectors[0].1 = component(&["sgen:connector/egress@1.0.0", "sgen:connector/log@1.0.0"]);
    next.revoked.insert(old.parse().unwrap());
    write(&platform.catalog(), &next, &platform.root, &[&platform.release_keys[1]]).unwrap();
    let catalog = platform.open().unwrap();
    assert_eq!(catalog.sequence, 42);
    assert!(catalog.is_revoked(&old.parse().unwrap()));
    assert!(!platform.file(&format!("{old}.wasm")).exists());
    assert!(platform.file("notes.txt").exists());
    std::fs::write(platform.file(RELEASE), "{").unwrap();
    assert!(previous_sequence(&platform.catalog()).is_err());
}
