//! What a name may resolve to: mixed answers, aliases, rebinding between two requests, scopes and ports in an answer.

use crate::lab::{Answer, Lab, PUBLIC, Zone, reached_at};
use crate::tally::Tally;

const FORBIDDEN: [(&str, &str); 14] = [
    ("127.0.0.1", "loopback"),
    ("10.0.0.1", "private network"),
    ("172.16.0.1", "private network"),
    ("192.168.0.1", "private network"),
    ("169.254.169.254", "link-local"),
    ("100.64.0.1", "carrier-grade NAT"),
    ("0.0.0.0", "this network"),
    ("255.255.255.255", "broadcast"),
    ("::1", "loopback"),
    ("::ffff:192.168.0.1", "private network"),
    ("fd00:ec2::254", "unique local"),
    ("fe80::1", "link-local"),
    ("64:ff9b::7f00:1", "loopback"),
    ("2002:7f00:1::1", "6to4"),
];

const OTHER: &str = "8.8.8.8";
const PUBLIC_V6: &str = "2606:4700:4700::1111";
const MANY: [&str; 9] =
    ["1.1.1.1", "1.1.1.2", "1.1.1.3", "1.1.1.4", "1.1.1.5", "1.1.1.6", "1.1.1.7", "1.1.1.8", "1.1.1.9"];

/// What a vector comes to: a reason's words, or the address that is dialled last.
enum Expected {
    Refused(&'static str),
    Dialled(&'static str),
}
use Answer::{Alias, Turns};
use Expected::{Dialled, Refused};

/// A title, the zone, how many requests are sent to `downstream.example`, and what the last one comes to.
type Vector = (&'static str, &'static [(&'static str, Answer<'static>)], usize, Expected);

const VECTORS: [Vector; 22] = [
    ("an alias of a public name", &[("downstream.example", Alias("cdn.example"))], 1, Dialled(PUBLIC)),
    (
        "an alias of a private name",
        &[("downstream.example", Alias("db.internal")), ("db.internal", Turns(&[&["10.0.0.5"]]))],
        1,
        Refused("private network"),
    ),
    (
        "an alias of localhost",
        &[("downstream.example", Alias("localhost")), ("localhost", Turns(&[&["127.0.0.1"]]))],
        1,
        Refused("loopback"),
    ),
    (
        "an alias of an alias of a metadata service",
        &[
            ("downstream.example", Alias("a.example")),
            ("a.example", Alias("b.example")),
            ("b.example", Turns(&[&["169.254.169.254"]])),
        ],
        1,
        Refused("link-local"),
    ),
    (
        "an alias of an alias of a public name",
        &[
            ("downstream.example", Alias("a.example")),
            ("a.example", Alias("b.example")),
            ("b.example", Turns(&[&[OTHER]])),
        ],
        1,
        Dialled(OTHER),
    ),
    (
        "an alias of a name with mixed answers",
        &[("downstream.example", Alias("a.example")), ("a.example", Turns(&[&[PUBLIC, "::1"]]))],
        1,
        Refused("loopback"),
    ),
    ("rebound to loopback", &[("downstream.example", Turns(&[&[PUBLIC], &["127.0.0.1"]]))], 2, Refused("loopback")),
    (
        "rebound to a metadata service",
        &[("downstream.example", Turns(&[&[PUBLIC], &["169.254.169.254"]]))],
        2,
        Refused("link-local"),
    ),
    (
        "rebound at the third look-up",
        &[("downstream.example", Turns(&[&[PUBLIC], &[PUBLIC], &["10.0.0.1"]]))],
        3,
        Refused("private network"),
    ),
    (
        "an alias that is rebound",
        &[("downstream.example", Alias("a.example")), ("a.example", Turns(&[&[PUBLIC], &["::1"]]))],
        2,
        Refused("loopback"),
    ),
    ("rebound to another public address", &[("downstream.example", Turns(&[&[PUBLIC], &[OTHER]]))], 2, Dialled(OTHER)),
    (
        "rebound from loopback to a public address",
        &[("downstream.example", Turns(&[&["127.0.0.1"], &[PUBLIC]]))],
        2,
        Dialled(PUBLIC),
    ),
    (
        "a scope in a link-local answer",
        &[("downstream.example", Turns(&[&["[fe80::1%2]:443"]]))],
        1,
        Refused("link-local"),
    ),
    (
        "a scope in a public answer",
        &[("downstream.example", Turns(&[&["[2606:4700:4700::1111%2]:443"]]))],
        1,
        Dialled(PUBLIC_V6),
    ),
    ("another port in a public answer", &[("downstream.example", Turns(&[&["93.184.216.34:22"]]))], 1, Dialled(PUBLIC)),
    (
        "another port in a private answer",
        &[("downstream.example", Turns(&[&["127.0.0.1:8443"]]))],
        1,
        Refused("loopback"),
    ),
    (
        "a private address behind more public ones than are tried",
        &[(
            "downstream.example",
            Turns(&[&[MANY[0], MANY[1], MANY[2], MANY[3], MANY[4], MANY[5], MANY[6], MANY[7], MANY[8], "127.0.0.1"]]),
        )],
        1,
        Refused("loopback"),
    ),
    ("many public addresses", &[("downstream.example", Turns(&[&MANY]))], 1, Dialled(MANY[0])),
    ("a name without an address", &[("downstream.example", Turns(&[&[]]))], 1, Refused("has no address")),
    ("a name that lost its address", &[("downstream.example", Turns(&[&[PUBLIC], &[]]))], 2, Refused("has no address")),
    ("the same public address twice", &[("downstream.example", Turns(&[&[PUBLIC, PUBLIC]]))], 1, Dialled(PUBLIC)),
    (
        "the same private address twice",
        &[("downstream.example", Turns(&[&["10.0.0.1", "10.0.0.1"]]))],
        1,
        Refused("private network"),
    ),
];

pub(crate) async fn run(lab: &Lab, tally: &mut Tally) {
    for (ip, kind) in FORBIDDEN {
        for answers in [[ip, PUBLIC], [PUBLIC, ip]] {
            let outcome = lab.visit_name(&[&answers]).await;
            tally.refused(format_args!("a name with {answers:?}"), &format!("may reach ({kind})"), &outcome);
        }
        let outcome = lab.visit_name(&[&[PUBLIC, PUBLIC_V6, ip, OTHER]]).await;
        tally.refused(format_args!("a name with {ip} among public ones"), &format!("may reach ({kind})"), &outcome);
    }
    for answers in [[OTHER, PUBLIC], [PUBLIC, OTHER], [PUBLIC_V6, PUBLIC], [PUBLIC, PUBLIC_V6]] {
        let outcome = lab.visit_name(&[&answers]).await;
        tally.allowed(format_args!("a name with {answers:?}"), &reached_at(answers[0], 8443), &outcome);
    }
    for (title, names, requests, expected) in VECTORS {
        let outcome = lab.visit("https://downstream.example:8443/", &[], &Zone::of(names), requests).await;
        match expected {
            Refused(words) => tally.refused(title, words, &outcome),
            Dialled(ip) => tally.allowed(title, &reached_at(ip, 8443), &outcome),
        }
    }
}
