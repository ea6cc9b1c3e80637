//! Path patterns: `/crm/v3/**`, `/lists/*/members`, and `""` for exactly the base URL.

use std::fmt;
use std::str::FromStr;

use super::{LONGEST, PatternError};

/// A pattern over the path of a relative request.
///
/// `*` is exactly one segment that is not empty, `**` any number of segments, none included; everything else is
/// literal and compared byte by byte. The empty pattern matches the empty path only (exactly the base URL).
///
/// ```
/// use sgen_catalog::PathPattern;
/// let pattern: PathPattern = "/lists/*/members/**".parse()?;
/// assert!(pattern.matches("/lists/42/members"));
/// assert!(pattern.matches("/lists/42/members/7/tags"));
/// assert!(!pattern.matches("/lists/members"));
/// assert!(!pattern.matches("/lists/42/members/../../admin"));
/// # Ok::<(), sgen_catalog::PatternError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathPattern {
    text: String,
    segments: Vec<Segment>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Segment {
    Literal(String),
    One,
    Any,
}

impl Segment {
    fn admits(&self, part: &str) -> bool {
        match self {
            Self::Literal(text) => text == part,
            Self::One => !part.is_empty(),
            Self::Any => false,
        }
    }
}

impl PathPattern {
    /// The pattern as the manifest writes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether a request path is admitted.
    ///
    /// `path` comes without query and fragment; one that has them, or that a server could read in two ways, is not
    /// admitted by any pattern.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        if self.text.is_empty() || path.is_empty() {
            return self.text.is_empty() && path.is_empty();
        }
        let Some(rest) = path.strip_prefix('/') else { return false };
        if !unambiguous(path) {
            return false;
        }
        let parts: Vec<&str> = rest.split('/').collect();
        // Greedy with one remembered `**`: on a mismatch the last `**` takes one segment more. Quadratic at worst.
        let (mut at, mut part) = (0, 0);
        let mut star: Option<(usize, usize)> = None;
        while let Some(text) = parts.get(part) {
            match self.segments.get(at) {
                Some(Segment::Any) => {
                    star = Some((at, part));
                    at += 1;
                }
                Some(segment) if segment.admits(text) => {
                    at += 1;
                    part += 1;
                }
                _ => match star {
                    Some((star_at, taken)) => {
                        star = Some((star_at, taken + 1));
                        at = star_at + 1;
                        part = taken + 1;
                    }
                    None => return false,
                },
            }
        }
        self.segments.iter().skip(at).all(|segment| *segment == Segment::Any)
    }
}

/// Whether every server reads this path as the same list of segments.
fn unambiguous(path: &str) -> bool {
    if path.len() > LONGEST || !path.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'\\' | b'?' | b'#')) {
        return false;
    }
    path.split('/').all(|segment| {
        let Some(decoded) = decode(segment) else { return false };
        if decoded.iter().any(|b| matches!(b, b'/' | b'\\' | 0..=0x1f | 0x7f)) {
            return false;
        }
        // Some servers cut a segment's parameters (`..;x`) before they look at it.
        let name = decoded.split(|b| *b == b';').next().unwrap_or_default();
        name != b"." && name != b".."
    })
}

/// Percent-decodes once; nothing when an escape is broken.
fn decode(segment: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(segment.len());
    let mut bytes = segment.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let high = char::from(bytes.next()?).to_digit(16)?;
            let low = char::from(bytes.next()?).to_digit(16)?;
            out.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            out.push(byte);
        }
    }
    Some(out)
}

impl FromStr for PathPattern {
    type Err = PatternError;
    fn from_str(text: &str) -> Result<Self, PatternError> {
        let fail = |problem| Err(PatternError::new(text, problem));
        if text.is_empty() {
            return Ok(Self { text: String::new(), segments: Vec::new() });
        }
        let Some(rest) = text.strip_prefix('/') else {
            return fail("a path pattern starts with '/' (or is empty, for exactly the base URL)");
        };
        if !unambiguous(text) {
            return fail(
                "a path pattern has no '.' or '..' segment, no query, no fragment, no backslash, no encoded slash and only visible ASCII",
            );
        }
        let mut segments: Vec<Segment> = Vec::new();
        for part in rest.split('/') {
            segments.push(match part {
                "*" => Segment::One,
                "**" if segments.last() == Some(&Segment::Any) => {
                    return fail("'**' directly after '**' says nothing more");
                }
                "**" => Segment::Any,
                _ if part.contains('*') => return fail("'*' and '**' stand for whole segments"),
                _ => Segment::Literal(part.to_owned()),
            });
        }
        Ok(Self { text: text.to_owned(), segments })
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use proptest::prelude::*;

    fn pattern(text: &str) -> PathPattern {
        text.parse().unwrap()
    }

    #[test]
    fn stars_stand_for_whole_segments() {
        for (text, yes, no) in [
            ("", vec![""], vec!["/", "/a"]),
            ("/", vec!["/"], vec!["", "/a", "//"]),
            ("/a", vec!["/a"], vec!["/a/", "/A", "/ab", "a", "", "/a/b"]),
            ("/a/*", vec!["/a/b", "/a/b%20c"], vec!["/a", "/a/", "/a/b/c"]),
            ("/a/**", vec!["/a", "/a/", "/a/b", "/a/b/c"], vec!["/ab", "/", "/b/a"]),
            ("/**", vec!["/", "/a", "/a/b"], vec!["", "a"]),
            ("/**/z", vec!["/z", "/a/z", "/z/z", "/a/b/z"], vec!["/z/a", "/az"]),
            ("/a/**/m/**/z", vec!["/a/m/z", "/a/1/m/2/3/z", "/a/m/m/z"], vec!["/a/z", "/a/m", "/m/a/z"]),
        ] {
            let compiled = pattern(text);
            for path in yes {
                assert!(compiled.matches(path), "{text} must admit {path}");
            }
            for path in no {
                assert!(!compiled.matches(path), "{text} must not admit {path}");
            }
        }
    }

    #[test]
    fn what_a_server_could_read_in_two_ways_is_never_admitted() {
        let anything = pattern("/**");
        for path in [
            "/a/../b",
            "/..",
            "/.",
            "/a/./b",
            "/a/%2e%2e/b",
            "/a/%2E./b",
            "/a/..;x/b",
            "/a/%2e%2e;x",
            "/a%2fb",
            "/a%2Fb",
            "/a%5cb",
            "/a\\b",
            "/a?x=1",
            "/a#x",
            "/a b",
            "/a%",
            "/a%2",
            "/a%zz",
            "/a%00b",
            "/a%0d%0ab",
            "/a\u{e9}",
            "/a\n",
            "/a\u{0}",
        ] {
            assert!(!anything.matches(path), "{path:?}");
        }
        for path in ["/a..b", "/...", "/a/b.json", "/a%2eb", "/people/x%40example.com", "/a;v=1/b", "/~x/(1)/a,b"] {
            assert!(anything.matches(path), "{path:?}");
        }
    }

    #[test]
    fn a_pattern_that_means_nothing_clear_is_refused() {
        for bad in ["a", "*", "**", "/a*", "/*a", "/***", "/**/**", "/a/../b", "/a?x", "/a b", "/a%2fb", "https://x/y"]
        {
            assert!(bad.parse::<PathPattern>().is_err(), "{bad}");
        }
    }

    fn segment() -> impl Strategy<Value = String> {
        "[a-z0-9._~-]{1,6}".prop_filter("dot segments", |s| s != "." && s != "..")
    }

    proptest! {
        #[test]
        fn a_path_is_admitted_by_every_generalisation_of_itself(parts in prop::collection::vec((segment(), 0..3_u8), 1..8)) {
            let path: String = parts.iter().map(|(s, _)| format!("/{s}")).collect();
            let mut general = String::new();
            for (text, how) in &parts {
                match how {
                    0 => general.push_str(&format!("/{text}")),
                    1 => general.push_str("/*"),
                    _ if general.ends_with("**") => {}
                    _ => general.push_str("/**"),
                }
            }
            prop_assert!(pattern(&general).matches(&path), "{} {}", general, path);
        }

        #[test]
        fn matching_agrees_with_the_definition_by_recursion(
            shape in prop::collection::vec(prop::sample::select(vec!["a", "b", "*", "**"]), 1..7),
            parts in prop::collection::vec(prop::sample::select(vec!["a", "b", ""]), 1..7),
        ) {
            fn defined(pattern: &[&str], parts: &[&str]) -> bool {
                match (pattern.split_first(), parts.split_first()) {
                    (None, None) => true,
                    (Some((&"**", rest)), _) => (0..=parts.len()).any(|n| defined(rest, &parts[n..])),
                    (Some((head, rest)), Some((part, others))) =>
                        (if *head == "*" { !part.is_empty() } else { head == part }) && defined(rest, others),
                    _ => false,
                }
            }
            let mut shape = shape;
            shape.dedup_by(|a, b| *a == "**" && *b == "**");
            let path = format!("/{}", parts.join("/"));
            let text = format!("/{}", shape.join("/"));
            prop_assert_eq!(pattern(&text).matches(&path), defined(&shape, &parts), "{} {}", text, path);
        }

        #[test]
        fn no_text_whatever_reaches_outside_a_literal_prefix(path in "(/[a-z.%2eEfF5cC\\\\;]{0,6}){0,6}") {
            if pattern("/safe/**").matches(&path) {
                prop_assert!(path == "/safe" || path.starts_with("/safe/"));
                prop_assert!(path.split('/').all(|s| s != ".." && s != "."));
            }
        }
    }
}
