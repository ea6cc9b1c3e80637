//! What is kept of a grant. It is sealed by the vault; nothing here is ever written in plain.

use serde::{Deserialize, Serialize};
use sgen_model::Timestamp;
use zeroize::Zeroizing;

use crate::answer::Obtained;
use crate::policy::Life;

/// A grant, with what was begun and not ended.
pub(crate) struct Granted {
    pub(crate) access: Zeroizing<String>,
    pub(crate) life: Life,
    pub(crate) refresh: Option<Zeroizing<String>>,
    /// Counts consents: the version of the credential.
    pub(crate) consent: u32,
    /// Counts renewals since then.
    pub(crate) renewals: u64,
    /// Since when a renewal has been under way whose end is not known. Written before the vendor is asked: it may rotate the
    /// refresh token, and the host may be killed before it can keep the new one.
    pub(crate) intent: Option<Timestamp>,
}

#[derive(Serialize)]
struct Written<'a> {
    access: &'a str,
    from: Timestamp,
    until: Option<Timestamp>,
    refresh: Option<&'a str>,
    consent: u32,
    renewals: u64,
    intent: Option<Timestamp>,
}

#[derive(Deserialize)]
struct Read {
    access: String,
    from: Timestamp,
    until: Option<Timestamp>,
    refresh: Option<String>,
    consent: u32,
    renewals: u64,
    intent: Option<Timestamp>,
}

impl Granted {
    /// What a consent gave, or with `before` what a renewal gave. A vendor that does not rotate sends no refresh token again.
    pub(crate) fn new(obtained: Obtained, asked_at: Timestamp, consent: u32, before: Option<Self>) -> Self {
        let life = Life { from: asked_at, until: obtained.lifetime.map(|lifetime| asked_at.after(lifetime)) };
        let (renewals, kept) = match before {
            Some(before) => (before.renewals.saturating_add(1), before.refresh),
            None => (0, None),
        };
        Self { access: obtained.access, life, refresh: obtained.refresh.or(kept), consent, renewals, intent: None }
    }

    /// What renews it next, or else what it is.
    pub(crate) fn essence(&self) -> &str {
        self.refresh.as_ref().unwrap_or(&self.access)
    }

    /// # Errors
    /// The serialiser's message.
    pub(crate) fn encode(&self) -> Result<Zeroizing<Vec<u8>>, String> {
        let Self { access, life: Life { from, until }, refresh, consent, renewals, intent } = self;
        let refresh = refresh.as_ref().map(|refresh| refresh.as_str());
        let written = Written {
            access,
            from: *from,
            until: *until,
            refresh,
            consent: *consent,
            renewals: *renewals,
            intent: *intent,
        };
        // Room for the largest, so that it is not moved, and left behind, while it grows.
        let mut bytes = Zeroizing::new(Vec::with_capacity(48 * 1024));
        serde_json::to_writer(&mut *bytes, &written).map_err(|error| error.to_string())?;
        Ok(bytes)
    }

    /// # Errors
    /// Where the record ends to make sense; nothing of it is quoted.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, String> {
        let read: Read = serde_json::from_slice(bytes)
            .map_err(|error| format!("it is damaged at line {} column {}", error.line(), error.column()))?;
        let Read { access, from, until, refresh, consent, renewals, intent } = read;
        Ok(Self {
            access: Zeroizing::new(access),
            life: Life { from, until },
            refresh: refresh.map(Zeroizing::new),
            consent,
            renewals,
            intent,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::time::Duration;

    fn obtained(refresh: Option<&str>) -> Obtained {
        Obtained {
            access: Zeroizing::new("access-1".to_owned()),
            refresh: refresh.map(|text| Zeroizing::new(text.to_owned())),
            lifetime: Some(Duration::from_secs(5)),
        }
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let mut granted = Granted::new(obtained(Some("refresh-\"1\"")), Timestamp(7_000), 3, None);
        granted.intent = Some(Timestamp(9_000));
        let again = Granted::decode(&granted.encode().unwrap()).unwrap();
        assert_eq!(again.access.as_str(), "access-1");
        assert_eq!(again.essence(), "refresh-\"1\"");
        assert_eq!(again.life, Life { from: Timestamp(7_000), until: Some(Timestamp(12_000)) });
        assert_eq!((again.consent, again.renewals, again.intent), (3, 0, Some(Timestamp(9_000))));
        let said = Granted::decode(b"{\"access\":\"secret").err().unwrap();
        assert!(!said.contains("secret"), "{said}");
    }

    #[test]
    fn a_renewal_keeps_a_refresh_token_that_was_not_rotated_and_ends_what_was_begun() {
        let mut first = Granted::new(obtained(Some("refresh-1")), Timestamp(0), 1, None);
        first.intent = Some(Timestamp(1));
        let second = Granted::new(obtained(None), Timestamp(5_000), 1, Some(first));
        assert_eq!((second.essence(), second.renewals, second.intent), ("refresh-1", 1, None));
        let third = Granted::new(obtained(Some("refresh-2")), Timestamp(9_000), 1, Some(second));
        assert_eq!((third.essence(), third.renewals), ("refresh-2", 2));
    }
}
