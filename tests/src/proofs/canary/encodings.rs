//! The encodings in which a secret is searched for, and in which the downstream sends it back. Pure.
//!
//! Written from the encodings' definitions and not with the host's scrubber, which is what is on trial.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::{GeneralPurpose, STANDARD_NO_PAD, URL_SAFE_NO_PAD};

/// One encoding.
pub(super) struct Encoding {
    pub(super) name: &'static str,
    /// What to search for; empty for an encoding of texts and a secret that is none.
    pub(super) needle: fn(&[u8]) -> Vec<u8>,
    /// Whether the downstream sends it back too: what the gate promises to take out of an answer.
    pub(super) reflected: bool,
}

/// All of them.
pub(super) const ENCODINGS: [Encoding; 12] = [
    Encoding { name: "raw", needle: <[u8]>::to_vec, reflected: true },
    Encoding { name: "base64", needle: |secret| shifted(&STANDARD_NO_PAD, secret, 0), reflected: true },
    Encoding { name: "base64url", needle: |secret| shifted(&URL_SAFE_NO_PAD, secret, 0), reflected: true },
    Encoding { name: "base64 one byte in", needle: |secret| shifted(&STANDARD_NO_PAD, secret, 1), reflected: true },
    Encoding { name: "base64 two bytes in", needle: |secret| shifted(&STANDARD_NO_PAD, secret, 2), reflected: true },
    Encoding { name: "hex", needle: |secret| hex::encode(secret).into(), reflected: true },
    Encoding { name: "upper hex", needle: |secret| hex::encode_upper(secret).into(), reflected: true },
    Encoding { name: "percent", needle: |secret| percent(secret, true), reflected: true },
    Encoding { name: "lower percent", needle: |secret| percent(secret, false), reflected: true },
    Encoding { name: "JSON", needle: json, reflected: true },
    Encoding { name: "HTML", needle: html, reflected: true },
    Encoding { name: "UTF-16", needle: utf16, reflected: false },
];

/// The characters of a longer text's base64 that the secret alone decides, when it begins `by` bytes into it: so it is
/// found with padding and without, and whatever stands around it.
fn shifted(engine: &GeneralPurpose, secret: &[u8], by: usize) -> Vec<u8> {
    let mut longer = vec![0; by];
    longer.extend_from_slice(secret);
    let text = engine.encode(longer);
    // Six bits a character: from the first that has no bit of what stands before to the last that has none of what follows.
    let (first, end) = ((by * 8).div_ceil(6), (by + secret.len()) * 8 / 6);
    text.into_bytes().into_iter().take(end).skip(first).collect()
}

/// RFC 3986: all but the unreserved characters.
fn percent(secret: &[u8], upper: bool) -> Vec<u8> {
    let text = secret.iter().fold(String::new(), |mut text, byte| {
        let _ = match (byte.is_ascii_alphanumeric() || b"-._~".contains(byte), upper) {
            (true, _) => write!(text, "{}", char::from(*byte)),
            (false, true) => write!(text, "%{byte:02X}"),
            (false, false) => write!(text, "%{byte:02x}"),
        };
        text
    });
    text.into()
}

/// The inside of a JSON string, as most write it.
fn json(secret: &[u8]) -> Vec<u8> {
    let Ok(text) = std::str::from_utf8(secret) else { return Vec::new() };
    let quoted = serde_json::Value::from(text).to_string();
    quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(&quoted).into()
}

fn html(secret: &[u8]) -> Vec<u8> {
    let Ok(text) = std::str::from_utf8(secret) else { return Vec::new() };
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    text.replace('"', "&quot;").replace('\'', "&#39;").into()
}

fn utf16(secret: &[u8]) -> Vec<u8> {
    std::str::from_utf8(secret).unwrap_or_default().encode_utf16().flat_map(u16::to_le_bytes).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    #[test]
    fn the_encodings_of_a_secret_are_what_their_definitions_say() {
        let of = |name: &str| {
            let encoding = ENCODINGS.iter().find(|encoding| encoding.name == name).unwrap();
            String::from_utf8((encoding.needle)(b"a/b\"c<d&e~")).unwrap()
        };
        assert_eq!(of("raw"), "a/b\"c<d&e~");
        assert_eq!(of("percent"), "a%2Fb%22c%3Cd%26e~");
        assert_eq!(of("lower percent"), "a%2fb%22c%3cd%26e~");
        assert_eq!(of("JSON"), "a/b\\\"c<d&e~");
        assert_eq!(of("HTML"), "a/b&quot;c&lt;d&amp;e~");
        assert_eq!(of("UTF-16").len(), 20);
    }

    #[test]
    fn a_secret_inside_a_longer_base64_text_is_found_at_each_alignment() {
        for length in 24..30 {
            let secret: Vec<u8> = (0..length).map(|n| b'0' + n).collect();
            for (before, by) in [("", 0), ("x", 1), ("xy", 2)] {
                let text = STANDARD.encode([before.as_bytes(), secret.as_slice(), b"after"].concat());
                let needle = shifted(&STANDARD_NO_PAD, &secret, by);
                assert!(needle.len() >= 30, "{length}");
                assert!(text.contains(std::str::from_utf8(&needle).unwrap()), "{length} {by}");
            }
        }
    }
}
