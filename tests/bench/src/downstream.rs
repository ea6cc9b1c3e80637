//! A webhook receiver in a process of its own, so that its CPU time is not counted.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use sgen_egress::{AllowRule, Auth, EndpointSpec, Gate, GateConfig, Grant, SystemResolver, TcpDialer, TlsTrust};
use sgen_model::{InstanceId, SecretBytes, SlotName, SystemClock};
use sgen_tests::fakes::control::Addresses;
use sgen_vault::{Credential, Credentials};
use url::Url;

const SECRET: &str = "whsec_c2dlbi1iZW5jaC1zZWNyZXQtb2YtMzItYnl0ZXMhIQ==";

/// The running receiver; ends with this value.
pub(crate) struct Receiver {
    child: Child,
    addresses: Addresses,
}

impl Receiver {
    pub(crate) fn start() -> Result<Self> {
        let program = sgen_tests::paths::own_binary("sgen-downstream")?;
        let mut child = Command::new(program)
            .args(["--hubspot-token", "unused-token", "--webhook-secret", SECRET])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start sgen-downstream")?;
        let mut line = String::new();
        let output = child.stdout.take().context("sgen-downstream has no output")?;
        BufReader::new(output).read_line(&mut line)?;
        let addresses = serde_json::from_str(&line).with_context(|| format!("sgen-downstream said {line:?}"))?;
        Ok(Self { child, addresses })
    }

    /// The URL that a webhook instance is pointed at.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/hook", self.addresses.webhook)
    }

    /// A grant of the webhook connector's endpoint, with a gate of its own.
    pub(crate) fn grant(&self) -> Result<Arc<Grant>> {
        let config = GateConfig {
            development_hosts: vec![self.addresses.webhook.to_string()],
            tls: TlsTrust::Roots(Vec::new()),
            ..GateConfig::default()
        };
        let gate = Gate::new(config, Arc::new(SystemResolver::new()), Arc::new(TcpDialer), Arc::new(SystemClock))?;
        let slot = SlotName::parse("secret")?;
        let mut spec = EndpointSpec::new("receiver", Url::parse(&self.url())?);
        spec.allow = vec![AllowRule { methods: vec![http::Method::POST], paths: vec![String::new()] }];
        spec.auth = Some(Auth::Hmac { slot: slot.clone() });
        let secret = Credential::new(1, SecretBytes::from(SECRET.to_owned()));
        let credentials: Credentials = [(slot, secret)].into_iter().collect();
        Ok(gate.grant(&InstanceId::parse("bench")?, vec![spec], credentials)?)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        // It ends when its input closes; waiting leaves no zombie.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}
