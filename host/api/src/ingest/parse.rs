//! From a request's body to capture events, and from a bad body to what the sender must correct. Pure.
//!
//! The happy path parses each event once. Only a refused body is looked at again, to name every field at fault.

use std::fmt;

use http::StatusCode;
use serde::de::IgnoredAny;
use serde_json::Value;
use sgen_model::{CaptureEvent, EventError, EventId, Surface, Timestamp};

use crate::problem::{FieldProblem, Problem};

/// The most events in one request.
pub(crate) const EVENT_LIMIT: usize = 1_000;
/// The most fields named in one refusal: a sender corrects the first ones and sees the rest.
const PROBLEM_LIMIT: usize = 100;
/// The fields of an event, as the sender writes them.
const FIELDS: [&str; 5] = ["id", "surface", "captured_at", "fields", "context"];

/// How the body holds its events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// `application/json`: one object or an array of objects.
    Json,
    /// `application/x-ndjson`: one object a line.
    Lines,
}

impl Format {
    /// The format that a content type names.
    pub(crate) fn of(content_type: &str) -> Option<Self> {
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        if essence.eq_ignore_ascii_case("application/json") {
            Some(Self::Json)
        } else if essence.eq_ignore_ascii_case("application/x-ndjson") {
            Some(Self::Lines)
        } else {
            None
        }
    }
}

/// Where in the body an event stands, as the sender finds it again.
#[derive(Debug, Clone, Copy)]
enum Position {
    Index(usize),
    Line(usize),
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Index(index) => write!(f, "events[{index}]"),
            Self::Line(line) => write!(f, "lines[{line}]"),
        }
    }
}

/// Parses a whole body: every event or a refusal.
///
/// # Errors
/// 400 when the body is not JSON, 413 when a limit is exceeded, 422 when an event is not valid.
pub(crate) fn parse(format: Format, body: &[u8]) -> Result<Vec<CaptureEvent>, Problem> {
    let pieces = match format {
        Format::Lines => lines(body),
        Format::Json if first_byte(body) == Some(b'[') => match elements(body) {
            Some(elements) => elements.into_iter().enumerate().map(|(i, e)| (Position::Index(i), e)).collect(),
            None => return Err(not_json(body)),
        },
        Format::Json => vec![(Position::Index(0), body)],
    };
    if pieces.is_empty() {
        return Err(Problem::invalid("the body holds no event", Vec::new()));
    }
    if pieces.len() > EVENT_LIMIT {
        return Err(Problem::too_large(format!(
            "the body holds more than {EVENT_LIMIT} events; send them in several requests"
        )));
    }
    let mut events = Vec::with_capacity(pieces.len());
    for (at, json) in &pieces {
        match CaptureEvent::from_json(json) {
            Ok(event) => events.push(event),
            Err(_) => return Err(refusal(format, body, &pieces, *at)),
        }
    }
    Ok(events)
}

/// Why a body is refused whose event at `first` is the first bad one.
fn refusal(format: Format, body: &[u8], pieces: &[(Position, &[u8])], first: Position) -> Problem {
    let whole = format == Format::Json && pieces.iter().all(|(_, json)| json.len() <= CaptureEvent::SIZE_LIMIT);
    if whole && serde_json::from_slice::<IgnoredAny>(body).is_err() {
        return not_json(body);
    }
    let mut problems = Vec::new();
    let mut status = StatusCode::UNPROCESSABLE_ENTITY;
    let mut bad = 0_usize;
    for (at, json) in pieces {
        if let Err(error) = CaptureEvent::from_json(json) {
            bad = bad.saturating_add(1);
            if matches!(error, EventError::TooLarge { .. }) {
                status = StatusCode::PAYLOAD_TOO_LARGE;
            }
            if problems.len() < PROBLEM_LIMIT {
                problems.extend(diagnose(*at, json, &error));
            }
        }
    }
    problems.truncate(PROBLEM_LIMIT);
    let detail =
        format!("{bad} of {} events are refused, the first at {first}; nothing of this request was kept", pieces.len());
    if status == StatusCode::PAYLOAD_TOO_LARGE {
        Problem::too_large(detail).at(problems)
    } else {
        Problem::invalid(detail, problems)
    }
}

fn not_json(body: &[u8]) -> Problem {
    let reason = match serde_json::from_slice::<IgnoredAny>(body) {
        Err(error) if first_byte(body).is_none() => format!("it is empty ({error})"),
        Err(error) => error.to_string(),
        Ok(_) => "its array does not end".to_owned(),
    };
    Problem::malformed(format!("the body is not JSON: {reason}; nothing of this request was kept"))
}

/// Names every field of a refused event that is at fault.
fn diagnose(at: Position, json: &[u8], error: &EventError) -> Vec<FieldProblem> {
    let whole = |message: String| vec![FieldProblem::new(at.to_string(), message)];
    if let EventError::TooLarge { .. } = error {
        return whole(error.to_string());
    }
    let map = match serde_json::from_slice::<Value>(json) {
        Ok(Value::Object(map)) => map,
        Ok(_) => return whole("an event is a JSON object".to_owned()),
        Err(syntax) => return whole(format!("not JSON: {syntax}")),
    };
    let mut found = Vec::new();
    let mut fault = |field: &str, message: String| found.push(FieldProblem::new(format!("{at}.{field}"), message));
    for field in FIELDS {
        match map.get(field) {
            None if matches!(field, "fields" | "context") => {}
            None => fault(field, "is missing".to_owned()),
            Some(value) => {
                if let Err(message) = check_field(field, value) {
                    fault(field, message);
                }
            }
        }
    }
    for field in map.keys().filter(|name| !FIELDS.contains(&name.as_str())) {
        let name: String = field.chars().take(80).collect();
        fault(&name, format!("is unknown; an event has {}", FIELDS.join(", ")));
    }
    if found.is_empty() { whole(error.to_string()) } else { found }
}

fn check_field(field: &str, value: &Value) -> Result<(), String> {
    let text = |what: &str| value.as_str().map(str::to_owned).ok_or_else(|| format!("{what} is a text"));
    match field {
        "id" => EventId::parse(&text("an event id")?).map(drop).map_err(|e| e.to_string()),
        "surface" => text("a surface")?.parse::<Surface>().map(drop).map_err(|e| e.to_string()),
        "captured_at" => match value {
            Value::String(text) => {
                Timestamp::parse(text).map(drop).map_err(|e| format!("is not a time as in RFC 3339: {e}"))
            }
            Value::Number(number) if number.as_u64().is_some_and(|ms| ms <= Timestamp::MAX.0) => Ok(()),
            _ => Err("is not a time: give RFC 3339 text or milliseconds since 1970".to_owned()),
        },
        _ if value.is_object() => Ok(()),
        _ => Err("is not a JSON object".to_owned()),
    }
}

fn first_byte(body: &[u8]) -> Option<u8> {
    body.iter().copied().find(|b| !is_space(*b))
}

/// JSON's white space (RFC 8259, section 2).
const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

fn trim(mut json: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = json
        && is_space(*first)
    {
        json = rest;
    }
    while let [rest @ .., last] = json
        && is_space(*last)
    {
        json = rest;
    }
    json
}

/// The lines that are not blank, numbered from 1.
fn lines(body: &[u8]) -> Vec<(Position, &[u8])> {
    body.split(|b| *b == b'\n')
        .enumerate()
        .map(|(i, line)| (Position::Line(i.saturating_add(1)), trim(line)))
        .filter(|(_, line)| !line.is_empty())
        // One more than allowed is enough to refuse.
        .take(EVENT_LIMIT.saturating_add(1))
        .collect()
}

/// The texts of an array's elements, without parsing them: the elements of a valid array are found exactly; what is found
/// in an invalid one is refused by the parser. `None` when the array has no end, or something follows it.
fn elements(body: &[u8]) -> Option<Vec<&[u8]>> {
    let inner = trim(body).strip_prefix(b"[")?;
    let mut found = Vec::new();
    let (mut depth, mut in_text, mut escaped, mut start) = (0_usize, false, false, 0_usize);
    for (i, byte) in inner.iter().copied().enumerate() {
        if in_text {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_text = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_text = true,
            b'[' | b'{' => depth = depth.saturating_add(1),
            b']' if depth == 0 => {
                let last = trim(inner.get(start..i)?);
                if !last.is_empty() {
                    found.push(last);
                } else if !found.is_empty() {
                    return None;
                }
                return (i.saturating_add(1) == inner.len()).then_some(found);
            }
            b']' | b'}' => depth = depth.checked_sub(1)?,
            b',' if depth == 0 => {
                found.push(trim(inner.get(start..i)?));
                start = i.saturating_add(1);
                if found.len() > EVENT_LIMIT {
                    return Some(found);
                }
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use proptest::prelude::*;

    fn event(id: &str) -> String {
        format!(
            r#"{{"id":"{id}","surface":"form:contact","captured_at":"2026-11-23T10:00:00Z","fields":{{"a":"],["}}}}"#
        )
    }

    fn refused(format: Format, body: &str) -> (u16, Vec<String>) {
        let problem = parse(format, body.as_bytes()).unwrap_err();
        (problem.status.as_u16(), problem.problems.into_iter().map(|p| p.field).collect())
    }

    #[test]
    fn one_object_an_array_and_lines_are_read_in_order() {
        let one = format!("\n {} ", event("a"));
        let array = format!(" [ {} , {} ]\n", event("a"), event("b"));
        let lines = format!("{}\r\n\n  \n{}\n", event("a"), event("b"));
        for (format, body, ids) in [
            (Format::Json, one, vec!["a"]),
            (Format::Json, array, vec!["a", "b"]),
            (Format::Lines, lines, vec!["a", "b"]),
        ] {
            let events = parse(format, body.as_bytes()).unwrap();
            let found: Vec<&str> = events.iter().map(|e| e.id.as_str()).collect();
            assert_eq!(found, ids, "{body}");
        }
    }

    #[test]
    fn each_bad_body_is_refused_with_its_positions() {
        let good = event("g");
        let fax = r#"{"id":"x","surface":"fax:x","captured_at":1}"#;
        let two = r#"{"surface":"form:x","captured_at":true}"#;
        let extra = r#"{"id":"x","surface":"form:x","captured_at":1,"colour":1,"fields":[]}"#;
        let twice = r#"{"id":"x","id":"y","surface":"form:x","captured_at":1}"#;
        let large = event(&"x".repeat(CaptureEvent::SIZE_LIMIT));
        let deep = format!(
            r#"{{"id":"x","surface":"form:x","captured_at":1,"fields":{}1{}}}"#,
            r#"{"a":"#.repeat(20),
            "}".repeat(20)
        );
        let cases: Vec<(Format, String, u16, Vec<&str>)> = vec![
            (Format::Json, String::new(), 400, vec![]),
            (Format::Json, "{".to_owned(), 400, vec![]),
            (Format::Json, "[".to_owned(), 400, vec![]),
            (Format::Json, "[]]".to_owned(), 400, vec![]),
            (Format::Json, format!("[{good},]"), 400, vec![]),
            (Format::Json, format!("[{good} {good}]"), 400, vec![]),
            (Format::Json, format!("{good}{good}"), 400, vec![]),
            (Format::Json, "nope".to_owned(), 400, vec![]),
            (Format::Json, "[]".to_owned(), 422, vec![]),
            (Format::Lines, "\n \n".to_owned(), 422, vec![]),
            (Format::Json, "7".to_owned(), 422, vec!["events[0]"]),
            (Format::Json, format!("[{good},7]"), 422, vec!["events[1]"]),
            (Format::Json, fax.to_owned(), 422, vec!["events[0].surface"]),
            (Format::Json, format!("[{good},{good},{good},{fax}]"), 422, vec!["events[3].surface"]),
            (
                Format::Json,
                format!("[{two},{fax}]"),
                422,
                vec!["events[0].id", "events[0].captured_at", "events[1].surface"],
            ),
            (Format::Json, extra.to_owned(), 422, vec!["events[0].fields", "events[0].colour"]),
            (Format::Json, twice.to_owned(), 422, vec!["events[0]"]),
            (Format::Json, deep, 422, vec!["events[0]"]),
            (Format::Lines, format!("{good}\n\n{fax}\n{{\n"), 422, vec!["lines[3].surface", "lines[4]"]),
            (Format::Json, format!("[{good},{large}]"), 413, vec!["events[1]"]),
            (Format::Lines, format!("{large}\n{fax}"), 413, vec!["lines[1]", "lines[2].surface"]),
            (Format::Json, format!("[{}]", vec![good.as_str(); 1001].join(",")), 413, vec![]),
            (Format::Lines, vec![good.as_str(); 1001].join("\n"), 413, vec![]),
        ];
        for (format, body, status, fields) in cases {
            let shown: String = body.chars().take(100).collect();
            assert_eq!(refused(format, &body), (status, fields.into_iter().map(str::to_owned).collect()), "{shown}");
        }
        assert_eq!(
            parse(Format::Json, format!("[{}]", vec![good.as_str(); 1000].join(",")).as_bytes()).unwrap().len(),
            1000
        );
    }

    #[test]
    fn a_refusal_names_at_most_a_hundred_fields() {
        let body = vec!["{}"; 500].join("\n");
        assert_eq!(refused(Format::Lines, &body).1.len(), PROBLEM_LIMIT);
    }

    #[test]
    fn a_content_type_is_read_without_regard_to_case_and_parameters() {
        let cases = [
            ("application/json", Some(Format::Json)),
            ("Application/JSON; charset=utf-8", Some(Format::Json)),
            ("application/x-ndjson", Some(Format::Lines)),
            ("text/json", None),
            ("application/x-www-form-urlencoded", None),
            ("", None),
        ];
        for (text, format) in cases {
            assert_eq!(Format::of(text), format, "{text}");
        }
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[\\[\\]{},\"\\\\a\u{e9}\n]{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map("[a\",\\[]{0,3}", inner, 0..6)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn the_elements_of_any_array_are_found_as_the_parser_finds_them(values in prop::collection::vec(json(), 0..8), pretty: bool) {
            let value = Value::from(values.clone());
            let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
            let found: Vec<Value> =
                elements(text.as_bytes()).unwrap().into_iter().map(|e| serde_json::from_slice(e).unwrap()).collect();
            prop_assert_eq!(found, values);
        }

        #[test]
        fn no_body_makes_the_parser_panic(body in prop::collection::vec(prop_oneof![Just(b'['), Just(b']'), Just(b'{'), Just(b'}'), Just(b'"'), Just(b','), Just(b'\\'), any::<u8>()], 0..64)) {
            let _ = parse(Format::Json, &body);
            let _ = parse(Format::Lines, &body);
        }
    }
}
