//! What a simulated downstream does wrong, and from when to when.

use std::fmt;

use crate::words::span;

/// The wait that a downstream asks for, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// As a number of seconds.
    Seconds(u64),
    /// As a date.
    Date(u64),
}

impl Wait {
    pub(crate) fn milliseconds(self) -> u64 {
        let (Self::Seconds(seconds) | Self::Date(seconds)) = self;
        seconds.saturating_mul(1000)
    }
}

/// One kind of misbehaviour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Connections are refused.
    Refused,
    /// Connections are never accepted.
    Silent,
    /// The connection breaks before the downstream has acted.
    ResetBefore,
    /// The connection breaks after the downstream has acted.
    ResetAfter,
    /// No answer, nothing done.
    Hang,
    /// Acts, and never answers.
    HangAfter,
    /// 429.
    TooMany(Option<Wait>),
    /// 503.
    Unavailable(Option<Wait>),
    /// Acts and answers after so many milliseconds.
    Slow(u64),
    /// Acts and answers what is not HTTP.
    Garbage,
    /// Acts, and its answer breaks off.
    CutShort,
    /// The credential is revoked: 401 until the operator rotates to a new one.
    Revoked,
    /// 403 until the operator has the permission granted.
    Forbidden,
    /// 410 until the operator has seen to it.
    Gone,
}

impl Fault {
    /// Whether it lasts until an operator mends it.
    pub(crate) fn lasts(self) -> bool {
        matches!(self, Self::Revoked | Self::Forbidden | Self::Gone)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wait = |wait: &Option<Wait>| match wait {
            None => String::new(),
            Some(Wait::Seconds(seconds)) => format!(" asking for {seconds} s"),
            Some(Wait::Date(seconds)) => format!(" asking for {seconds} s by a date"),
        };
        match self {
            Self::Refused => f.write_str("refuses connections"),
            Self::Silent => f.write_str("accepts no connection"),
            Self::ResetBefore => f.write_str("resets before acting"),
            Self::ResetAfter => f.write_str("resets after acting"),
            Self::Hang => f.write_str("hangs"),
            Self::HangAfter => f.write_str("acts and hangs"),
            Self::TooMany(asked) => write!(f, "answers 429{}", wait(asked)),
            Self::Unavailable(asked) => write!(f, "answers 503{}", wait(asked)),
            Self::Slow(by) => write!(f, "answers after {}", span(*by)),
            Self::Garbage => f.write_str("answers garbage"),
            Self::CutShort => f.write_str("breaks its answers off"),
            Self::Revoked => f.write_str("revokes the credential"),
            Self::Forbidden => f.write_str("answers 403"),
            Self::Gone => f.write_str("answers 410"),
        }
    }
}

/// A fault for a time. Times are of the course.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Episode {
    pub(crate) from: u64,
    /// Not included. Of a fault that lasts, this is only when the simulation stops waiting for it to be noticed.
    pub(crate) until: u64,
    pub(crate) fault: Fault,
    /// How many requests of a hundred it befalls.
    pub(crate) share: u64,
}

impl fmt::Display for Episode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "from {} ", span(self.from))?;
        if self.fault.lasts() {
            return write!(f, "{} until that is mended", self.fault);
        }
        write!(f, "to {} {}", span(self.until), self.fault)?;
        if self.share < 100 {
            write!(f, " for {}% of requests", self.share)?;
        }
        Ok(())
    }
}
