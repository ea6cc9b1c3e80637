//! A person's form: a real browser fills in the page and submits it, and the capture reaches its downstreams.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use fantoccini::{ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::json;
use sgen_tests::scene::{HUBSPOT, LIVE, SITE, Scene, WEBHOOK};
use sgen_tests::wait::eventually;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

const BOUND: Duration = Duration::from_secs(60);

/// A running chromedriver, ended when dropped.
struct Driver {
    _child: Child,
    url: String,
}

fn installed(name: &str, variable: &str, default: &str) -> String {
    let path = std::env::var(variable).unwrap_or_else(|_| default.to_owned());
    assert!(
        Path::new(&path).exists(),
        "{name} is not at {path}; install it with: apt-get install --no-install-recommends -y chromium chromium-driver (or set {variable})"
    );
    path
}

impl Driver {
    async fn start() -> Self {
        let program = installed("chromedriver", "SGEN_TESTS_CHROMEDRIVER", "/usr/bin/chromedriver");
        let mut child = Command::new(program)
            .args(["--port=0"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = tokio::time::timeout(BOUND, async {
            while let Some(line) = lines.next_line().await.unwrap() {
                if let Some((_, rest)) = line.split_once("started successfully on port ") {
                    return rest.trim_end_matches('.').to_owned();
                }
            }
            panic!("chromedriver ended without a port");
        })
        .await
        .expect("chromedriver did not tell its port");
        // What it says later is read and dropped, so that it never waits for a reader.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self { _child: child, url: format!("http://127.0.0.1:{port}") }
    }

    async fn browser(&self, profile: &Path) -> fantoccini::Client {
        let binary = installed("chromium", "SGEN_TESTS_CHROMIUM", "/usr/bin/chromium");
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--no-proxy-server",
        ];
        let profile = format!("--user-data-dir={}", profile.display());
        let arguments: Vec<&str> = arguments.into_iter().chain([profile.as_str()]).collect();
        let options = json!({ "binary": binary, "args": arguments });
        let capabilities = serde_json::Map::from_iter([("goog:chromeOptions".to_owned(), options)]);
        let mut builder = ClientBuilder::new(HttpConnector::new());
        builder.capabilities(capabilities).connect(&self.url).await.expect("the browser does not start")
    }
}

#[tokio::test]
async fn a_form_filled_in_and_sent_in_a_browser_reaches_both_downstreams() {
    let folder = tempfile::tempdir().unwrap();
    let scene = Scene::start(&folder.path().join("host")).await.unwrap();
    scene.configure_both().await.unwrap();
    let page = scene.page("browser", 0).await.unwrap();
    let driver = Driver::start().await;
    let browser = driver.browser(&folder.path().join("profile")).await;

    browser.goto(&page.url()).await.unwrap();
    for (name, text) in [
        ("first_name", "Ayşe"),
        ("last_name", "O’Neill"),
        ("email", "ayse.oneill@example.org"),
        ("phone", "+49 30 5550100"),
        ("company", "Acme & Söhne <GmbH>"),
        ("message", "Bitte um Rückruf – danke!"),
    ] {
        let field = browser.find(Locator::Css(&format!("[name={name}]"))).await.unwrap();
        field.send_keys(text).await.unwrap();
    }
    browser.find(Locator::Id("send")).await.unwrap().click().await.unwrap();
    let capture = browser.wait().at_most(BOUND).for_element(Locator::Id("capture")).await.unwrap();
    let id = capture.text().await.unwrap();

    scene.settled(HUBSPOT, BOUND).await.unwrap();
    scene.settled(WEBHOOK, BOUND).await.unwrap();
    let contact = scene.downstreams.hubspot.contact("ayse.oneill@example.org").unwrap();
    assert_eq!(contact.properties["firstname"], "Ayşe");
    assert_eq!(contact.properties["company"], "Acme & Söhne <GmbH>");
    assert_eq!(contact.properties["message"], "Bitte um Rückruf – danke!");
    assert_eq!(scene.downstreams.hubspot.trace(&id).written, 1);
    assert_eq!(scene.downstreams.webhook.by_field("event_id").get(&id), Some(&1));

    // What the person then looks at says so too.
    browser.find(Locator::LinkText("What became of it")).await.unwrap().click().await.unwrap();
    let trace = eventually("the page with the trace", BOUND, || async {
        match browser.find(Locator::Id("trace")).await {
            Ok(element) => Ok(Some(element.text().await?)),
            Err(_) => Ok(None),
        }
    })
    .await
    .unwrap();
    let trace: serde_json::Value = serde_json::from_str(&trace).unwrap();
    assert_eq!(trace["id"], id);
    let operator = scene.operator().unwrap();
    assert_eq!(operator.captures(SITE, LIVE).await.unwrap().len(), 1);
    browser.close().await.unwrap();
}
