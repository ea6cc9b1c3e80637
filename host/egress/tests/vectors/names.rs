//! Names: those of this machine and of private networks, in every spelling, and those that are none; beside them names
//! that differ in one respect, which are looked up in one spelling only.

use crate::lab::{Lab, PUBLIC, Zone, reached_at};
use crate::tally::{Outcome, Tally};

const LOCAL: &str = "is a local name";
const INVALID: &str = "is not a valid host name";
const NO_URL: &str = "no URL: ";

const REFUSED: [(&str, &str); 47] = [
    ("localhost", LOCAL),
    ("LOCALHOST", LOCAL),
    ("LocalHost", LOCAL),
    ("localhost.", LOCAL),
    ("a.localhost", LOCAL),
    ("a.b.localhost.", LOCAL),
    ("ｌｏｃａｌｈｏｓｔ", LOCAL),
    ("ⓛⓞⓒⓐⓛⓗⓞⓢⓣ", LOCAL),
    ("l%6fcalhost", LOCAL),
    ("%6c%6f%63%61%6c%68%6f%73%74", LOCAL),
    ("local\u{ad}host", LOCAL),
    ("localhost。", LOCAL),
    ("a。localhost", LOCAL),
    ("localhost.localdomain", LOCAL),
    ("ip6-localhost", LOCAL),
    ("printer.local", LOCAL),
    ("printer.LOCAL.", LOCAL),
    ("db.internal", LOCAL),
    ("metadata.google.internal", LOCAL),
    ("metadata.google.internal.", LOCAL),
    ("METADATA.GOOGLE.INTERNAL", LOCAL),
    ("metadata。google。internal", LOCAL),
    ("metadata", LOCAL),
    ("kubernetes", LOCAL),
    ("intranet", LOCAL),
    ("wiki.intranet", LOCAL),
    ("router.lan", LOCAL),
    ("nas.home", LOCAL),
    ("mail.corp", LOCAL),
    ("printer.home.arpa", LOCAL),
    ("home.arpa", LOCAL),
    ("HOME.arpa.", LOCAL),
    ("a..example.com", INVALID),
    (".example.com", INVALID),
    ("example.com..", INVALID),
    ("-a.example.com", INVALID),
    ("a-.example.com", INVALID),
    ("a*.example.com", INVALID),
    ("a+b.example.com", INVALID),
    ("xn--a.example.com", NO_URL),
    ("a b.example.com", NO_URL),
    ("a%00b.example.com", NO_URL),
    ("a%0d%0ab.example.com", NO_URL),
    ("a%2fb.example.com", NO_URL),
    ("a%40b.example.com", NO_URL),
    ("a<b.example.com", NO_URL),
    ("", NO_URL),
];

/// A host, and the one spelling in which it is looked up.
const ALLOWED: [(&str, &str); 25] = [
    ("localhost.example.com", "localhost.example.com"),
    ("notlocalhost.example", "notlocalhost.example"),
    ("a.localhost.example", "a.localhost.example"),
    ("local.example.com", "local.example.com"),
    ("printer.locale", "printer.locale"),
    ("internal.example.com", "internal.example.com"),
    ("db.internals", "db.internals"),
    ("metadata.google.internal.example.com", "metadata.google.internal.example.com"),
    ("lan.example.com", "lan.example.com"),
    ("corp.example.com", "corp.example.com"),
    ("home.arpa.example.com", "home.arpa.example.com"),
    ("nothome.arpa", "nothome.arpa"),
    ("API.Example.COM", "api.example.com"),
    ("api.example.com.", "api.example.com"),
    ("api。example．com", "api.example.com"),
    ("api%2eexample%2Ecom", "api.example.com"),
    ("a%70i.example.com", "api.example.com"),
    ("ａｐｉ.example.com", "api.example.com"),
    ("a\u{ad}pi.example.com", "api.example.com"),
    ("bücher.example", "xn--bcher-kva.example"),
    ("XN--BCHER-KVA.example", "xn--bcher-kva.example"),
    ("faß.example", "xn--fa-hia.example"),
    ("\u{212a}elvin.example", "kelvin.example"),
    ("a_b.example.com", "a_b.example.com"),
    ("example.com%2eevil.example", "example.com.evil.example"),
];

pub(crate) async fn run(lab: &Lab, tally: &mut Tally) {
    for (host, words) in REFUSED {
        refuse(lab, tally, host, words).await;
    }
    refuse(lab, tally, &format!("{}.example.com", "a".repeat(64)), INVALID).await;
    refuse(lab, tally, &format!("{}com", format!("{}.", "a".repeat(60)).repeat(5)), INVALID).await;
    for (host, name) in ALLOWED {
        allow(lab, tally, host, name).await;
    }
    let longest = format!("{}.example.com", "a".repeat(63));
    allow(lab, tally, &longest, &longest).await;
}

async fn refuse(lab: &Lab, tally: &mut Tally, host: &str, words: &str) {
    let zone = Zone::of(&[]);
    let base = format!("https://{host}:{}/", lab.trap.port);
    let outcome = lab.visit(&base, &[], &zone, 1).await;
    tally.refused(&base, words, &looked_up(&zone, outcome, &[]));
}

async fn allow(lab: &Lab, tally: &mut Tally, host: &str, name: &str) {
    let zone = Zone::of(&[]);
    let base = format!("https://{host}/");
    let outcome = lab.visit(&base, &[], &zone, 1).await;
    tally.allowed(&base, &reached_at(PUBLIC, 443), &looked_up(&zone, outcome, &[name]));
}

/// The outcome, unless something else was looked up than these names.
fn looked_up(zone: &Zone, outcome: Outcome, names: &[&str]) -> Outcome {
    let asked = zone.asked();
    if asked == names { outcome } else { Outcome { said: Ok(format!("a look-up of {asked:?}")), ..outcome } }
}
