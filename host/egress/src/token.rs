//! The seam to whoever obtains access tokens: the gate asks for one per request, and says when one was refused.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use futures_util::future::BoxFuture;
use http::header::HeaderValue;
use zeroize::Zeroizing;

use crate::auth;
use crate::error::{GateError, SendError};
use crate::scrub::Scrubber;

/// How many tokens are looked for in answers: an access token, a refresh token and an assertion of the present and the
/// last two renewals. An answer that is under way knows no older ones.
const REMEMBERED: usize = 9;

/// A token that authenticates a request: `Authorization: Bearer …` (RFC 6750). It cannot be printed or copied.
pub struct AccessToken {
    value: HeaderValue,
    serial: u64,
}

impl AccessToken {
    /// Prepares a token. `serial` tells it from the other tokens of its source.
    ///
    /// # Errors
    /// What is wrong with the text, without repeating it.
    pub fn new(text: &[u8], serial: u64) -> Result<Self, &'static str> {
        Ok(Self { value: auth::bearer(text)?, serial })
    }

    /// Tells it from the other tokens of its source.
    #[must_use]
    pub fn serial(&self) -> u64 {
        self.serial
    }

    pub(crate) fn value(&self) -> HeaderValue {
        self.value.clone()
    }
}

/// Obtains access tokens for one credential slot of one connector instance.
pub trait TokenSource: Send + Sync + 'static {
    /// A token for a request that goes now. Dropping the future gives up the wait and nothing else.
    ///
    /// # Errors
    /// [`crate::SendErrorKind::Credential`] when the operator must act, [`crate::SendErrorKind::Connect`] when it may be
    /// tried again. Nothing was sent to the downstream in either case.
    fn token(&self) -> BoxFuture<'_, Result<Arc<AccessToken>, SendError>>;

    /// The downstream answered 401 to a request with this token. Answers another one to try once, if there is any hope in it.
    ///
    /// # Errors
    /// As [`TokenSource::token`].
    fn refused(&self, token: Arc<AccessToken>) -> BoxFuture<'_, Result<Option<Arc<AccessToken>>, SendError>>;

    /// Takes out of answers what this source has obtained and what it obtains it with.
    fn scrubber(&self) -> &LiveScrubber;
}

/// A source of tokens, as an endpoint's authentication names it.
#[derive(Clone)]
pub struct Tokens(pub Arc<dyn TokenSource>);

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tokens")
    }
}

impl PartialEq for Tokens {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Tokens {}

/// Finds and redacts secrets that change while requests are under way.
#[derive(Default)]
pub struct LiveScrubber(RwLock<Known>);

#[derive(Default)]
struct Known {
    lasting: Vec<Zeroizing<Vec<u8>>>,
    recent: VecDeque<Zeroizing<Vec<u8>>>,
    scrubber: Option<Arc<Scrubber>>,
}

impl LiveScrubber {
    /// Replaces what is looked for as long as it is not replaced again, such as a client's secret.
    ///
    /// # Errors
    /// [`GateError::Scrub`] when the secrets are too large to be looked for; the former ones stay then.
    pub fn keep(&self, secrets: Vec<Zeroizing<Vec<u8>>>) -> Result<(), GateError> {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let scrubber = Scrubber::new(secrets.iter().chain(&known.recent).map(|secret| secret.as_slice()))?;
        known.lasting = secrets;
        known.scrubber = Some(Arc::new(scrubber));
        Ok(())
    }

    /// Adds secrets that were just obtained. The oldest of those are forgotten.
    ///
    /// # Errors
    /// [`GateError::Scrub`] when they are too large to be looked for: then they must not be used.
    pub fn learn(&self, secrets: Vec<Zeroizing<Vec<u8>>>) -> Result<(), GateError> {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let fresh: Vec<_> = secrets.into_iter().filter(|secret| !known.recent.contains(secret)).collect();
        if fresh.is_empty() {
            return Ok(());
        }
        let all = known.lasting.iter().chain(&known.recent).chain(&fresh);
        let scrubber = Scrubber::new(all.map(|secret| secret.as_slice()))?;
        known.recent.extend(fresh);
        while known.recent.len() > REMEMBERED {
            known.recent.pop_front();
        }
        known.scrubber = Some(Arc::new(scrubber));
        Ok(())
    }

    /// Redacts bytes.
    #[must_use]
    pub fn bytes(&self, bytes: Vec<u8>) -> Vec<u8> {
        match self.current() {
            Some(scrubber) => scrubber.bytes(bytes),
            None => bytes,
        }
    }

    /// Redacts text.
    #[must_use]
    pub fn text(&self, text: String) -> String {
        match self.current() {
            Some(scrubber) => scrubber.text(text),
            None => text,
        }
    }

    fn current(&self) -> Option<Arc<Scrubber>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).scrubber.clone()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    fn secret(text: &str) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(text.as_bytes().to_vec())
    }

    #[test]
    fn tokens_are_found_as_soon_as_they_are_learnt_and_for_three_renewals() {
        let live = LiveScrubber::default();
        assert_eq!(live.text("token-0 client-secret".into()), "token-0 client-secret");
        live.keep(vec![secret("client-secret")]).unwrap();
        for renewal in 0..5 {
            let of = |kind: &str| secret(&format!("{kind}-token-{renewal}"));
            live.learn(vec![of("access"), of("refresh"), of("assertion")]).unwrap();
        }
        for renewal in 3..5 {
            let shown = live.text(format!("access-token-{renewal} refresh-token-{renewal} client-secret"));
            assert_eq!(shown, "[redacted] [redacted] [redacted]", "{renewal}");
        }
        assert_eq!(live.bytes(b"access-token-0".to_vec()), b"access-token-0");
        live.learn(vec![secret("access-token-4")]).unwrap();
        assert_eq!(live.text("access-token-2".into()), "[redacted]", "what is known again displaces nothing");
        live.keep(Vec::new()).unwrap();
        assert_eq!(live.text("client-secret access-token-4".into()), "client-secret [redacted]");
    }

    #[test]
    fn a_token_is_one_line_of_visible_characters_and_is_never_printed() {
        let token = AccessToken::new(b"abc.def-ghi", 3).unwrap();
        assert_eq!((token.value().to_str().unwrap(), token.serial()), ("Bearer abc.def-ghi", 3));
        assert_eq!(format!("{:?}", token.value()), "Sensitive");
        for bad in [&b"a\r\nb"[..], b"a b\n", "ä".as_bytes()] {
            assert!(AccessToken::new(bad, 1).is_err());
        }
    }
}
