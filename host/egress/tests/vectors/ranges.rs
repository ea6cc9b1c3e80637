//! Address ranges: the first and the last address of each that is refused, as a name's answer, as a literal, and inside
//! the IPv6 addresses that carry an IPv4 address; and the addresses just outside, which pass.

use crate::lab::{Lab, Zone, reached_at};
use crate::tally::Tally;

/// First, last, kind.
const V4: [(&str, &str, &str); 17] = [
    ("0.0.0.0", "0.255.255.255", "this network"),
    ("10.0.0.0", "10.255.255.255", "private network"),
    ("100.64.0.0", "100.127.255.255", "carrier-grade NAT"),
    ("127.0.0.0", "127.255.255.255", "loopback"),
    ("169.254.0.0", "169.254.255.255", "link-local"),
    ("169.254.169.254", "169.254.170.2", "link-local"),
    ("172.16.0.0", "172.31.255.255", "private network"),
    ("192.0.0.0", "192.0.0.255", "protocol assignments"),
    ("192.0.2.0", "192.0.2.255", "documentation"),
    ("192.88.99.0", "192.88.99.255", "6to4 relay"),
    ("192.168.0.0", "192.168.255.255", "private network"),
    ("198.18.0.0", "198.19.255.255", "benchmarking"),
    ("198.51.100.0", "198.51.100.255", "documentation"),
    ("203.0.113.0", "203.0.113.255", "documentation"),
    ("224.0.0.0", "239.255.255.255", "multicast"),
    ("240.0.0.0", "255.255.255.254", "reserved"),
    ("255.255.255.255", "255.255.255.255", "broadcast"),
];

const V6: [(&str, &str, &str); 17] = [
    ("::", "::", "unspecified"),
    ("::1", "::1", "loopback"),
    ("64:ff9b:1::", "64:ff9b:1:ffff:ffff:ffff:ffff:ffff", "local NAT64"),
    ("100::", "100::ffff:ffff:ffff:ffff", "discard only"),
    ("2001::", "2001:0:ffff:ffff:ffff:ffff:ffff:ffff", "Teredo"),
    ("2001:1::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff", "protocol assignments"),
    ("2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", "documentation"),
    ("2002::", "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "6to4"),
    ("3ffe::", "3ffe:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "6bone"),
    ("3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff", "documentation"),
    ("4000::", "5f00::1", "not global unicast"),
    ("8000::", "fbff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "not global unicast"),
    ("fc00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "unique local"),
    ("fd00:ec2::254", "fd20:ce::254", "unique local"),
    ("fe80::", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "link-local"),
    ("fec0::", "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "site-local"),
    ("ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "multicast"),
];

/// Just outside of the ranges above.
const NEIGHBOURS: [&str; 44] = [
    "1.0.0.0",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "126.255.255.255",
    "128.0.0.0",
    "169.253.255.255",
    "169.255.0.0",
    "172.15.255.255",
    "172.32.0.0",
    "191.255.255.255",
    "192.0.1.0",
    "192.0.1.255",
    "192.0.3.0",
    "192.88.98.255",
    "192.88.100.0",
    "192.167.255.255",
    "192.169.0.0",
    "198.17.255.255",
    "198.20.0.0",
    "198.51.99.255",
    "198.51.101.0",
    "203.0.112.255",
    "203.0.114.0",
    "223.255.255.255",
    "2000::",
    "2000:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    "2001:200::",
    "2001:db7:ffff:ffff:ffff:ffff:ffff:ffff",
    "2001:db9::",
    "2001:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    "2003::",
    "2606:4700:4700::1111",
    "3ffd:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    "3fff:1000::",
    "::ffff:1.0.0.0",
    "::ffff:126.255.255.255",
    "::ffff:169.255.0.0",
    "::1.0.0.0",
    "::11.0.0.0",
    "64:ff9b::1.0.0.0",
    "64:ff9b::93.184.216.34",
    "64:ff9b::172.32.0.0",
];

pub(crate) async fn run(lab: &Lab, tally: &mut Tally) {
    for (first, last, kind) in V4 {
        for ip in ends(first, last) {
            refuse(lab, tally, ip, kind).await;
        }
        // What carries an IPv4 address is judged as that one.
        for prefix in ["::ffff:", "64:ff9b::"] {
            refuse(lab, tally, &format!("{prefix}{first}"), kind).await;
        }
        literal(lab, tally, first, kind).await;
    }
    for (first, last, kind) in V6 {
        for ip in ends(first, last) {
            refuse(lab, tally, ip, kind).await;
        }
        literal(lab, tally, &format!("[{first}]"), kind).await;
    }
    for ip in NEIGHBOURS {
        let outcome = lab.visit_name(&[&[ip]]).await;
        tally.allowed(format_args!("a name with {ip}"), &reached_at(ip, 8443), &outcome);
    }
}

fn ends<'a>(first: &'a str, last: &'a str) -> impl Iterator<Item = &'a str> {
    [first, last].into_iter().take(if first == last { 1 } else { 2 })
}

async fn refuse(lab: &Lab, tally: &mut Tally, ip: &str, kind: &str) {
    let outcome = lab.visit_name(&[&[ip]]).await;
    let words = format!("resolves to an address that no connector may reach ({kind})");
    tally.refused(format_args!("a name with {ip}"), &words, &outcome);
}

async fn literal(lab: &Lab, tally: &mut Tally, host: &str, kind: &str) {
    let base = format!("https://{host}:{}/", lab.trap.port);
    let outcome = lab.visit(&base, &[], &Zone::of(&[]), 1).await;
    tally.refused(&base, &format!("no connector may reach ({kind})"), &outcome);
}
