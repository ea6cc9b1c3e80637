//! A release that was tampered with, is unsigned, older than what was accepted or expired: the host refuses to start and
//! says which file, what is wrong and who must act.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod release;

use std::path::{Path, PathBuf};

use serde_json::Value;
use sgen_tests::host::{self, HostFolder};
use sgen_tests::paths;

/// A copy of the built release, to be spoilt.
fn copied(folder: &Path) -> PathBuf {
    let catalog = folder.join("catalog");
    release::copy(&paths::catalog().unwrap(), &catalog);
    catalog
}

fn component(catalog: &Path) -> PathBuf {
    let files = std::fs::read_dir(catalog).unwrap().map(|item| item.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|e| e == "wasm")).max().unwrap()
}

/// Starts a host on the folder, which must refuse; answers what it said.
async fn refusal(folder: &HostFolder, parts: &[&str]) -> String {
    let (status, log) = folder.start_refused().await.unwrap();
    assert_eq!(status.code(), Some(1), "{log}");
    for part in parts {
        assert!(log.contains(part), "{part} is not in: {log}");
    }
    log
}

async fn host_on(folder: &Path, catalog: &Path) -> HostFolder {
    HostFolder::create_on(&folder.join("host"), catalog).await.unwrap()
}

#[tokio::test]
async fn an_untouched_release_is_accepted_and_described() {
    let folder = tempfile::tempdir().unwrap();
    let catalog = copied(folder.path());
    host_on(folder.path(), &catalog).await.start().await.unwrap().stop().await.unwrap();
    let (catalog_text, root) = (catalog.to_string_lossy(), catalog.join("root.dsse.json"));
    let arguments = ["catalog", "verify", "--folder", &catalog_text, "--trust-root", &root.to_string_lossy()];
    let said = host::run(&arguments).await.unwrap().expect_success().unwrap();
    let digest = component(&catalog).file_stem().unwrap().to_string_lossy().into_owned();
    for part in ["sequence", "hubspot", "webhook", digest.as_str()] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[tokio::test]
async fn a_component_with_one_flipped_bit_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let catalog = copied(folder.path());
    let file = component(&catalog);
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0b0000_0100;
    std::fs::write(&file, &bytes).unwrap();
    let name = file.file_name().unwrap().to_string_lossy().into_owned();
    refusal(&host_on(folder.path(), &catalog).await, &[&name, "changed after it was signed"]).await;
    let (catalog_text, root) = (catalog.to_string_lossy(), catalog.join("root.dsse.json"));
    let arguments = ["catalog", "verify", "--folder", &catalog_text, "--trust-root", &root.to_string_lossy()];
    let verdict = host::run(&arguments).await.unwrap();
    assert!(!verdict.status.success() && verdict.stderr.contains(&name), "{verdict:?}");
}

#[tokio::test]
async fn a_component_that_is_cut_off_or_missing_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let catalog = copied(folder.path());
    let host = host_on(folder.path(), &catalog).await;
    let file = component(&catalog);
    let name = file.file_name().unwrap().to_string_lossy().into_owned();
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() - 1]).unwrap();
    refusal(&host, &[&name, "bytes"]).await;
    std::fs::remove_file(&file).unwrap();
    refusal(&host, &[&name, "cannot be read"]).await;
}

#[tokio::test]
async fn an_unsigned_release_and_one_with_changed_contents_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let catalog = copied(folder.path());
    let host = host_on(folder.path(), &catalog).await;
    let file = catalog.join("release.dsse.json");
    let signed: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let mut unsigned = signed.clone();
    unsigned["signatures"] = Value::from(Vec::<Value>::new());
    std::fs::write(&file, unsigned.to_string()).unwrap();
    refusal(&host, &["release.dsse.json", "the platform must sign"]).await;

    // A changed payload under the old signature: the sequence is raised in place.
    use base64::Engine as _;
    let engine = base64::engine::general_purpose::STANDARD;
    let payload = engine.decode(signed["payload"].as_str().unwrap()).unwrap();
    let text = String::from_utf8(payload).unwrap().replacen("\"sequence\":", "\"sequence\":9", 1);
    let mut changed = signed.clone();
    changed["payload"] = Value::from(engine.encode(text));
    std::fs::write(&file, changed.to_string()).unwrap();
    refusal(&host, &["release.dsse.json", "the platform must sign"]).await;

    std::fs::write(&file, signed.to_string()).unwrap();
    host.start().await.unwrap().stop().await.unwrap();
}

#[tokio::test]
async fn a_release_signed_by_somebody_else_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let catalog = folder.path().join("catalog");
    let stranger = release::Platform::create(folder.path());
    stranger.release(&catalog, 1);
    let trusted = paths::catalog().unwrap().join("root.dsse.json");
    let host = host_on(folder.path(), &catalog).await;
    refusal(&host.clone().with_trust_root(&trusted), &["release.dsse.json", "the platform must sign"]).await;
    host.with_trust_root(stranger.root()).start().await.unwrap().stop().await.unwrap();
}

#[tokio::test]
async fn a_release_older_than_one_that_was_accepted_is_refused_with_both_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let platform = release::Platform::create(folder.path());
    let (newer, older) = (folder.path().join("newer"), folder.path().join("older"));
    platform.release(&newer, 7);
    platform.release(&older, 6);
    let host = host_on(folder.path(), &newer).await.with_trust_root(platform.root());
    host.start().await.unwrap().stop().await.unwrap();
    let rolled_back = host.clone().with_catalog(&older).with_trust_root(platform.root());
    refusal(&rolled_back, &["sequence 6", "7 was accepted before"]).await;
    host.start().await.unwrap().stop().await.unwrap();
}

#[tokio::test]
async fn an_expired_release_is_refused_with_its_date() {
    let folder = tempfile::tempdir().unwrap();
    let platform = release::Platform::create(folder.path());
    let catalog = folder.path().join("catalog");
    let yesterday = release::ago(1);
    platform.release_until(&catalog, 1, yesterday);
    let host = host_on(folder.path(), &catalog).await.with_trust_root(platform.root());
    let day = yesterday.to_string()[..10].to_owned();
    refusal(&host, &["release.dsse.json", "expired", &day]).await;
}
