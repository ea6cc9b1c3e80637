//! What an endpoint may be asked for: patterns over request paths and over operator-given base URLs.
//!
//! Pure functions over text. A pattern decides what a connector can reach, so whatever a server could read in two ways
//! (dot segments, encoded slashes, backslashes) matches nothing at all, not even `**`.

mod path;
mod url;

pub use path::PathPattern;
pub use url::{UrlPattern, base_url};

/// Why a text is no pattern, or no URL that a pattern could admit. The manifest's author must act.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?}: {problem}")]
pub struct PatternError {
    /// The text.
    pub text: String,
    /// What is wrong with it and what is expected.
    pub problem: &'static str,
}

impl PatternError {
    fn new(text: &str, problem: &'static str) -> Self {
        Self { text: text.to_owned(), problem }
    }
}

/// The longest pattern, path or URL that is looked at, in bytes.
pub(crate) const LONGEST: usize = 4096;
