//! One type per id. Parsed at the edge, trusted inside.
//!
//! Ids become parts of store keys, of audit records and of URLs, so their alphabet is small: that is checked here once
//! and nowhere else.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a text is no id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Empty.
    #[error("{kind} must not be empty")]
    Empty {
        /// What was being parsed.
        kind: &'static str,
    },
    /// Too long.
    #[error("{kind} has {length} bytes; at most {limit} are allowed")]
    TooLong {
        /// What was being parsed.
        kind: &'static str,
        /// Its length in bytes.
        length: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// A character outside the alphabet.
    #[error("{kind} contains {character:?}; allowed are {alphabet}")]
    Character {
        /// What was being parsed.
        kind: &'static str,
        /// The first character at fault.
        character: char,
        /// The allowed characters, for people.
        alphabet: &'static str,
    },
}

const SLUG: &str = "a-z, 0-9, '-' and '_', starting with a letter or digit";

fn slug(kind: &'static str, text: &str, limit: usize) -> Result<(), IdError> {
    let Some(first) = text.chars().next() else { return Err(IdError::Empty { kind }) };
    if text.len() > limit {
        return Err(IdError::TooLong { kind, length: text.len(), limit });
    }
    let bad = if first == '-' || first == '_' {
        Some(first)
    } else {
        text.chars().find(|c| !(c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '-' || *c == '_'))
    };
    bad.map_or(Ok(()), |character| Err(IdError::Character { kind, character, alphabet: SLUG }))
}

macro_rules! slug_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(std::sync::Arc<str>);

        impl $name {
            /// The longest id, in bytes.
            pub const LIMIT: usize = 64;

            /// Parses an id of lower-case letters, digits, `-` and `_`.
            ///
            /// # Errors
            /// [`IdError`] names the first thing wrong with it.
            pub fn parse(text: &str) -> Result<Self, IdError> {
                slug($kind, text, Self::LIMIT)?;
                Ok(Self(text.into()))
            }

            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::parse(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                Self::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0.as_ref().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

slug_id!(
    /// An account: owns sites.
    AccountId, "account id");
slug_id!(
    /// A site.
    SiteId, "site id");
slug_id!(
    /// An environment of a site: `live`, `staging` or another name.
    Environment, "environment");
slug_id!(
    /// A catalog entry: `hubspot`, `webhook`.
    ConnectorId, "connector id");
slug_id!(
    /// A connector instance: one connector configured on one site and environment. Unique in the deployment.
    InstanceId, "instance id");
slug_id!(
    /// A person (or an automation) who acts for an account.
    OperatorId, "operator id");
slug_id!(
    /// A credential that the sites of one account share.
    SharedId, "shared credential id");
slug_id!(
    /// The name of a credential slot in a connector's manifest.
    SlotName, "slot name");

/// The unit of isolation: one environment of one site.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Place {
    /// The site.
    pub site: SiteId,
    /// Its environment.
    pub environment: Environment,
}

impl Place {
    /// Joins a site and an environment.
    #[must_use]
    pub fn new(site: SiteId, environment: Environment) -> Self {
        Self { site, environment }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.site, self.environment)
    }
}

/// The id of a capture event: chosen by the capturing side, unique per site and environment.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EventId(Box<str>);

impl EventId {
    /// The longest event id, in bytes.
    pub const LIMIT: usize = 128;

    /// Parses an id of printable ASCII without spaces and `/`.
    ///
    /// # Errors
    /// [`IdError`] names the first thing wrong with it.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        const KIND: &str = "event id";
        if text.is_empty() {
            return Err(IdError::Empty { kind: KIND });
        }
        if text.len() > Self::LIMIT {
            return Err(IdError::TooLong { kind: KIND, length: text.len(), limit: Self::LIMIT });
        }
        match text.chars().find(|c| !c.is_ascii_graphic() || *c == '/') {
            Some(character) => {
                Err(IdError::Character { kind: KIND, character, alphabet: "printable ASCII without spaces and '/'" })
            }
            None => Ok(Self(text.into())),
        }
    }

    /// The id of an event whose own cannot be read: its position in the log.
    #[must_use]
    pub fn numbered(sequence: Sequence) -> Self {
        Self(format!("position-{sequence}").into())
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for EventId {
    type Error = IdError;
    fn try_from(text: String) -> Result<Self, IdError> {
        Self::parse(&text)
    }
}

impl From<EventId> for String {
    fn from(id: EventId) -> Self {
        id.0.into()
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The position of an event in its site and environment's log. The first is 1; 0 means "before everything".
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Sequence(pub u64);

impl Sequence {
    /// The next position.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_slug_admits_only_what_is_safe_in_keys_and_urls() {
        for good in ["a", "site-1", "0", "a_b", &"x".repeat(64)] {
            assert!(SiteId::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "_a", "A", "a/b", "a b", "ä", "a\0", &"x".repeat(65)] {
            assert!(SiteId::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_event_id_admits_uuids_and_refuses_separators() {
        assert!(EventId::parse("0190c1d2-7b1e-7c3a-9f00-aabbccddeeff").is_ok());
        assert!(EventId::parse("evt:1|x").is_ok());
        for bad in ["", "a/b", "a b", "é", "a\n"] {
            assert!(EventId::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn ids_are_checked_when_deserialised() {
        assert!(serde_json::from_str::<SiteId>("\"../x\"").is_err());
        assert_eq!(serde_json::from_str::<SiteId>("\"acme\"").unwrap().as_str(), "acme");
    }
}
