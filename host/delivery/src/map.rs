//! Field mapping: from a capture record to the target fields that a connector may see. Pure.

use serde_json::{Map, Value};
use sgen_catalog::manifest::{Manifest, TargetKind};
use sgen_model::{CaptureEvent, Failure, FailureClass, FieldMapping, MappingSource};

use crate::coerce::{coerce, text};
use crate::error::Problem;
use crate::ordered::Key;

/// The largest result of a mapping, in bytes of values. A template or many targets can repeat a large field.
const MAPPED_LIMIT: usize = 512 * 1024;
/// The longest template, in bytes.
const TEMPLATE_LIMIT: usize = 4 * 1024;

/// The target that stands for "every member of this object under its own name".
const ALL: &str = "*";

/// A mapping that has been checked against a manifest and is ready to apply.
#[derive(Debug, Clone)]
pub(crate) struct CompiledMapping {
    targets: Vec<Target>,
    /// Spread first, so that a named target overrides a spread one.
    spread: Option<Spread>,
    required: Vec<String>,
    /// The target by whose value events are kept in order.
    order: Option<String>,
}

/// What a mapping makes of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mapped {
    /// A JSON object as text.
    pub(crate) fields: String,
    /// What keeps it in order, when the instance has an order and the event the field.
    pub(crate) key: Option<Key>,
}

#[derive(Debug, Clone)]
struct Target {
    name: String,
    kind: TargetKind,
    required: bool,
    source: Source,
    default: Option<Value>,
}

#[derive(Debug, Clone)]
struct Spread {
    path: Path,
    kinds: Vec<(String, TargetKind)>,
    other: Option<TargetKind>,
}

#[derive(Debug, Clone)]
enum Source {
    Path(Path),
    Constant(Value),
    Template(Vec<Part>),
}

#[derive(Debug, Clone)]
enum Part {
    Text(String),
    Path(Path),
}

/// A path into a capture record.
#[derive(Debug, Clone)]
pub(crate) struct Path {
    text: String,
    root: Root,
    steps: Vec<String>,
}

#[derive(Debug, Clone, Copy)]
enum Root {
    Fields,
    Context,
    Id,
    Surface,
    CapturedAt,
}

impl CompiledMapping {
    /// Checks a mapping against a manifest.
    ///
    /// # Errors
    /// Every problem, each naming its target.
    pub(crate) fn new(mapping: &FieldMapping, manifest: &Manifest) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut targets = Vec::new();
        let mut spread = None;
        if mapping.0.len() > FieldMapping::LIMIT {
            problems.push(Problem::new("mapping", format!("has more than {} targets", FieldMapping::LIMIT)));
        }
        for (name, source) in &mapping.0 {
            let field = format!("mapping.{name}");
            if name == ALL {
                match compile_spread(source, manifest) {
                    Ok(compiled) => spread = Some(compiled),
                    Err(message) => problems.push(Problem::new(field, message)),
                }
                continue;
            }
            let Some(target) = manifest.target(name) else {
                let known: Vec<&str> = manifest.mapping.keys().map(String::as_str).collect();
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                problems.push(Problem::new(field, format!("{} has no such target; it has {known}", manifest.id)));
                continue;
            };
            match compile_source(source, target.kind) {
                Ok((compiled, default)) => targets.push(Target {
                    name: name.clone(),
                    kind: target.kind,
                    required: target.required,
                    source: compiled,
                    default,
                }),
                Err(message) => problems.push(Problem::new(field, message)),
            }
        }
        let mut required = Vec::new();
        for (name, target) in manifest.mapping.iter().filter(|(name, target)| target.required && *name != ALL) {
            required.push(name.clone());
            if !mapping.0.contains_key(name) && spread.is_none() {
                let message = format!("{:?} is required: map it from a captured field", target.title);
                problems.push(Problem::new(format!("mapping.{name}"), message));
            }
        }
        if problems.is_empty() { Ok(Self { targets, spread, required, order: None }) } else { Err(problems) }
    }

    /// Keeps the events of an instance in order by a mapped field.
    #[must_use]
    pub(crate) fn ordered_by(self, field: Option<&str>) -> Self {
        Self { order: field.map(str::to_owned), ..self }
    }

    /// Applies the mapping.
    ///
    /// # Errors
    /// A schema mismatch that names the target at fault.
    pub(crate) fn apply(&self, event: &CaptureEvent) -> Result<Mapped, Failure> {
        let mut mapped = Map::new();
        let mut left = MAPPED_LIMIT;
        if let Some(spread) = &self.spread {
            spread.apply(event, &mut mapped)?;
            mapped.values().try_for_each(|value| spend(&mut left, value))?;
        }
        for target in &self.targets {
            let found = match &target.source {
                Source::Path(path) => path.find(event),
                Source::Constant(value) => Some(value.clone()),
                Source::Template(parts) => render(parts, event, left)?.map(Value::String),
            };
            let value = match found {
                Some(value) => {
                    coerce(target.kind, &value).map_err(|said| mismatch(&target.name, &target.source, &said))?
                }
                None => None,
            };
            match value.or_else(|| target.default.clone()) {
                Some(value) => {
                    spend(&mut left, &value)?;
                    mapped.insert(target.name.clone(), value);
                }
                None if target.required => {
                    return Err(mismatch(&target.name, &target.source, "has no value, and the target is required"));
                }
                None => {
                    // An unfilled optional target must not keep what was spread under its name.
                    mapped.remove(&target.name);
                }
            }
        }
        if let Some(name) = self.required.iter().find(|name| !mapped.contains_key(*name)) {
            let message = format!("the capture has no field {name:?}, and the target is required");
            return Err(Failure::new(FailureClass::SchemaMismatch, message).at_field(name.clone()));
        }
        let key = self.order.as_ref().and_then(|field| mapped.get(field)).filter(|value| !value.is_null());
        let key = key.map(|value| digested(&value.to_string()));
        Ok(Mapped { fields: Value::Object(mapped).to_string(), key })
    }
}

/// A value as a key of fixed length: it is kept in memory for every event that waits.
fn digested(text: &str) -> Key {
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    hex::encode(digest.as_ref().get(..16).unwrap_or_default()).into()
}

impl Spread {
    fn apply(&self, event: &CaptureEvent, mapped: &mut Map<String, Value>) -> Result<(), Failure> {
        let Some(Value::Object(members)) = self.path.find(event) else { return Ok(()) };
        for (name, value) in members {
            let kind = self.kinds.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind).or(self.other);
            // A member that no target takes stays behind.
            let Some(kind) = kind else { continue };
            let source = Source::Path(Path { text: format!("{}.{name}", self.path.text), ..self.path.clone() });
            if let Some(value) = coerce(kind, &value).map_err(|said| mismatch(&name, &source, &said))? {
                mapped.insert(name, value);
            }
        }
        Ok(())
    }
}

/// Takes a value's size from what is left.
fn spend(left: &mut usize, value: &Value) -> Result<(), Failure> {
    fn size(value: &Value) -> usize {
        match value {
            Value::String(text) => text.len(),
            Value::Array(items) => items.iter().map(size).fold(items.len(), usize::saturating_add),
            Value::Object(map) => map
                .iter()
                .map(|(key, value)| key.len().saturating_add(size(value)))
                .fold(map.len(), usize::saturating_add),
            Value::Null | Value::Bool(_) | Value::Number(_) => 8,
        }
    }
    *left = left.checked_sub(size(value)).ok_or_else(too_large)?;
    Ok(())
}

fn too_large() -> Failure {
    let said = format!("the mapped fields exceed {MAPPED_LIMIT} bytes: map fewer or smaller fields");
    Failure::new(FailureClass::TooLarge, said)
}

fn mismatch(target: &str, source: &Source, said: &str) -> Failure {
    let what = match source {
        Source::Path(path) => path.text.clone(),
        Source::Constant(_) => "the constant".to_owned(),
        Source::Template(_) => "the template".to_owned(),
    };
    Failure::new(FailureClass::SchemaMismatch, format!("{what} {said}")).at_field(target)
}

fn compile_source(source: &MappingSource, kind: TargetKind) -> Result<(Source, Option<Value>), String> {
    let compiled = match (&source.from, &source.value, &source.template) {
        (Some(path), None, None) => Source::Path(Path::parse(path)?),
        (None, Some(value), None) => Source::Constant(fits(kind, value)?),
        (None, None, Some(template)) => Source::Template(parse_template(template)?),
        _ => return Err("give exactly one of from (a path), value (a constant) and template".to_owned()),
    };
    let default = source.default.as_ref().map(|value| fits(kind, value)).transpose()?;
    if default.is_some() && matches!(compiled, Source::Constant(_)) {
        return Err("a constant needs no default".to_owned());
    }
    Ok((compiled, default))
}

fn fits(kind: TargetKind, value: &Value) -> Result<Value, String> {
    match coerce(kind, value) {
        Ok(Some(value)) => Ok(value),
        Ok(None) => Err("the constant is empty".to_owned()),
        Err(said) => Err(format!("the constant {said}")),
    }
}

fn compile_spread(source: &MappingSource, manifest: &Manifest) -> Result<Spread, String> {
    let (Some(path), None, None, None) = (&source.from, &source.value, &source.template, &source.default) else {
        return Err("\"*\" takes only from: an object whose members are mapped under their own names".to_owned());
    };
    let path = Path::parse(path)?;
    if !matches!(path.root, Root::Fields | Root::Context) {
        return Err(format!("{} is no object whose members could be mapped", path.text));
    }
    let kinds = manifest.mapping.iter().filter(|(name, _)| *name != ALL).map(|(name, t)| (name.clone(), t.kind));
    let other = manifest.mapping.get(ALL).map(|target| target.kind);
    Ok(Spread { path, kinds: kinds.collect(), other })
}

fn parse_template(text: &str) -> Result<Vec<Part>, String> {
    if text.len() > TEMPLATE_LIMIT {
        return Err(format!("the template has {} bytes; at most {TEMPLATE_LIMIT} are allowed", text.len()));
    }
    let mut parts = Vec::new();
    let mut literal = String::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '{' if chars.next_if_eq(&'{').is_some() => literal.push('{'),
            '}' if chars.next_if_eq(&'}').is_some() => literal.push('}'),
            '{' => {
                let mut path = String::new();
                loop {
                    match chars.next() {
                        Some('}') => break,
                        Some(c) => path.push(c),
                        None => return Err(format!("the template has an open brace: {{{path}")),
                    }
                }
                parts.push(Part::Text(std::mem::take(&mut literal)));
                parts.push(Part::Path(Path::parse(path.trim())?));
            }
            '}' => return Err("the template has a closing brace without an open one; }} stands for a brace".to_owned()),
            c => literal.push(c),
        }
    }
    parts.push(Part::Text(literal));
    Ok(parts)
}

/// Fills a template; nothing when none of its paths finds anything, a failure when the text exceeds `limit` bytes.
fn render(parts: &[Part], event: &CaptureEvent, limit: usize) -> Result<Option<String>, Failure> {
    let mut out = String::new();
    let (mut paths, mut found) = (0_usize, 0_usize);
    for part in parts {
        match part {
            Part::Text(literal) => out.push_str(literal),
            Part::Path(path) => {
                paths = paths.saturating_add(1);
                if let Some(value) = path.find(event) {
                    found = found.saturating_add(1);
                    out.push_str(&text(&value));
                    if out.len() > limit {
                        return Err(too_large());
                    }
                }
            }
        }
    }
    Ok((paths == 0 || found > 0).then(|| out.trim().to_owned()))
}

impl Path {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut steps = text.split('.').map(str::to_owned);
        let root = match steps.next().as_deref() {
            Some("fields") => Root::Fields,
            Some("context") => Root::Context,
            Some("id") => Root::Id,
            Some("surface") => Root::Surface,
            Some("captured_at") => Root::CapturedAt,
            _ => {
                return Err(format!(
                    "{text:?} is no path into a capture: start with fields, context, id, surface or captured_at"
                ));
            }
        };
        let steps: Vec<String> = steps.collect();
        if steps.iter().any(String::is_empty) {
            return Err(format!("{text:?} has an empty step"));
        }
        if !steps.is_empty() && !matches!(root, Root::Fields | Root::Context) {
            return Err(format!("{text:?} goes into a plain value"));
        }
        Ok(Self { text: text.to_owned(), root, steps })
    }

    pub(crate) fn find(&self, event: &CaptureEvent) -> Option<Value> {
        let map = match self.root {
            Root::Id => return Some(Value::String(event.id.to_string())),
            Root::Surface => return Some(Value::String(event.surface.to_string())),
            Root::CapturedAt => return Some(Value::String(event.captured_at.to_string())),
            Root::Fields => &event.fields,
            Root::Context => &event.context,
        };
        let Some((first, rest)) = self.steps.split_first() else { return Some(Value::Object(map.clone())) };
        let mut value = map.get(first)?;
        for step in rest {
            value = match value {
                Value::Object(members) => members.get(step)?,
                Value::Array(items) => items.get(step.parse::<usize>().ok()?)?,
                _ => return None,
            };
        }
        Some(value.clone()).filter(|value| !value.is_null())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn manifest() -> Manifest {
        Manifest::parse(
            r#"
            id = "crm"
            version = "1.0.0"
            type = "crm"
            title = "CRM"
            summary = "A CRM for tests."
            world = "sgen:connector@1.0.0"
            [endpoints.api]
            base = "https://crm.example"
            allow = [{ methods = ["POST"], paths = ["/**"] }]
            auth = { scheme = "bearer", slot = "token" }
            [credentials.token]
            title = "Token"
            accepts = ["api-key"]
            [mapping.email]
            type = "email"
            title = "E-mail"
            required = true
            preset = ["fields.email"]
            [mapping.age]
            type = "integer"
            title = "Age"
            [mapping."*"]
            type = "text"
            title = "Any other property"
            [scope]
            default = ["form:*"]
            [batch]
            events = 10
            bytes = "1MiB"
            linger = "10ms"
            "#,
        )
        .unwrap()
    }

    fn event(fields: Value) -> CaptureEvent {
        let event = json!({"id": "e1", "surface": "form:contact", "captured_at": "2026-11-23T10:00:00Z",
            "fields": fields, "context": {"page": {"url": "https://a.example/x"}}});
        CaptureEvent::from_json(event.to_string().as_bytes()).unwrap()
    }

    fn compile(mapping: Value) -> Result<CompiledMapping, Vec<Problem>> {
        CompiledMapping::new(&serde_json::from_value(mapping).unwrap(), &manifest())
    }

    fn apply(mapping: Value, fields: Value) -> Result<Value, Failure> {
        compile(mapping).unwrap().apply(&event(fields)).map(|mapped| serde_json::from_str(&mapped.fields).unwrap())
    }

    #[test]
    fn paths_constants_templates_and_defaults_fill_their_targets() {
        let mapping = json!({
            "email": {"from": "fields.email"},
            "age": {"from": "fields.age", "default": 18},
            "name": {"template": "{fields.first} {fields.last}"},
            "source": {"value": "website"},
            "page": {"from": "context.page.url"},
            "city": {"from": "fields.addresses.0.city"},
            "form": {"template": "{{{surface}}}"},
        });
        let fields = json!({"email": "a@b.example", "first": "Ada", "addresses": [{"city": "London"}], "secret": "no"});
        let expected = json!({"email": "a@b.example", "age": 18, "name": "Ada", "source": "website",
            "page": "https://a.example/x", "city": "London", "form": "{form:contact}"});
        assert_eq!(apply(mapping, fields).unwrap(), expected);
    }

    #[test]
    fn a_field_that_is_not_mapped_never_appears() {
        let mapped = apply(json!({"email": {"from": "fields.email"}}), json!({"email": "a@b.example", "ssn": "1"}));
        assert_eq!(mapped.unwrap(), json!({"email": "a@b.example"}));
    }

    #[test]
    fn a_spread_maps_every_member_by_its_own_name_and_type() {
        let fields = json!({"email": "a@b.example", "age": "7", "note": 5, "none": null});
        let mapped = apply(json!({"*": {"from": "fields"}, "note": {"value": "fixed"}}), fields).unwrap();
        assert_eq!(mapped, json!({"email": "a@b.example", "age": 7, "note": "fixed"}));
        let missing = apply(json!({"*": {"from": "fields"}}), json!({"age": 1})).unwrap_err();
        assert_eq!(missing.field.as_deref(), Some("email"));
    }

    #[test]
    fn a_mismatch_names_the_target_and_the_path_but_not_the_value() {
        let failure = apply(json!({"email": {"from": "fields.mail"}}), json!({"mail": "not an address"})).unwrap_err();
        assert_eq!(failure.field.as_deref(), Some("email"));
        assert_eq!(failure.message, "fields.mail is not an e-mail address");
        let failure = apply(json!({"email": {"from": "fields.mail"}}), json!({})).unwrap_err();
        assert_eq!(failure.message, "fields.mail has no value, and the target is required");
    }

    #[test]
    fn every_problem_of_a_mapping_is_named_by_its_target() {
        let problems = compile(json!({
            "age": {"from": "fields..x"},
            "a": {"from": "fields.x", "value": 1},
            "b": {"template": "{fields.x"},
            "c": {"from": "headers.x"},
            "d": {},
            "e": {"value": null},
        }))
        .unwrap_err();
        let fields: Vec<&str> = problems.iter().map(|p| p.field.as_str()).collect();
        let expected =
            ["mapping.a", "mapping.age", "mapping.b", "mapping.c", "mapping.d", "mapping.e", "mapping.email"];
        assert_eq!(fields, expected, "{problems:?}");
    }

    #[test]
    fn what_repeats_a_large_field_is_refused_before_it_fills_the_memory() {
        let large = json!({"email": "a@b.example", "note": "x".repeat(200_000)});
        let template = "{fields.note}".repeat(300);
        let failure = apply(json!({"*": {"from": "fields"}, "n": {"template": template}}), large.clone()).unwrap_err();
        assert_eq!(failure.class, FailureClass::TooLarge);
        let mut many: Map<String, Value> =
            (0..100).map(|i| (format!("t{i}"), json!({"from": "fields.note"}))).collect();
        many.insert("email".to_owned(), json!({"from": "fields.email"}));
        assert_eq!(apply(Value::Object(many), large).unwrap_err().class, FailureClass::TooLarge);
        assert!(compile(json!({"email": {"from": "fields.email"}, "n": {"template": "x".repeat(5000)}})).is_err());
    }

    #[test]
    fn events_with_the_same_value_in_the_ordering_field_have_the_same_key() {
        let compiled = compile(json!({"email": {"from": "fields.email"}, "n": {"from": "fields.n"}})).unwrap();
        let compiled = compiled.ordered_by(Some("n"));
        let key = |n: Value| compiled.apply(&event(json!({"email": "a@b.example", "n": n}))).unwrap().key;
        assert!(key(json!("1")).is_some() && key(json!("1")) == key(json!("1")) && key(json!("1")) != key(json!("2")));
        assert_eq!(key(Value::Null), None, "an event without the field is not held");
        assert_eq!(compiled.ordered_by(None).apply(&event(json!({"email": "a@b.example", "n": 1}))).unwrap().key, None);
    }

    #[test]
    fn a_constant_is_checked_when_it_is_configured() {
        let problems = compile(json!({"email": {"from": "fields.email"}, "age": {"value": "old"}})).unwrap_err();
        assert_eq!(problems.first().unwrap().field, "mapping.age");
    }

    proptest! {
        #[test]
        fn applying_never_fails_for_a_reason_other_than_a_named_target(
            fields in prop::collection::btree_map("[a-z]{1,5}|email", "\\PC{0,20}", 0..6),
        ) {
            let compiled = compile(json!({"*": {"from": "fields"}})).unwrap();
            match compiled.apply(&event(json!(fields))) {
                Ok(mapped) => prop_assert!(serde_json::from_str::<Map<String, Value>>(&mapped.fields).unwrap().contains_key("email")),
                Err(failure) => prop_assert!(failure.field.is_some()),
            }
        }
    }
}
