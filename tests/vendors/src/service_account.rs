//! Assertions of a service account, verified by libraries that are not ours.

use std::fmt;

use anyhow::{Context as _, Result, bail};
use sgen_egress::TokenSource as _;
use sgen_tokens::{Means, ServiceAccount};

use crate::counterpart::Counterpart;
use crate::rooms::{House, setup};

/// What came of it.
#[derive(Default)]
pub struct Figures {
    assertions: u64,
    accepted: u64,
    forged: u64,
    refused: u64,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { assertions, accepted, forged, refused } = self;
        write!(f, "assertions {assertions}, accepted {accepted}, forged {forged}, refused {refused}")
    }
}

impl Figures {
    /// Whether the claim holds.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.assertions > 0 && self.accepted == self.assertions && self.forged > 0 && self.refused == self.forged
    }
}

/// Runs it.
///
/// # Errors
/// When the verifier cannot be started, or an assertion is not judged as it should be.
pub async fn run(assertions: u64) -> Result<Figures> {
    let verifier = Counterpart::python(include_str!("verifier.py")).await?;
    let folder = tempfile::tempdir()?;
    let house = House::open(folder.path(), &verifier.address).await?;
    let files = verifier.get("/", &[]).await?;
    let file = |name: &str| files.get(name).and_then(serde_json::Value::as_str).context("the verifier hands out keys");
    let token = format!("{}/token", verifier.url);
    let mut figures = Figures::default();
    for version in 1..=assertions {
        figures.assertions = version;
        if let Some(said) = asked(&house, file("good")?, &token, &token, version).await? {
            bail!("assertion {version} is refused: {said}");
        }
        figures.accepted = figures.accepted.saturating_add(1);
    }
    let elsewhere = "https://elsewhere.example/token";
    for (index, (name, audience, why)) in
        (1..).zip([("forged", token.as_str(), "InvalidSignatureError"), ("good", elsewhere, "InvalidAudienceError")])
    {
        figures.forged = index;
        let said = asked(&house, file(name)?, &token, audience, assertions.saturating_add(index)).await?;
        if !said.as_ref().is_some_and(|said| said.contains(why)) {
            bail!("an assertion that should end in {why} ends in {said:?}");
        }
        figures.refused = index;
    }
    Ok(figures)
}

/// Asks for a token with a key file; answers why there is none.
async fn asked(house: &House, file: &str, token: &str, audience: &str, version: u64) -> Result<Option<String>> {
    let account = Box::new(ServiceAccount::parse(file.as_bytes()).map_err(anyhow::Error::msg)?);
    let mut setup = setup(Means::ServiceAccount { account, audience: audience.to_owned() }, token, None, &["a", "b"])?;
    // Another version of the credential: what the former one obtained is not used.
    setup.version = u32::try_from(version)?;
    let source = house.sources.source(setup);
    Ok(source.token().await.err().map(|error| error.message))
}
