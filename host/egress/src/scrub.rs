//! Scrubbing: takes secrets, in every spelling in which servers reflect them, out of what the guest and the logs may see.
//!
//! Best effort by nature: a downstream that encrypts or reverses a secret before it reflects it is not caught. So response
//! headers go through an allow-list as well. The spellings are kept in wiped memory; the search automata that are built
//! from them are not wiped when dropped, which their library does not offer.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::OnceLock;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, percent_encode};
use zeroize::Zeroizing;

use crate::error::GateError;

/// What stands where a secret stood.
pub(crate) const REDACTED: &str = "[redacted]";

/// Shorter texts would be found everywhere. Every credential is longer (the vault sees to it); parts of one may not be.
const LEAST: usize = 6;

/// RFC 3986's unreserved characters stay.
const COMPONENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// What JavaScript's `encodeURIComponent` leaves.
const JAVASCRIPT: &AsciiSet = &COMPONENT.remove(b'!').remove(b'\'').remove(b'(').remove(b')').remove(b'*');
/// What a URL parser escapes in a query.
const QUERY: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'<').add(b'>').add(b'\'');

/// Finds and redacts a set of secrets.
pub struct Scrubber {
    /// Every spelling of every secret.
    needles: Vec<Zeroizing<Vec<u8>>>,
    /// Answers quickly that there is none, as nearly always.
    detector: Option<AhoCorasick>,
    /// Finds overlapping ones; built when there is one for the first time.
    finder: OnceLock<Option<AhoCorasick>>,
}

impl Scrubber {
    /// Prepares for a set of secrets. Those shorter than 6 bytes are left out.
    ///
    /// # Errors
    /// [`GateError::Scrub`] when the secrets are too large for a search automaton.
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, GateError> {
        let mut spellings = BTreeSet::new();
        for secret in secrets.into_iter().filter(|secret| secret.len() >= LEAST) {
            spell(secret, &mut |spelling| {
                if spelling.len() >= LEAST {
                    spellings.insert(spelling);
                }
            });
        }
        let needles: Vec<_> = spellings.into_iter().map(Zeroizing::new).collect();
        let detector = if needles.is_empty() { None } else { Some(build(&needles, MatchKind::LeftmostFirst)?) };
        Ok(Self { needles, detector, finder: OnceLock::new() })
    }

    /// Redacts bytes. Without a secret in them they come back as they are, uncopied.
    #[must_use]
    pub fn bytes(&self, bytes: Vec<u8>) -> Vec<u8> {
        self.redact(&bytes).unwrap_or(bytes)
    }

    /// Redacts text. Without a secret in it, it comes back as it is, uncopied.
    #[must_use]
    pub fn text(&self, text: String) -> String {
        match self.redact(text.as_bytes()) {
            None => text,
            Some(bytes) => match String::from_utf8(bytes) {
                Ok(text) => text,
                Err(broken) => String::from_utf8_lossy(broken.as_bytes()).into_owned(),
            },
        }
    }

    fn redact(&self, haystack: &[u8]) -> Option<Vec<u8>> {
        if !self.detector.as_ref()?.is_match(haystack) {
            return None;
        }
        let finder = self.finder.get_or_init(|| build(&self.needles, MatchKind::Standard).ok());
        // Without a finder nothing can be told apart: then all of it goes.
        let Some(finder) = finder else { return Some(REDACTED.as_bytes().to_vec()) };
        let mut spans: Vec<(usize, usize)> =
            finder.find_overlapping_iter(haystack).map(|found| (found.start(), found.end())).collect();
        spans.sort_unstable();
        let mut out = Vec::with_capacity(haystack.len());
        let mut end = 0;
        for (from, to) in spans {
            if from >= end {
                out.extend_from_slice(haystack.get(end..from).unwrap_or_default());
                out.extend_from_slice(REDACTED.as_bytes());
            }
            end = end.max(to);
        }
        out.extend_from_slice(haystack.get(end..).unwrap_or_default());
        Some(out)
    }
}

fn build(needles: &[Zeroizing<Vec<u8>>], kind: MatchKind) -> Result<AhoCorasick, GateError> {
    // A compact automaton rather than the fastest: there is one per connector instance, and the prefilter does the work.
    AhoCorasick::builder()
        .match_kind(kind)
        .kind(Some(AhoCorasickKind::ContiguousNFA))
        .build(needles.iter().map(|needle| needle.as_slice()))
        .map_err(|error| GateError::Scrub(error.to_string()))
}

/// Every spelling of one secret.
fn spell(secret: &[u8], emit: &mut impl FnMut(Vec<u8>)) {
    emit(secret.to_vec());
    for text in [hex::encode(secret), hex::encode_upper(secret)] {
        emit(text.into_bytes());
    }
    for engine in [&STANDARD, &STANDARD_NO_PAD, &URL_SAFE, &URL_SAFE_NO_PAD] {
        let text = Zeroizing::new(engine.encode(secret));
        // Base64 in a URL, and in JSON as PHP writes it.
        emit(percent_encode(text.as_bytes(), COMPONENT).to_string().into_bytes());
        emit(text.replace('/', "\\/").into_bytes());
        emit(text.as_bytes().to_vec());
    }
    // Base64 of a text that has the secret inside: only the characters that the secret alone decides.
    for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
        for (offset, skip) in [(0_usize, 0_usize), (1, 2), (2, 3)] {
            let mut shifted = Zeroizing::new(vec![0; offset]);
            shifted.extend_from_slice(secret);
            let end = shifted.len().saturating_mul(8) / 6;
            let text = Zeroizing::new(engine.encode(shifted.as_slice()));
            emit(text.as_bytes().get(skip..end).unwrap_or_default().to_vec());
        }
    }
    for set in [COMPONENT, JAVASCRIPT, QUERY, NON_ALPHANUMERIC] {
        let upper = percent_encode(secret, set).to_string();
        emit(lower_escapes(&upper).into_bytes());
        emit(upper.replace("%20", "+").into_bytes());
        emit(upper.into_bytes());
    }
    let every = secret.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "%{byte:02X}");
        text
    });
    emit(every.to_ascii_lowercase().into_bytes());
    emit(every.into_bytes());
    if let Ok(text) = std::str::from_utf8(secret) {
        for (slash, escaped) in [(false, ""), (true, ""), (false, "<>&"), (false, "<>&'"), (true, "<>&'\"")] {
            for ascii in [false, true] {
                for upper in [false, true] {
                    emit(json(text, slash, upper, |c| escaped.contains(c) || (ascii && !c.is_ascii())).into_bytes());
                }
            }
        }
        for upper in [false, true] {
            emit(json(text, false, upper, |_| true).into_bytes());
        }
        for quote in ["&#39;", "&#x27;", "&apos;"] {
            emit(html(text, quote).into_bytes());
        }
    }
}

/// The same escapes with lower-case digits.
fn lower_escapes(text: &str) -> String {
    let mut digits = 0;
    let lower = |c: char| {
        digits = if c == '%' { 2 } else { i32::max(digits - 1, -1) };
        if digits >= 0 && c != '%' { c.to_ascii_lowercase() } else { c }
    };
    text.chars().map(lower).collect()
}

/// The inside of a JSON string. `unicode` says what is written as `\uXXXX` though it need not be.
fn json(text: &str, slash: bool, upper: bool, unicode: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let short = match c {
            _ if unicode(c) => None,
            '"' => Some("\\\""),
            '\\' => Some("\\\\"),
            '/' if slash => Some("\\/"),
            '\n' => Some("\\n"),
            '\r' => Some("\\r"),
            '\t' => Some("\\t"),
            '\u{8}' => Some("\\b"),
            '\u{c}' => Some("\\f"),
            _ => None,
        };
        match short {
            Some(short) => out.push_str(short),
            None if unicode(c) || c.is_control() => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = if upper { write!(out, "\\u{unit:04X}") } else { write!(out, "\\u{unit:04x}") };
                }
            }
            None => out.push(c),
        }
    }
    out
}

fn html(text: &str, quote: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', quote)
}

/// Cuts a text for a message, at a character.
pub(crate) fn shorten(text: &str, most: usize) -> Cow<'_, str> {
    if text.len() <= most {
        return Cow::Borrowed(text);
    }
    let end = (0..=most).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    Cow::Owned(format!("{}…", text.get(..end).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use proptest::prelude::*;

    const SECRET: &str = "sk_live/51+Ab\"c=d&e's~ü";

    fn scrubber(secrets: &[&str]) -> Scrubber {
        Scrubber::new(secrets.iter().map(|s| s.as_bytes())).unwrap()
    }

    #[test]
    fn every_spelling_is_redacted() {
        let scrubber = scrubber(&[SECRET]);
        let json = "sk_live/51+Ab\\\"c=d&e's~ü";
        for reflected in [
            SECRET.to_owned(),
            hex::encode(SECRET),
            hex::encode_upper(SECRET),
            STANDARD.encode(SECRET),
            STANDARD_NO_PAD.encode(SECRET),
            URL_SAFE.encode(SECRET),
            URL_SAFE_NO_PAD.encode(SECRET),
            STANDARD.encode(SECRET).replace('/', "\\/"),
            percent_encode(STANDARD.encode(SECRET).as_bytes(), COMPONENT).to_string(),
            "sk_live%2F51%2BAb%22c%3Dd%26e%27s~%C3%BC".to_owned(),
            "sk_live%2f51%2bAb%22c%3dd%26e%27s~%c3%bc".to_owned(),
            "sk_live%2F51%2BAb%22c%3Dd%26e's~%C3%BC".to_owned(),
            json.to_owned(),
            json.replace('/', "\\/"),
            json.replace('ü', "\\u00fc"),
            json.replace('ü', "\\u00FC"),
            json.replace('/', "\\/").replace('ü', "\\u00fc"),
            json.replace('&', "\\u0026"),
            SECRET.chars().map(|c| format!("\\u{:04x}", u32::from(c))).collect(),
            "sk_live/51+Ab&quot;c=d&amp;e&#39;s~ü".to_owned(),
        ] {
            let body = format!("{{\"error\":\"bad token {reflected} given\"}}");
            assert_eq!(scrubber.text(body), "{\"error\":\"bad token [redacted] given\"}", "{reflected}");
        }
    }

    #[test]
    fn a_secret_inside_a_longer_base64_text_is_redacted_at_every_alignment() {
        let scrubber = scrubber(&[SECRET]);
        for before in 0..4 {
            for after in 0..4 {
                let text = format!("{}{SECRET}{}", "u".repeat(before), "v".repeat(after));
                for engine in [&STANDARD, &URL_SAFE_NO_PAD] {
                    let out = scrubber.text(engine.encode(&text));
                    assert!(out.contains(REDACTED), "{before} {after}");
                    assert!(out.len() - REDACTED.len() <= 12, "{before} {after}: {out}");
                }
            }
        }
    }

    #[test]
    fn overlapping_secrets_leave_no_rest() {
        let scrubber = scrubber(&["ABCDEFGHIJ", "FGHIJKLMNO", "CDEFGH12"]);
        assert_eq!(scrubber.text("xABCDEFGHIJKLMNOy".to_owned()), "x[redacted]y");
        assert_eq!(scrubber.text("ABCDEFGHIJABCDEFGHIJ".to_owned()), "[redacted][redacted]");
    }

    #[test]
    fn what_holds_no_secret_is_not_copied() {
        let body = b"{\"id\":1}".to_vec();
        let at = body.as_ptr();
        let scrubbed = scrubber(&[SECRET]).bytes(body);
        assert_eq!(scrubbed.as_ptr(), at);
        assert_eq!(scrubber(&[]).text("anything".to_owned()), "anything");
        assert_eq!(scrubber(&["short"]).text("a short text".to_owned()), "a short text");
    }

    #[test]
    fn a_text_is_cut_at_a_character() {
        assert_eq!(shorten("aüb", 2), "a…");
        assert_eq!(shorten("aüb", 4), "aüb");
    }

    proptest! {
        #[test]
        fn no_reflection_survives_in_any_surroundings(
            secret in "[ -~]{8,40}", before in "[ -~]{0,20}", after in "[ -~]{0,20}",
        ) {
            let scrubber = scrubber(&[&secret]);
            for reflected in [secret.clone(), STANDARD.encode(&secret), hex::encode(&secret)] {
                let out = scrubber.text(format!("{before}{reflected}{after}"));
                prop_assert!(out.contains(REDACTED));
                // Unless the surroundings and the mark spell it by chance.
                prop_assert!(!out.contains(&reflected));
            }
        }
    }
}
