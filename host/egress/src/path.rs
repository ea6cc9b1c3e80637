//! Relative paths and the patterns that admit them. Pure.
//!
//! A path is refused unless every server reads it alike: what is matched against the manifest is what the downstream acts
//! on. Paths are never repaired; an ambiguous one is the connector's mistake and named as such.

use std::borrow::Cow;

/// The longest relative path with its query, in bytes.
pub(crate) const LONGEST: usize = 8 * 1024;

/// How often an escape may be escaped before nobody can say what it means.
const LAYERS: usize = 3;

/// Why a path is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PathRefusal {
    #[error("it is longer than {LONGEST} bytes")]
    TooLong,
    #[error("it must start with '/' (or be empty, for exactly the base URL)")]
    NotRelative,
    #[error("it contains a character that must be percent-encoded")]
    Character,
    #[error("it contains a broken percent-escape")]
    Escape,
    #[error("it contains an empty segment ('//')")]
    EmptySegment,
    #[error("it contains a '.' or '..' segment, plain or encoded")]
    DotSegment,
    #[error("it contains an encoded slash, backslash or control character")]
    EncodedSeparator,
}

/// A checked relative path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RelativePath<'a> {
    /// Starts with `/`, or is empty.
    pub(crate) path: &'a str,
    /// Without the question mark.
    pub(crate) query: Option<&'a str>,
}

impl<'a> RelativePath<'a> {
    pub(crate) fn parse(text: &'a str) -> Result<Self, PathRefusal> {
        if text.len() > LONGEST {
            return Err(PathRefusal::TooLong);
        }
        if text.is_empty() {
            return Ok(Self { path: "", query: None });
        }
        if !text.starts_with('/') {
            return Err(PathRefusal::NotRelative);
        }
        let (path, query) = text.split_once('?').map_or((text, None), |(path, query)| (path, Some(query)));
        check_characters(path, false)?;
        query.map_or(Ok(()), |query| check_characters(query, true))?;
        let mut segments = path.split('/').skip(1).peekable();
        while let Some(segment) = segments.next() {
            if segment.is_empty() && segments.peek().is_some() {
                return Err(PathRefusal::EmptySegment);
            }
            check_segment(segment)?;
        }
        Ok(Self { path, query })
    }

    /// The path as patterns see it: escapes of characters that need none are undone (RFC 3986, 6.2.2.2).
    pub(crate) fn normalised(&self) -> Cow<'a, str> {
        if !self.path.contains('%') {
            return Cow::Borrowed(self.path);
        }
        let mut out = String::with_capacity(self.path.len());
        let mut rest = self.path;
        while let Some((before, after)) = rest.split_once('%') {
            out.push_str(before);
            let (digits, tail) = after.split_at_checked(2).unwrap_or((after, ""));
            match escape(digits.as_bytes()).map(char::from) {
                Some(c) if c.is_ascii_alphanumeric() || "-._~".contains(c) => out.push(c),
                _ => {
                    out.push('%');
                    out.push_str(&digits.to_ascii_uppercase());
                }
            }
            rest = tail;
        }
        out.push_str(rest);
        Cow::Owned(out)
    }
}

/// RFC 3986's characters of a path or a query; in a query also brackets, which JSON:API has everywhere.
fn check_characters(text: &str, query: bool) -> Result<(), PathRefusal> {
    let mut bytes = text.as_bytes();
    while let Some((byte, rest)) = bytes.split_first() {
        bytes = rest;
        match byte {
            b'%' => {
                escape(rest).ok_or(PathRefusal::Escape)?;
            }
            b'a'..=b'z'
            | b'A'..=b'Z'
            | b'0'..=b'9'
            | b'/'
            | b'-'
            | b'.'
            | b'_'
            | b'~'
            | b'!'
            | b'$'
            | b'&'
            | b'\''
            | b'('
            | b')'
            | b'*'
            | b'+'
            | b','
            | b';'
            | b'='
            | b':'
            | b'@' => {}
            b'?' | b'[' | b']' if query => {}
            _ => return Err(PathRefusal::Character),
        }
    }
    Ok(())
}

/// The byte that two hex digits stand for.
fn escape(digits: &[u8]) -> Option<u8> {
    let digit = |at: usize| digits.get(at).and_then(|b| char::from(*b).to_digit(16)).and_then(|d| u8::try_from(d).ok());
    Some(digit(0)? << 4 | digit(1)?)
}

fn check_segment(segment: &str) -> Result<(), PathRefusal> {
    // Some servers cut a segment's parameters (`..;x`) before they look at it.
    let is_dots = |bytes: &[u8]| matches!(bytes.split(|b| *b == b';').next(), Some(b"." | b".."));
    if is_dots(segment.as_bytes()) {
        return Err(PathRefusal::DotSegment);
    }
    if !segment.contains('%') {
        return Ok(());
    }
    // Some servers decode twice: what would mean something else then is refused now.
    let mut bytes = segment.as_bytes().to_vec();
    for _ in 0..LAYERS {
        let decoded = decode(&bytes);
        if decoded.iter().any(|b| matches!(b, b'/' | b'\\' | 0..=0x1f | 0x7f)) {
            return Err(PathRefusal::EncodedSeparator);
        }
        if is_dots(&decoded) {
            return Err(PathRefusal::DotSegment);
        }
        if decoded == bytes {
            return Ok(());
        }
        bytes = decoded;
    }
    if decode(&bytes) == bytes { Ok(()) } else { Err(PathRefusal::Escape) }
}

/// Decodes one layer; a percent sign that starts no escape stays.
fn decode(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((byte, tail)) = rest.split_first() {
        match escape(tail).filter(|_| *byte == b'%') {
            Some(decoded) => {
                out.push(decoded);
                rest = tail.get(2..).unwrap_or_default();
            }
            None => {
                out.push(*byte);
                rest = tail;
            }
        }
    }
    out
}

/// A pattern over normalised paths: `*` is one segment that is not empty, `**` any number of segments, none included;
/// everything else is literal. The empty pattern matches exactly the base URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PathPattern(Option<Vec<Segment>>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Literal(String),
    One,
    Any,
}

impl PathPattern {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let refuse = |reason: &str| Err(format!("the path pattern {text:?} is not usable: {reason}"));
        if text.is_empty() {
            return Ok(Self(None));
        }
        let relative = match RelativePath::parse(text) {
            Ok(relative) if relative.query.is_none() => relative.normalised(),
            Ok(_) => return refuse("a pattern has no query"),
            Err(reason) => return refuse(&reason.to_string()),
        };
        let mut segments = Vec::new();
        for segment in relative.split('/').skip(1) {
            segments.push(match segment {
                "*" => Segment::One,
                "**" => Segment::Any,
                _ if segment.contains('*') => return refuse("'*' and '**' stand for whole segments"),
                _ => Segment::Literal(segment.to_owned()),
            });
        }
        Ok(Self(Some(segments)))
    }

    /// `path` is normalised and without query.
    pub(crate) fn matches(&self, path: &str) -> bool {
        let (Some(pattern), Some(rest)) = (&self.0, path.strip_prefix('/')) else {
            return self.0.is_none() && path.is_empty();
        };
        // Greedy, with one remembered `**` that takes one segment more on a mismatch: never exponential.
        let (mut at, mut parts) = (0_usize, Some(rest));
        let mut star: Option<(usize, &str)> = None;
        while let Some(text) = parts {
            let (part, tail) = text.split_once('/').map_or((text, None), |(part, tail)| (part, Some(tail)));
            let admitted = match pattern.get(at) {
                Some(Segment::Any) => {
                    at = at.saturating_add(1);
                    star = Some((at, text));
                    continue;
                }
                Some(Segment::Literal(literal)) => literal == part,
                Some(Segment::One) => !part.is_empty(),
                None => false,
            };
            if admitted {
                (at, parts) = (at.saturating_add(1), tail);
                continue;
            }
            let Some((after_star, taken)) = star else { return false };
            let Some((_, more)) = taken.split_once('/') else { return all_any(pattern, after_star) };
            (at, parts, star) = (after_star, Some(more), Some((after_star, more)));
        }
        all_any(pattern, at)
    }
}

fn all_any(pattern: &[Segment], from: usize) -> bool {
    pattern.iter().skip(from).all(|segment| *segment == Segment::Any)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_path_that_can_be_read_in_two_ways_is_refused() {
        use PathRefusal::*;
        for (path, reason) in [
            ("//evil.example/x", EmptySegment),
            ("/a//b", EmptySegment),
            ("\\\\evil.example", NotRelative),
            ("/\\evil.example", Character),
            ("https://evil.example/", NotRelative),
            ("evil", NotRelative),
            ("@evil.example/", NotRelative),
            (":8080/", NotRelative),
            (".evil.example", NotRelative),
            ("?a=b", NotRelative),
            ("/../x", DotSegment),
            ("/a/..", DotSegment),
            ("/a/./b", DotSegment),
            ("/a/..;x=1/b", DotSegment),
            ("/a/%2e%2e/b", DotSegment),
            ("/a/.%2E/b", DotSegment),
            ("/a/%252e%252e/b", DotSegment),
            ("/a/%25252e./b", DotSegment),
            ("/a/%2525252525252e", Escape),
            ("/a%2f..%2fb", EncodedSeparator),
            ("/a%2Fb", EncodedSeparator),
            ("/a%255cb", EncodedSeparator),
            ("/a%5Cb", EncodedSeparator),
            ("/a%00", EncodedSeparator),
            ("/a%0d%0aHost:x", EncodedSeparator),
            ("/a\r\nHost: x", Character),
            ("/a\0", Character),
            ("/a b", Character),
            ("/a\tb", Character),
            ("/ä", Character),
            ("/a#b", Character),
            ("/a?b#c", Character),
            ("/a?b\r\n", Character),
            ("/a?b c", Character),
            ("/a%", Escape),
            ("/a%2", Escape),
            ("/a%zz", Escape),
            ("/a?b=%g0", Escape),
            ("/<a>", Character),
            ("/a|b", Character),
        ] {
            assert_eq!(RelativePath::parse(path), Err(reason), "{path:?}");
        }
        assert_eq!(RelativePath::parse(&format!("/{}", "a".repeat(LONGEST))), Err(TooLong));
    }

    #[test]
    fn ordinary_vendor_paths_pass_unchanged() {
        for path in [
            "",
            "/",
            "/crm/v3/objects/contacts/batch/upsert",
            "/v1/people/x%40example.com",
            "/a?b=c&d=%2F..%2F&e=//",
            "/2.0/lists/abc/members/",
            "/a;v=1/b",
            "/users/me@x/~y/(1)",
            "/a..b/...",
            "/x%25y",
            "/profiles?fields[profile]=email&filter=equals(email,%22a%22)",
            "/a?",
            "/a?q=a?b",
            "/100%25",
        ] {
            let parsed = RelativePath::parse(path).unwrap_or_else(|e| panic!("{path}: {e}"));
            let whole = parsed.query.map_or(parsed.path.to_owned(), |query| format!("{}?{query}", parsed.path));
            assert_eq!(whole, path);
        }
    }

    #[test]
    fn escapes_that_need_not_be_there_hide_nothing_from_the_patterns() {
        let admin = PathPattern::parse("/admin").unwrap();
        for path in ["/admin", "/%61dmin", "/%61%64%6d%69%6E"] {
            assert!(admin.matches(&RelativePath::parse(path).unwrap().normalised()), "{path}");
        }
        assert_eq!(RelativePath::parse("/a%3ab%3A").unwrap().normalised(), "/a%3Ab%3A");
    }

    #[test]
    fn stars_stand_for_whole_segments() {
        for (text, yes, no) in [
            ("", vec![""], vec!["/", "/a"]),
            ("/", vec!["/"], vec!["", "/a"]),
            ("/a", vec!["/a"], vec!["/a/", "/A", "/ab", "", "/a/b", "/"]),
            ("/a/*", vec!["/a/b"], vec!["/a", "/a/", "/a/b/c", "/b/a"]),
            ("/*/a", vec!["/b/a"], vec!["/a", "/a/b", "/b/c/a"]),
            ("/a/**", vec!["/a", "/a/", "/a/b", "/a/b/c"], vec!["/ab", "/", "/b/a", ""]),
            ("/**", vec!["/", "/a", "/a/b"], vec![""]),
            ("/**/z", vec!["/z", "/a/z", "/z/z", "/a/b/z"], vec!["/z/a", "/az", "/"]),
            ("/a/**/m/**/z", vec!["/a/m/z", "/a/1/m/2/3/z", "/a/m/m/z"], vec!["/a/z", "/a/m", "/m/a/z"]),
            ("/**/a/*", vec!["/a/b", "/a/a/b", "/x/a/y"], vec!["/a", "/x/a", "/a/b/c"]),
        ] {
            let pattern = PathPattern::parse(text).unwrap();
            for path in yes {
                assert!(pattern.matches(path), "{text} must admit {path}");
            }
            for path in no {
                assert!(!pattern.matches(path), "{text} must not admit {path}");
            }
        }
        for bad in ["a", "/a*", "/***", "/a/../b", "/a?x", "/a b", "//", "https://x/"] {
            assert!(PathPattern::parse(bad).is_err(), "{bad}");
        }
    }

    /// The definition, without any cleverness.
    fn admits(pattern: &[&str], path: &[&str]) -> bool {
        match (pattern.split_first(), path.split_first()) {
            (None, None) => true,
            (Some((&"**", rest)), None) => admits(rest, path),
            (Some((&"**", rest)), Some((_, tail))) => admits(rest, path) || admits(pattern, tail),
            (Some((&"*", rest)), Some((part, tail))) => !part.is_empty() && admits(rest, tail),
            (Some((literal, rest)), Some((part, tail))) => literal == part && admits(rest, tail),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn matching_agrees_with_its_definition(
            pattern in proptest::collection::vec(prop_oneof![Just("*"), Just("**"), Just("a"), Just("b")], 1..6),
            path in proptest::collection::vec(prop_oneof![Just("a"), Just("b"), Just("c")], 1..7),
        ) {
            let compiled = PathPattern::parse(&format!("/{}", pattern.join("/"))).unwrap();
            prop_assert_eq!(compiled.matches(&format!("/{}", path.join("/"))), admits(&pattern, &path));
        }

        #[test]
        fn no_text_makes_parsing_panic_and_what_passes_is_visible_ascii(text in "\\PC{0,40}|[/.%2eEfF5cC;?#\\\\a]{0,24}") {
            if let Ok(parsed) = RelativePath::parse(&text) {
                prop_assert!(text.bytes().all(|b| b.is_ascii_graphic() && b != b'\\' && b != b'#'));
                prop_assert!(parsed.path.is_empty() || parsed.path.starts_with('/'));
                let decoded = decode(&decode(parsed.path.as_bytes()));
                prop_assert!(!decoded.split(|b| *b == b'/').any(|s| s == b".." || s == b"."));
                prop_assert!(!decoded.contains(&b'\\'));
            }
        }
    }
}
