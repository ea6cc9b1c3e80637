//! The release of this proof: one connector per scheme, all with the component that repeats what it is answered.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use jiff::{SignedDuration, Timestamp};
use sgen_catalog::folder::{Draft, host_version, write};
use sgen_catalog::trust::{RoleKeys, RootDocument};
use sgen_catalog::{Manifest, SigningKey, TrustRoot};

use super::scheme::{SCHEMES, Scheme};
use crate::paths;

/// A connector's id in this release.
pub(super) fn connector(scheme: &Scheme) -> String {
    format!("canary-{}", scheme.name)
}

/// Signs the release into `folder` with keys made for it; answers the root document that trusts it.
pub(super) fn sign(keys: &Path, folder: &Path) -> Result<PathBuf> {
    fs::create_dir_all(keys)?;
    let root_key = SigningKey::generate(&keys.join("root.key"))?;
    let release_key = SigningKey::generate(&keys.join("release.key"))?;
    let role = |key: &SigningKey| RoleKeys { threshold: 1, keys: BTreeSet::from([key.public()]) };
    let now = Timestamp::now();
    let (from, to) = (now - SignedDuration::from_hours(1), now + SignedDuration::from_hours(24));
    let root = RootDocument::new(1, from, to, role(&root_key), role(&release_key)).sign(&[&root_key])?;
    let root_file = keys.join("root.dsse.json");
    fs::write(&root_file, &root)?;
    let file = paths::guest("canary")?;
    let component = fs::read(&file).with_context(|| format!("{} cannot be read", file.display()))?;
    let connectors = SCHEMES.iter().map(|scheme| Ok((manifest(scheme)?, component.clone()))).collect::<Result<_>>()?;
    let draft = Draft {
        version: "2026.11.0".to_owned(),
        sequence: 1,
        issued: now,
        expires: to,
        minimum_host: host_version()?,
        connectors,
        revoked: BTreeSet::new(),
    };
    write(folder, &draft, &TrustRoot::parse(&root)?, &[&release_key])?;
    Ok(root_file)
}

fn manifest(scheme: &Scheme) -> Result<Manifest> {
    let Scheme { name, auth, accepts, .. } = scheme;
    let text = format!(
        r#"
id = "canary-{name}"
version = "0.1.0"
type = "custom"
title = "Canary: {name}"
summary = "Repeats what it is answered wherever it can say something."
world = "sgen:connector@1.0.0"

[endpoints.api]
base_setting = "url"
base_pattern = "https://**"
allow = [{{ methods = ["GET", "POST"], paths = ["/echo", "/dump"] }}]
auth = {auth}
timeout = "30s"
max_response = "1MiB"

[credentials.token]
title = "Credential"
help = "One of the secrets that are searched for."
accepts = ["{accepts}"]

[settings.url]
type = "url"
title = "Downstream"
help = "The base URL of the downstream that sends everything back."
required = true

[settings.list]
type = "string"
title = "List"
help = "Live choices, for what they show."
options = "echo"

[mapping."*"]
type = "json"
title = "Any field"

[scope]
default = ["form:*"]

[batch]
events = 25
bytes = "1MiB"
linger = "50ms"
"#
    );
    Manifest::parse(&text).map_err(|error| anyhow::anyhow!("the manifest of {name}: {}", error.reasons().join("; ")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_scheme_has_a_manifest_that_is_valid() {
        for scheme in &SCHEMES {
            assert_eq!(manifest(scheme).unwrap().id.as_str(), connector(scheme));
        }
    }
}
