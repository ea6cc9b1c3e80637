//! Signatures of webhooks, after the Standard Webhooks specification 1.0 (symmetric scheme `v1`). Pure.
//!
//! The receiver computes HMAC-SHA256 over `id.timestamp.body`. While a secret rotates, two signatures are sent, so that the
//! receiver can change over when it likes.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_PAD_INDIFFERENT};
use http::HeaderValue;
use ring::hmac;
use sgen_model::Timestamp;
use zeroize::Zeroizing;

/// The specification: "between 24 bytes (192 bits) and 64 bytes (512 bits)".
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

const PREFIX: &str = "whsec_";

const ID_MOST: usize = 256;

/// Signs with the current secret, and with the previous one while it counts.
pub(crate) struct Signer {
    current: hmac::Key,
    previous: Option<(hmac::Key, Timestamp)>,
}

impl Signer {
    pub(crate) fn new(current: &[u8]) -> Self {
        Self { current: key(current), previous: None }
    }

    pub(crate) fn with_previous(mut self, secret: &[u8], until: Timestamp) -> Self {
        self.previous = Some((key(secret), until));
        self
    }

    /// The values of `webhook-timestamp` and `webhook-signature`.
    pub(crate) fn sign(&self, id: &str, now: Timestamp, body: &[u8]) -> Option<(HeaderValue, HeaderValue)> {
        let seconds = now.0 / 1000;
        let head = format!("{id}.{seconds}.");
        let mut signatures = one(&self.current, &head, body);
        if let Some((previous, _)) = self.previous.as_ref().filter(|(_, until)| now < *until) {
            signatures.push(' ');
            signatures.push_str(&one(previous, &head, body));
        }
        Some((HeaderValue::from(seconds), HeaderValue::try_from(signatures).ok()?))
    }
}

fn key(secret: &[u8]) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, secret)
}

fn one(key: &hmac::Key, head: &str, body: &[u8]) -> String {
    let mut context = hmac::Context::with_key(key);
    context.update(head.as_bytes());
    context.update(body);
    let mut text = String::with_capacity(2 * 47 + 1);
    text.push_str("v1,");
    STANDARD.encode_string(context.sign(), &mut text);
    text
}

/// Decodes `whsec_<base64>`, or the base64 alone.
pub(crate) fn decode_secret(text: &[u8]) -> Result<Zeroizing<Vec<u8>>, &'static str> {
    let text = text.strip_prefix(PREFIX.as_bytes()).unwrap_or(text);
    let secret = STANDARD_PAD_INDIFFERENT
        .decode(text)
        .map(Zeroizing::new)
        .map_err(|_| "a signing secret is written in base64, with or without the prefix whsec_")?;
    if SECRET_BYTES.contains(&secret.len()) {
        Ok(secret)
    } else {
        Err("a signing secret has 24 to 64 bytes, written in base64")
    }
}

/// Whether a text can be a message's id: it is part of what is signed, so it must be read in one way only.
pub(crate) fn id_is_sound(id: &str) -> bool {
    (1..=ID_MOST).contains(&id.len())
        && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b':' | b'-'))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    const SECRET: &[u8] = b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const NOW: Timestamp = Timestamp(1_614_265_330_000);
    const BODY: &[u8] = b"{\"test\": 2432232314}";
    /// The vector of the specification's own test suites.
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    #[test]
    fn the_published_vector_comes_out() {
        let signer = Signer::new(&decode_secret(SECRET).unwrap());
        let (timestamp, signature) = signer.sign(ID, NOW, BODY).unwrap();
        assert_eq!(timestamp, "1614265330");
        assert_eq!(signature, SIGNATURE);
    }

    #[test]
    fn two_signatures_are_sent_until_the_previous_secret_expires() {
        let previous = decode_secret(SECRET).unwrap();
        let signer = Signer::new(&[9; 32]).with_previous(&previous, Timestamp(NOW.0 + 1));
        let both = signer.sign(ID, NOW, BODY).unwrap().1;
        let both = both.to_str().unwrap();
        assert!(both.ends_with(&format!(" {SIGNATURE}")), "{both}");
        let later = signer.sign(ID, Timestamp(NOW.0 + 1), BODY).unwrap().1;
        assert!(!later.to_str().unwrap().contains(' '));
    }

    #[test]
    fn a_secret_is_24_to_64_bytes_in_base64() {
        for (length, good) in [(23, false), (24, true), (64, true), (65, false)] {
            let text = STANDARD.encode(vec![7; length]);
            assert_eq!(decode_secret(text.as_bytes()).is_ok(), good, "{length}");
            assert_eq!(decode_secret(format!("whsec_{}", text.trim_end_matches('=')).as_bytes()).is_ok(), good);
        }
        assert!(decode_secret(b"not base64 at all, really not!!!").is_err());
    }

    #[test]
    fn an_id_cannot_smuggle_anything_into_what_is_signed() {
        assert!(id_is_sound("evt_1.a:b-c"));
        for bad in ["", "a b", "a\n", "ä", "a,b", &"x".repeat(257)] {
            assert!(!id_is_sound(bad), "{bad:?}");
        }
    }
}
