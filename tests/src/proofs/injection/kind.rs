//! The kinds of harm.

use std::fmt;

use clap::ValueEnum;

use super::interposer::Point;

/// What happens at the call that is hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Kind {
    /// The host is killed before the call.
    Kill,
    /// The host is killed when half of a write is written.
    KillHalf,
    /// The call fails with EIO; the next ones do not.
    Eio,
    /// The call fails with ENOSPC, and so does every later one that needs space, until the host has ended.
    Enospc,
    /// Half of a write is written, and the call answers so.
    Short,
    /// The same, and then the disk is full.
    HalfFull,
}

impl Kind {
    /// The kinds that kill.
    pub const KILLS: [Self; 2] = [Self::Kill, Self::KillHalf];
    /// The kinds in which the disk fails.
    pub const FAULTS: [Self; 4] = [Self::Eio, Self::Enospc, Self::Short, Self::HalfFull];

    /// As the interposer and the command line call it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::KillHalf => "kill-half",
            Self::Eio => "eio",
            Self::Enospc => "enospc",
            Self::Short => "short",
            Self::HalfFull => "half-full",
        }
    }

    /// Whether a call can come to this harm; the interposer counts its points by the same rule.
    #[must_use]
    pub fn applies_to(self, point: &Point) -> bool {
        match self {
            Self::Kill | Self::Eio => true,
            Self::Enospc => !["unlink", "rmdir"].contains(&point.call.as_str()),
            Self::KillHalf | Self::Short | Self::HalfFull => {
                ["write", "pwrite64", "writev", "pwritev", "copy_file_range", "sendfile"].contains(&point.call.as_str())
                    && point.bytes >= 2
            }
        }
    }

    /// The words of the system for the error that the host meets; `None` when it meets none.
    #[must_use]
    pub const fn error(self) -> Option<&'static str> {
        match self {
            Self::Kill | Self::KillHalf | Self::Short => None,
            Self::Eio => Some("Input/output error"),
            Self::Enospc | Self::HalfFull => Some("No space left on device"),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_calls_a_kind_as_the_interposer_does() {
        for kind in Kind::value_variants() {
            let named = kind.to_possible_value().map(|value| value.get_name().to_owned());
            assert_eq!(named.as_deref(), Some(kind.as_str()));
        }
    }
}
