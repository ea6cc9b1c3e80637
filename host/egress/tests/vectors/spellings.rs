//! Spellings of an address in a URL: decimal, octal, hexadecimal, short, wide and escaped digits, IPv6 in all its forms.
//! A forbidden address is refused in each; a public one, spelled alike, is dialled as itself.

use crate::lab::{Lab, Zone, reached_at};
use crate::tally::{Outcome, Tally};

/// A loopback address and a public one, spelled alike; and the public one as it is dialled.
const PAIRS: [(&str, &str, &str); 27] = [
    ("127.0.0.1", "93.184.216.34", "93.184.216.34"),
    ("127.0.0.1.", "93.184.216.34.", "93.184.216.34"),
    ("127.1", "93.12113954", "93.184.216.34"),
    ("127.0.1", "93.184.55330", "93.184.216.34"),
    ("2130706433", "1572395042", "93.184.216.34"),
    ("2130706433.", "1572395042.", "93.184.216.34"),
    ("0x7f000001", "0x5db8d822", "93.184.216.34"),
    ("0X7F000001", "0X5DB8D822", "93.184.216.34"),
    ("0x000000007f000001", "0x000000005db8d822", "93.184.216.34"),
    ("0x7f.0x0.0x0.0x1", "0x5d.0xb8.0xd8.0x22", "93.184.216.34"),
    ("0x7f.1", "0x5d.12113954", "93.184.216.34"),
    ("017700000001", "013556154042", "93.184.216.34"),
    ("0177.0.0.01", "0135.0270.0330.042", "93.184.216.34"),
    ("0177.0x0.1", "0135.0xb8.55330", "93.184.216.34"),
    ("１２７.0.0.1", "９３.184.216.34", "93.184.216.34"),
    ("127。0。0。1", "93。184。216。34", "93.184.216.34"),
    ("127．0｡0．1", "93．184｡216．34", "93.184.216.34"),
    ("%31%32%37.0.0.1", "%39%33.184.216.34", "93.184.216.34"),
    ("127%2e0%2E0%2e1", "93%2e184%2E216%2e34", "93.184.216.34"),
    ("①②⑦.0.0.1", "⑨③.184.216.34", "93.184.216.34"),
    ("[::ffff:127.0.0.1]", "[::ffff:93.184.216.34]", "::ffff:93.184.216.34"),
    ("[::FFFF:7F00:1]", "[::FFFF:5DB8:D822]", "::ffff:93.184.216.34"),
    ("[0:0:0:0:0:ffff:7f00:0001]", "[0:0:0:0:0:ffff:5db8:d822]", "::ffff:93.184.216.34"),
    ("[::127.0.0.1]", "[::93.184.216.34]", "::93.184.216.34"),
    ("[::7f00:1]", "[::5db8:d822]", "::93.184.216.34"),
    ("[64:ff9b::127.0.0.1]", "[64:ff9b::93.184.216.34]", "64:ff9b::93.184.216.34"),
    ("[0064:FF9B:0:0:0:0:7f00:1]", "[0064:FF9B:0:0:0:0:5db8:d822]", "64:ff9b::93.184.216.34"),
];

/// Others that are refused, with words of the reason.
const REFUSED: [(&str, &str); 40] = [
    ("[::1]", "loopback"),
    ("[0:0:0:0:0:0:0:1]", "loopback"),
    ("[0000:0000:0000:0000:0000:0000:0000:0001]", "loopback"),
    ("[::]", "unspecified"),
    ("0", "this network"),
    ("0x0", "this network"),
    ("00", "this network"),
    ("0.0", "this network"),
    ("1", "this network"),
    ("2852039166", "link-local"),
    ("0xa9fea9fe", "link-local"),
    ("0251.0376.0251.0376", "link-local"),
    ("169.254.43518", "link-local"),
    ("169.16689662", "link-local"),
    ("0xa9.0xfe.0xa9.0xfe", "link-local"),
    ("[::ffff:a9fe:a9fe]", "link-local"),
    ("[64:ff9b::a9fe:a9fe]", "link-local"),
    ("10.1", "private network"),
    ("167772161", "private network"),
    ("192.168.257", "private network"),
    ("3232235777", "private network"),
    ("0xc0a80101", "private network"),
    ("[2002:7f00:1::]", "6to4"),
    ("[2002:5db8:d822::1]", "6to4"),
    ("[2001:0:5db8:d822::1]", "Teredo"),
    ("[64:ff9b:1::5db8:d822]", "local NAT64"),
    ("[fd00:ec2::254]", "unique local"),
    ("4294967295", "broadcast"),
    ("0xffffffff", "broadcast"),
    ("[fe80::1%25eth0]", "no URL: invalid IPv6"),
    ("[fe80::1%eth0]", "no URL: invalid IPv6"),
    ("[::1%25lo]", "no URL: invalid IPv6"),
    ("[2606:4700:4700::1111%251]", "no URL: invalid IPv6"),
    ("[127.0.0.1]", "no URL: invalid IPv6"),
    ("[::ffff:127.1]", "no URL: invalid IPv6"),
    ("256.256.256.256", "no URL: invalid IPv4"),
    ("127.0.0.256", "no URL: invalid IPv4"),
    ("4294967296", "no URL: invalid IPv4"),
    ("0x100000000", "no URL: invalid IPv4"),
    ("1.2.3.4.5", "no URL: invalid IPv4"),
];

pub(crate) async fn run(lab: &Lab, tally: &mut Tally) {
    let port = lab.trap.port;
    for (forbidden, public, dialled) in PAIRS {
        let base = format!("https://{forbidden}:{port}/");
        let outcome = lab.visit(&base, &[], &Zone::of(&[]), 1).await;
        tally.refused(&base, "no connector may reach (loopback)", &outcome);
        let base = format!("https://{public}:{port}/");
        let zone = Zone::of(&[]);
        let outcome = lab.visit(&base, &[], &zone, 1).await;
        // An address is never looked up as a name.
        let said = if zone.asked().is_empty() { outcome.said } else { Ok(format!("a look-up of {:?}", zone.asked())) };
        tally.allowed(&base, &reached_at(dialled, port), &Outcome { said, ..outcome });
    }
    for (host, words) in REFUSED {
        let base = format!("https://{host}:{port}/");
        let outcome = lab.visit(&base, &[], &Zone::of(&[]), 1).await;
        tally.refused(&base, words, &outcome);
    }
}
