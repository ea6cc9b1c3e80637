//! Bringing a mapped value to its target's type. Pure.

use serde_json::{Number, Value};
use sgen_catalog::manifest::TargetKind;
use sgen_model::Timestamp;

/// The longest e-mail address (RFC 5321, with the correction of RFC 3696).
const EMAIL_LIMIT: usize = 254;

/// Brings a value to a type; `None` when there is nothing (null, or an empty text).
///
/// # Errors
/// A sentence about the value, which is not repeated in it: it may be personal.
pub(crate) fn coerce(kind: TargetKind, value: &Value) -> Result<Option<Value>, String> {
    if value.is_null() || value.as_str().is_some_and(|text| text.trim().is_empty()) {
        return Ok(None);
    }
    let coerced = match kind {
        TargetKind::Json => value.clone(),
        TargetKind::Text => Value::String(text(value)),
        TargetKind::Email => Value::String(email(value)?),
        TargetKind::Phone => Value::String(phone(value)?),
        TargetKind::Number => number(value)?,
        TargetKind::Integer => integer(value)?,
        TargetKind::Boolean => Value::Bool(boolean(value)?),
        TargetKind::Timestamp => Value::String(timestamp(value)?),
    };
    Ok(Some(coerced))
}

/// A value as text: what it says, or its JSON.
pub(crate) fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn email(value: &Value) -> Result<String, String> {
    let Some(text) = value.as_str().map(str::trim) else {
        return Err(format!("is {}, not an e-mail address", name(value)));
    };
    let bad = || "is not an e-mail address".to_owned();
    let (local, domain) = text.rsplit_once('@').ok_or_else(bad)?;
    let plausible = !local.is_empty()
        && !local.contains('@')
        && domain.contains('.')
        && domain.split('.').all(|label| !label.is_empty())
        && text.len() <= EMAIL_LIMIT
        && !text.chars().any(|c| c.is_whitespace() || c.is_control());
    if plausible { Ok(text.to_owned()) } else { Err(bad()) }
}

fn phone(value: &Value) -> Result<String, String> {
    let given = match value {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(number) => number.to_string(),
        other => return Err(format!("is {}, not a telephone number", name(other))),
    };
    let mut digits = String::new();
    for (i, c) in given.chars().enumerate() {
        match c {
            '0'..='9' => digits.push(c),
            '+' if i == 0 => digits.push(c),
            ' ' | '-' | '.' | '/' | '(' | ')' | '\u{a0}' => {}
            _ => return Err("is not a telephone number".to_owned()),
        }
    }
    // E.164 allows 15 digits; short national numbers start at 3.
    let count = digits.trim_start_matches('+').len();
    if (3..=15).contains(&count) {
        Ok(digits)
    } else {
        Err(format!("has {count} digits, no telephone number has that"))
    }
}

fn number(value: &Value) -> Result<Value, String> {
    match value {
        Value::Number(_) => Ok(value.clone()),
        Value::String(text) => {
            let text = text.trim();
            if let Ok(whole) = text.parse::<i64>() {
                return Ok(Value::from(whole));
            }
            let parsed = text.parse::<f64>().ok().and_then(Number::from_f64);
            parsed.map(Value::Number).ok_or_else(|| "is not a number".to_owned())
        }
        other => Err(format!("is {}, not a number", name(other))),
    }
}

fn integer(value: &Value) -> Result<Value, String> {
    let number = number(value)?;
    if number.is_i64() || number.is_u64() {
        return Ok(number);
    }
    // 3.0 is a whole number; beyond 2^53 a double is no longer exact.
    match number.as_f64() {
        Some(float) if float.fract() == 0.0 && float.abs() <= 9_007_199_254_740_992.0 => {
            #[expect(clippy::cast_possible_truncation, reason = "whole, and within ±2^53")]
            let whole = float as i64;
            Ok(Value::from(whole))
        }
        _ => Err("is not a whole number".to_owned()),
    }
}

fn boolean(value: &Value) -> Result<bool, String> {
    let yes_or_no = match value {
        Value::Bool(b) => Some(*b),
        Value::Number(n) => match n.as_i64() {
            Some(0) => Some(false),
            Some(1) => Some(true),
            _ => None,
        },
        Value::String(text) => match text.trim().to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => Some(true),
            "false" | "no" | "off" | "0" => Some(false),
            _ => None,
        },
        _ => None,
    };
    yes_or_no.ok_or_else(|| "is neither yes nor no".to_owned())
}

fn timestamp(value: &Value) -> Result<String, String> {
    let bad = || "is not a time as in RFC 3339".to_owned();
    match value {
        Value::Number(n) => {
            n.as_u64().filter(|ms| *ms <= Timestamp::MAX.0).map(|ms| Timestamp(ms).to_string()).ok_or_else(bad)
        }
        Value::String(text) => {
            let text = text.trim();
            if let Ok(time) = Timestamp::parse(text) {
                return Ok(time.to_string());
            }
            // A date alone, as a form's date field sends it, is that day's start in UTC.
            let date: jiff::civil::Date = text.parse().map_err(|_| bad())?;
            Timestamp::parse(&format!("{date}T00:00:00Z")).map(|time| time.to_string()).map_err(|_| bad())
        }
        _ => Err(bad()),
    }
}

fn name(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "yes or no",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_brought_to_their_targets_type() {
        let cases = [
            (TargetKind::Text, json!("x"), json!("x")),
            (TargetKind::Text, json!(5), json!("5")),
            (TargetKind::Text, json!(["a", 1]), json!("[\"a\",1]")),
            (TargetKind::Email, json!("  Ada@Example.com "), json!("Ada@Example.com")),
            (TargetKind::Phone, json!("+49 (0) 30/12-34.5"), json!("+49030 12345".replace(' ', ""))),
            (TargetKind::Phone, json!(4_930_123), json!("4930123")),
            (TargetKind::Number, json!("1.5"), json!(1.5)),
            (TargetKind::Number, json!(" 12 "), json!(12)),
            (TargetKind::Integer, json!("3.0"), json!(3)),
            (TargetKind::Integer, json!(7), json!(7)),
            (TargetKind::Boolean, json!("on"), json!(true)),
            (TargetKind::Boolean, json!(0), json!(false)),
            (TargetKind::Timestamp, json!("2026-11-23T10:00:00+02:00"), json!("2026-11-23T08:00:00.000Z")),
            (TargetKind::Timestamp, json!("2026-11-23"), json!("2026-11-23T00:00:00.000Z")),
            (TargetKind::Timestamp, json!(0), json!("1970-01-01T00:00:00.000Z")),
            (TargetKind::Json, json!({"a": [1]}), json!({"a": [1]})),
        ];
        for (kind, given, expected) in cases {
            assert_eq!(coerce(kind, &given).unwrap().unwrap(), expected, "{kind:?} {given}");
        }
    }

    #[test]
    fn nothing_is_nothing_in_every_type() {
        for kind in [TargetKind::Text, TargetKind::Email, TargetKind::Integer, TargetKind::Json] {
            assert_eq!(coerce(kind, &json!(null)), Ok(None));
            assert_eq!(coerce(kind, &json!("  ")), Ok(None));
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_without_repeating_it() {
        let cases = [
            (TargetKind::Email, json!("ada")),
            (TargetKind::Email, json!("a@b")),
            (TargetKind::Email, json!("a b@c.d")),
            (TargetKind::Email, json!("a@b..c")),
            (TargetKind::Email, json!({"a": 1})),
            (TargetKind::Phone, json!("call me")),
            (TargetKind::Phone, json!("12")),
            (TargetKind::Number, json!("1,5")),
            (TargetKind::Number, json!("NaN")),
            (TargetKind::Integer, json!(1.5)),
            (TargetKind::Integer, json!(1e300)),
            (TargetKind::Boolean, json!("maybe")),
            (TargetKind::Timestamp, json!("yesterday")),
            (TargetKind::Timestamp, json!(-5)),
        ];
        for (kind, given) in cases {
            let said = coerce(kind, &given).unwrap_err();
            assert!(!given.as_str().is_some_and(|text| said.contains(text)), "{kind:?} {given}: {said}");
        }
    }
}
