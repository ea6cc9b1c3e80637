//! Scope: which capture surfaces a connector instance takes.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::event::{Surface, SurfaceKind, is_surface_name};

/// A list of surface patterns; an event is in scope when any of them matches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct Scope(Vec<Pattern>);

/// `form:*`, `form:contact`, or `*` for every surface.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern {
    kind: Option<SurfaceKind>,
    name: Option<String>,
}

impl Scope {
    /// The most patterns in one scope.
    pub const LIMIT: usize = 100;

    /// Parses a list of patterns.
    ///
    /// # Errors
    /// A sentence that names the pattern at fault.
    pub fn parse<S: AsRef<str>>(patterns: &[S]) -> Result<Self, String> {
        if patterns.is_empty() {
            return Err("the scope is empty: name at least one surface, or \"*\" for all".to_owned());
        }
        if patterns.len() > Self::LIMIT {
            return Err(format!("the scope has {} patterns; at most {} are allowed", patterns.len(), Self::LIMIT));
        }
        patterns.iter().map(|p| pattern(p.as_ref())).collect::<Result<_, _>>().map(Self)
    }

    /// Whether an event of this surface is in scope.
    #[must_use]
    pub fn admits(&self, surface: &Surface) -> bool {
        self.0.iter().any(|p| {
            p.kind.is_none_or(|kind| kind == surface.kind) && p.name.as_ref().is_none_or(|name| *name == surface.name)
        })
    }
}

fn pattern(text: &str) -> Result<Pattern, String> {
    if text == "*" {
        return Ok(Pattern { kind: None, name: None });
    }
    let parsed = text.split_once(':').and_then(|(kind, name)| {
        let kind = Some(SurfaceKind::parse(kind)?);
        match name {
            "*" => Some(Pattern { kind, name: None }),
            name if is_surface_name(name) => Some(Pattern { kind, name: Some(name.to_owned()) }),
            _ => None,
        }
    });
    parsed.ok_or_else(|| {
        format!("scope pattern {text:?} is not \"*\", KIND:* or KIND:NAME with KIND one of form, analytics, phone-tap, event")
    })
}

impl TryFrom<Vec<String>> for Scope {
    type Error = String;
    fn try_from(patterns: Vec<String>) -> Result<Self, String> {
        Self::parse(&patterns)
    }
}

impl From<Scope> for Vec<String> {
    fn from(scope: Scope) -> Self {
        scope.0.iter().map(ToString::to_string).collect()
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            None => f.write_str("*"),
            Some(kind) => write!(f, "{}:{}", kind.as_str(), self.name.as_deref().unwrap_or("*")),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_scope_admits_by_kind_and_name() {
        let cases = [
            (&["form:*"][..], "form:contact", true),
            (&["form:*"], "analytics:view", false),
            (&["form:contact"], "form:contact", true),
            (&["form:contact"], "form:contact2", false),
            (&["form:a", "event:b"], "event:b", true),
            (&["*"], "phone-tap:header", true),
        ];
        for (patterns, surface, expected) in cases {
            let scope = Scope::parse(patterns).unwrap();
            assert_eq!(scope.admits(&surface.parse().unwrap()), expected, "{patterns:?} {surface}");
        }
    }

    #[test]
    fn a_bad_pattern_is_named() {
        for bad in ["form", "fax:*", "form:", "form:a b", "*:*", ""] {
            assert!(Scope::parse(&[bad]).unwrap_err().contains(bad), "{bad}");
        }
        assert!(Scope::parse::<&str>(&[]).is_err());
    }

    #[test]
    fn a_scope_survives_json() {
        let scope = Scope::parse(&["form:*", "*", "event:x"]).unwrap();
        let json = serde_json::to_string(&scope).unwrap();
        assert_eq!(json, r#"["form:*","*","event:x"]"#);
        assert_eq!(serde_json::from_str::<Scope>(&json).unwrap(), scope);
    }
}
