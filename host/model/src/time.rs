//! Points in time, in milliseconds since 1970-01-01T00:00:00Z.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A point in time, milliseconds since the epoch. Written as RFC 3339 in JSON; read as RFC 3339 or as milliseconds.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The latest representable time: 9999-12-31T23:59:59Z, the last that RFC 3339 can write.
    pub const MAX: Self = Self(253_402_300_799_000);

    /// Reads RFC 3339 (`2026-11-23T18:00:00Z`).
    ///
    /// # Errors
    /// The parser's message.
    pub fn parse(text: &str) -> Result<Self, String> {
        let time: jiff::Timestamp = text.parse().map_err(|e: jiff::Error| e.to_string())?;
        u64::try_from(time.as_millisecond()).map(Self).map_err(|_| "a time before 1970".to_owned())
    }

    /// This time, later by `by`.
    #[must_use]
    pub fn after(self, by: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(by.as_millis()).unwrap_or(u64::MAX)).min(Self::MAX.0))
    }

    /// The time from `earlier` to this one; zero when `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(i64::try_from(self.0.min(Self::MAX.0)).unwrap_or(0)) {
            Ok(time) => write!(f, "{time:.3}"),
            Err(_) => write!(f, "{} ms", self.0),
        }
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Millis(u64),
            Text(String),
        }
        match Form::deserialize(deserializer)? {
            Form::Millis(ms) if ms <= Self::MAX.0 => Ok(Self(ms)),
            Form::Millis(ms) => Err(serde::de::Error::custom(format!("{ms} ms is after the year 9999"))),
            Form::Text(text) => Self::parse(&text)
                .map_err(|e| serde::de::Error::custom(format!("{text:?} is not a time as in RFC 3339: {e}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn times_are_written_and_read_as_rfc_3339_to_the_millisecond() {
        let time = Timestamp(1_795_460_400_123);
        let text = serde_json::to_string(&time).unwrap();
        assert!(text.ends_with(".123Z\""), "{text}");
        assert_eq!(serde_json::from_str::<Timestamp>(&text).unwrap(), time);
        assert_eq!(serde_json::from_str::<Timestamp>("5").unwrap(), Timestamp(5));
        assert!(serde_json::from_str::<Timestamp>("\"yesterday\"").is_err());
        assert!(serde_json::from_str::<Timestamp>("\"1960-01-01T00:00:00Z\"").is_err());
    }
}
