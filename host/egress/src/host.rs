//! Host names: which host a base URL may name, and which hosts a deployment exempts for development. Pure.
//!
//! The URL parser has already folded case, IDNA and every numeric spelling of an IPv4 address before a host gets here.

use std::collections::HashSet;
use std::net::IpAddr;

use url::{Host, Url};

use crate::address;
use crate::error::GateError;

/// What a connection is dialled for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Destination {
    /// A name to resolve: lower-case ASCII without a trailing dot.
    Name(String),
    /// A literal address.
    Address(IpAddr),
}

/// The exact `host:port` pairs that a deployment allows for development: over plain HTTP, and on any address.
#[derive(Debug, Clone, Default)]
pub(crate) struct DevelopmentHosts(HashSet<(String, u16)>);

impl DevelopmentHosts {
    pub(crate) fn parse(entries: &[String]) -> Result<Self, GateError> {
        let parse = |entry: &String| {
            let refuse = |reason| GateError::DevelopmentHost { entry: entry.clone(), reason };
            let (host, port) = entry.rsplit_once(':').ok_or_else(|| refuse("no port"))?;
            let port: u16 = port.parse().map_err(|_| refuse("the port is no number"))?;
            if port == 0 {
                return Err(refuse("the port is 0"));
            }
            if host.is_empty() || host.contains(['/', '@', '?', '#', '\\']) {
                return Err(refuse("the host is no name and no address"));
            }
            // Through the same parser as base URLs, so that equal hosts are equal texts.
            let url =
                Url::parse(&format!("http://{host}/")).map_err(|_| refuse("the host is no name and no address"))?;
            if url.port().is_some() {
                return Err(refuse("an IPv6 address needs brackets"));
            }
            let host = url.host_str().ok_or_else(|| refuse("no host"))?;
            Ok((bare(host).to_owned(), port))
        };
        entries.iter().map(parse).collect::<Result<_, _>>().map(Self)
    }

    fn contains(&self, host: &str, port: u16) -> bool {
        !self.0.is_empty() && self.0.contains(&(host.to_owned(), port))
    }
}

/// A judged host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JudgedHost {
    pub(crate) destination: Destination,
    pub(crate) port: u16,
    /// One of the exempt `host:port` pairs.
    pub(crate) development: bool,
}

/// Judges the host of a base URL.
pub(crate) fn judge(url: &Url, development_hosts: &DevelopmentHosts) -> Result<JudgedHost, String> {
    let host = url.host().ok_or("the base URL names no host")?;
    let port = url.port_or_known_default().filter(|port| *port != 0).ok_or("the base URL has no usable port")?;
    let text = host.to_string();
    let development = development_hosts.contains(bare(&text), port);
    let destination = match host {
        Host::Domain(name) => Destination::Name(bare(name).to_owned()),
        Host::Ipv4(address) => Destination::Address(IpAddr::V4(address)),
        Host::Ipv6(address) => Destination::Address(IpAddr::V6(address)),
    };
    if !development {
        match &destination {
            Destination::Name(name) => judge_name(name)?,
            Destination::Address(address) => address::judge(*address)
                .map_err(|kind| format!("{address} is an address that no connector may reach ({kind})"))?,
        }
    }
    Ok(JudgedHost { destination, port, development })
}

/// Without the dot that only says that the name is complete: a certificate and a pool know the name without it.
fn bare(host: &str) -> &str {
    host.strip_suffix('.').unwrap_or(host)
}

fn judge_name(name: &str) -> Result<(), String> {
    let label_is_sound = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if name.len() > 253 || !name.split('.').all(label_is_sound) {
        return Err(format!("{name:?} is not a valid host name"));
    }
    let last = name.rsplit('.').next().unwrap_or_default();
    // RFC 6761, RFC 6762, RFC 8375, and the name that ICANN reserved for private networks.
    let local =
        matches!(last, "localhost" | "localdomain" | "local" | "internal" | "intranet" | "lan" | "home" | "corp")
            || name == "home.arpa"
            || name.ends_with(".home.arpa")
            || !name.contains('.');
    if local {
        return Err(format!("{name:?} is a local name, and connectors reach public hosts only"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    fn hosts(entries: &[&str]) -> Result<DevelopmentHosts, GateError> {
        DevelopmentHosts::parse(&entries.iter().map(|e| (*e).to_owned()).collect::<Vec<_>>())
    }

    fn verdict(url: &str, development: &[&str]) -> Result<JudgedHost, String> {
        let url = Url::parse(url).map_err(|e| e.to_string())?;
        judge(&url, &hosts(development).unwrap())
    }

    #[test]
    fn every_numeric_spelling_of_a_private_address_is_refused() {
        for host in [
            "127.0.0.1",
            "127.1",
            "127.0.1",
            "2130706433",
            "0x7f000001",
            "0x7f.1",
            "0177.0.0.1",
            "017700000001",
            "127.0.0.1.",
            "0",
            "0.0.0.0",
            "169.254.169.254",
            "0xa9fea9fe",
            "2852039166",
            "0251.0376.0251.0376",
            "10.1",
            "192.168.257",
            "[::1]",
            "[::]",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
            "[::127.0.0.1]",
            "[64:ff9b::10.0.0.1]",
            "[64:ff9b:1::1]",
            "[2002:7f00:1::]",
            "[2001::1]",
            "[fe80::1]",
            "[fc00::1]",
            "[fec0::1]",
            "[fd00:ec2::254]",
            "100.64.0.1",
            "192.0.0.1",
            "198.18.0.1",
            "240.0.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "１２７.0.0.1",
            "127。0。0。1",
            "%31%32%37.0.0.1",
            "[fe80::1%25eth0]",
            "[::1%25lo]",
        ] {
            assert!(verdict(&format!("https://{host}/"), &[]).is_err(), "{host}");
        }
        for host in ["93.184.216.34", "1572395042", "[2606:4700:4700::1111]"] {
            let judged = verdict(&format!("https://{host}/"), &[]).unwrap();
            assert!(matches!(judged.destination, Destination::Address(_)), "{host}");
        }
    }

    #[test]
    fn local_names_are_refused_in_every_spelling() {
        for host in [
            "localhost",
            "LOCALHOST",
            "localhost.",
            "a.localhost",
            "ｌｏｃａｌｈｏｓｔ",
            "printer.local",
            "db.internal",
            "metadata.google.internal",
            "metadata.google.internal.",
            "intranet",
            "router.lan",
            "home.arpa",
            "x.home.arpa",
            "localhost.localdomain",
            "a..example.com",
            "-a.example.com",
            "a-.example.com",
            "example.com..",
            &format!("{}.example.com", "a".repeat(64)),
            &format!("{}com", format!("{}.", "a".repeat(60)).repeat(5)),
        ] {
            assert!(verdict(&format!("https://{host}/"), &[]).is_err(), "{host}");
        }
    }

    #[test]
    fn equal_names_become_equal_texts() {
        for (host, name) in [
            ("API.Example.COM", "api.example.com"),
            ("api.example.com.", "api.example.com"),
            ("api。example．com", "api.example.com"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("XN--BCHER-KVA.example", "xn--bcher-kva.example"),
        ] {
            let judged = verdict(&format!("https://{host}/"), &[]).unwrap();
            assert_eq!(judged.destination, Destination::Name(name.to_owned()), "{host}");
        }
    }

    #[test]
    fn a_development_host_is_exempt_for_exactly_its_port() {
        let development = ["127.0.0.1:4010", "localhost:80", "[::1]:4010", "Hooks.Internal:443"];
        for good in [
            "http://127.0.0.1:4010/x",
            "http://2130706433:4010",
            "http://localhost",
            "http://[::1]:4010/",
            "https://hooks.internal",
        ] {
            assert!(verdict(good, &development).unwrap().development, "{good}");
        }
        for bad in [
            "http://127.0.0.1:4011/",
            "http://127.0.0.2:4010/",
            "https://localhost/",
            "http://[::1]/",
            "https://a.hooks.internal",
        ] {
            assert!(verdict(bad, &development).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_development_host_that_means_nothing_clear_is_refused() {
        for bad in [
            "",
            "localhost",
            "localhost:",
            "localhost:x",
            "localhost:0",
            ":80",
            "http://a:80",
            "a/b:80",
            "u@a:80",
            "::1:80",
            "a:b:80",
            "a:70000",
        ] {
            assert!(hosts(&[bad]).is_err(), "{bad}");
        }
    }
}
