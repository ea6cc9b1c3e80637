//! Base URLs, which an operator's settings may give: other schemes, user information, and every way to make two readers
//! of one URL see two hosts. Beside them the same with one thing changed.

use crate::lab::{Lab, PUBLIC, Zone, reached_at};
use crate::tally::{Outcome, Tally};

const SCHEME: &str = "use https";
const USER: &str = "must not carry user or password";
const FRAGMENT: &str = "must not have a fragment";

/// `TRAP` stands for the port of the listener that nobody may reach.
const REFUSED: [(&str, &str); 42] = [
    ("http://api.example.com/", "plain http is refused"),
    ("HTTP://api.example.com/", "plain http is refused"),
    ("http://api.example.com:443/", "plain http is refused"),
    ("http://93.184.216.34/", "plain http is refused"),
    ("ftp://api.example.com/", SCHEME),
    ("ws://api.example.com/", SCHEME),
    ("wss://api.example.com/", SCHEME),
    ("gopher://api.example.com:70/", SCHEME),
    ("dict://api.example.com:2628/", SCHEME),
    ("ldap://api.example.com:389/", SCHEME),
    ("https+unix://api.example.com:1/", SCHEME),
    ("file:///etc/passwd", "names no host"),
    ("file://api.example.com/etc/passwd", "no usable port"),
    ("data:text/plain,x", "names no host"),
    ("javascript:alert(1)", "names no host"),
    ("unix:/run/docker.sock", "names no host"),
    ("https://user@api.example.com/", USER),
    ("https://user:password@api.example.com/", USER),
    ("https://:password@api.example.com/", USER),
    ("https://api.example.com@127.0.0.1:TRAP/", USER),
    ("https://api.example.com:443@127.0.0.1:TRAP/", USER),
    ("https://127.0.0.1:TRAP@api.example.com/", USER),
    ("https://api.example.com%40x@127.0.0.1:TRAP/", USER),
    ("https://a@b@127.0.0.1:TRAP/", USER),
    ("https://api.example.com/#x", FRAGMENT),
    ("https://api.example.com#@127.0.0.1:TRAP/", FRAGMENT),
    ("https://api.example.com/?a=b#", FRAGMENT),
    ("https://127.0.0.1:TRAP\\@api.example.com/", "loopback"),
    ("https://127.0.0.1:TRAP/@api.example.com/", "loopback"),
    ("https://127.0.0.1:TRAP?@api.example.com/", "loopback"),
    ("https:127.0.0.1:TRAP/", "loopback"),
    ("https:/127.0.0.1:TRAP/", "loopback"),
    ("https:///127.0.0.1:TRAP/", "loopback"),
    ("https:\\\\127.0.0.1:TRAP/", "loopback"),
    ("https://127.0\t.0.1:TRAP/", "loopback"),
    ("https://127.0\n.0.1:TRAP/", "loopback"),
    ("  https://127.0.0.1:TRAP/  ", "loopback"),
    ("https://api.example.com:0/", "no usable port"),
    ("https://api.example.com:65536/", "no URL: "),
    ("https://api.example.com:443:TRAP/", "no URL: "),
    ("//api.example.com/", "no URL: "),
    ("/hook", "no URL: "),
];

/// A base URL, and the port at which the public host is reached.
const ALLOWED: [(&str, u16); 18] = [
    ("https://api.example.com/", 443),
    ("HTTPS://api.example.com/", 443),
    ("https://api.example.com:443/", 443),
    ("https://api.example.com:8443/", 8443),
    ("https://api.example.com:/", 443),
    ("https://api.example.com/@127.0.0.1/", 443),
    ("https://api.example.com\\@127.0.0.1/", 443),
    ("https://api.example.com?@127.0.0.1/", 443),
    ("https://api.example.com/?redirect=http://127.0.0.1/", 443),
    ("https://api.example.com/http://127.0.0.1/", 443),
    ("https:api.example.com/", 443),
    ("https:///api.example.com/", 443),
    ("https:\\\\api.example.com/", 443),
    ("https://api.example\t.com/", 443),
    ("https://api.example\n.com/", 443),
    ("  https://api.example.com/  ", 443),
    ("https://api.example.com/a/../b", 443),
    ("https://api.example.com/?a=b", 443),
];

/// Hosts that a deployment may name for development: `OPEN` is the exempt port, on loopback.
const EXEMPT_REFUSED: [(&str, &str); 11] = [
    ("http://127.0.0.1:TRAP/", "loopback"),
    ("https://127.0.0.1:TRAP/", "loopback"),
    ("http://127.0.0.2:OPEN/", "loopback"),
    ("http://127.1.0.1:OPEN/", "loopback"),
    ("http://[::1]:OPEN/", "loopback"),
    ("http://[::ffff:127.0.0.1]:OPEN/", "loopback"),
    ("http://0.0.0.0:OPEN/", "this network"),
    ("http://localhost:OPEN/", "is a local name"),
    ("http://a.hooks.internal:OPEN/", "is a local name"),
    ("http://hooks.internal:TRAP/", "is a local name"),
    ("http://api.example.com:OPEN/", "plain http is refused"),
];

const EXEMPT_ALLOWED: [&str; 7] = [
    "http://127.0.0.1:OPEN/",
    "http://127.1:OPEN/",
    "http://2130706433:OPEN/",
    "http://0x7f.1:OPEN/",
    "http://127.0.0.1.:OPEN/",
    "http://hooks.internal:OPEN/",
    "http://HOOKS.Internal.:OPEN/",
];

pub(crate) async fn run(lab: &Lab, tally: &mut Tally) {
    let trap = lab.trap.port.to_string();
    for (base, words) in REFUSED {
        let base = base.replace("TRAP", &trap);
        let outcome = lab.visit(&base, &[], &Zone::of(&[]), 1).await;
        tally.refused(format_args!("{base:?}"), words, &outcome);
    }
    let long = format!("https://api.example.com/{}", "a".repeat(8 * 1024));
    let outcome = lab.visit(&long, &[], &Zone::of(&[]), 1).await;
    tally.refused("a base URL of 8 KiB", "cannot be used in a request", &outcome);
    for (base, port) in ALLOWED {
        let zone = Zone::of(&[]);
        let outcome = lab.visit(base, &[], &zone, 1).await;
        let asked = zone.asked();
        let said = if asked == ["api.example.com"] { outcome.said } else { Ok(format!("a look-up of {asked:?}")) };
        tally.allowed(format_args!("{base:?}"), &reached_at(PUBLIC, port), &Outcome { said, ..outcome });
    }
    exempt(lab, tally, &trap).await;
}

async fn exempt(lab: &Lab, tally: &mut Tally, trap: &str) {
    let downstream = crate::kit::Downstream::ok().await;
    let open = downstream.address.port();
    let development = [format!("127.0.0.1:{open}"), format!("Hooks.Internal:{open}")];
    let zone = || Zone::of(&[("hooks.internal", crate::lab::Answer::Turns(&[&["127.0.0.1"]]))]);
    for (base, words) in EXEMPT_REFUSED {
        let base = base.replace("TRAP", trap).replace("OPEN", &open.to_string());
        let outcome = lab.visit(&base, &development, &zone(), 1).await;
        tally.refused(format_args!("{base} with {development:?}"), words, &outcome);
    }
    for base in EXEMPT_ALLOWED {
        let base = base.replace("OPEN", &open.to_string());
        let outcome = lab.visit(&base, &development, &zone(), 1).await;
        tally.allowed(format_args!("{base} with {development:?}"), &reached_at("127.0.0.1", open), &outcome);
    }
    assert_eq!(downstream.seen().len(), EXEMPT_ALLOWED.len(), "it saw every allowed request, and no other");
}
