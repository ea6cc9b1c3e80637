//! What makes a manifest valid. Every problem is collected, so that an author sees them all at once.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::time::Duration;

use super::authentication::{auth, check_clients, credential};
use super::raw::{RawBatch, RawEndpoint, RawManifest, RawRate, RawSetting, RawTarget};
use super::types::{Allow, Auth, Base, Batch, CredentialSlot, Endpoint, MappingTarget, Rate, Setting, SettingKind};
use super::{ANY_TARGET, Manifest, ManifestError, Problem};
use crate::pattern::{PathPattern, UrlPattern, base_url};
use crate::units::{ByteSize, Span};

const TIMEOUT: (Duration, RangeInclusive<Duration>) =
    (Duration::from_secs(30), Duration::from_millis(100)..=Duration::from_secs(300));
const MAX_RESPONSE: (u64, RangeInclusive<u64>) = (1 << 20, 1 << 10..=16 << 20);
const RATE_REQUESTS: RangeInclusive<u32> = 1..=1_000_000;
const RATE_PER: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(86_400);
const BATCH_EVENTS: RangeInclusive<u32> = 1..=10_000;
const BATCH_BYTES: RangeInclusive<u64> = 1 << 10..=16 << 20;
const BATCH_LINGER: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(60);
const TEXT_LENGTH: RangeInclusive<u32> = 1..=65_536;
/// The longest title, summary and help text, in characters: they are drawn in forms and tables.
pub(super) const TITLE: usize = 120;
const SUMMARY: usize = 500;
const HELP: usize = 2_000;
/// Names are parts of store keys and URLs in the host: this is its alphabet and limit for ids.
const NAME: usize = 64;

/// Response headers that carry credentials.
const SECRET_RESPONSE_HEADERS: [&str; 4] = ["set-cookie", "authorization", "www-authenticate", "proxy-authenticate"];

#[derive(Default)]
pub(super) struct Problems(Vec<Problem>);

impl Problems {
    pub(super) fn add(&mut self, at: impl Into<String>, what: impl Into<String>) {
        self.0.push(Problem { at: at.into(), what: what.into() });
    }

    pub(super) fn name(&mut self, at: &str, name: &str) {
        let first = name.chars().next().is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        let rest = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_');
        if !first || !rest || name.len() > NAME {
            self.add(
                at,
                format!("{name:?} is no name: 1 to {NAME} of a-z, 0-9, '-' and '_', starting with a letter or digit"),
            );
        }
    }

    pub(super) fn text(&mut self, at: &str, text: &str, longest: usize) {
        if text.trim().is_empty() || text.chars().count() > longest || text.chars().any(|c| c.is_control() && c != '\n')
        {
            self.add(at, format!("must be 1 to {longest} characters of text"));
        }
    }

    pub(super) fn help(&mut self, at: &str, help: Option<&String>) {
        if let Some(help) = help {
            self.text(&format!("{at}.help"), help, HELP);
        }
    }

    fn within<T: PartialOrd + Copy>(
        &mut self,
        at: &str,
        value: T,
        range: &RangeInclusive<T>,
        show: impl Fn(T) -> String,
    ) -> T {
        if !range.contains(&value) {
            self.add(at, format!("{} is outside {} to {}", show(value), show(*range.start()), show(*range.end())));
        }
        value
    }
}

fn show_span(span: Duration) -> String {
    Span(span).to_string()
}

fn show_bytes(bytes: u64) -> String {
    ByteSize(bytes).to_string()
}

impl TryFrom<RawManifest> for Manifest {
    type Error = ManifestError;

    fn try_from(raw: RawManifest) -> Result<Self, ManifestError> {
        let mut p = Problems::default();
        p.name("id", &raw.id);
        p.text("title", &raw.title, TITLE);
        p.text("summary", &raw.summary, SUMMARY);
        if raw.world != crate::WORLD {
            p.add("world", format!("{:?} is not supported; this version knows {:?}", raw.world, crate::WORLD));
        }
        let settings: BTreeMap<_, _> = raw
            .settings
            .into_iter()
            .map(|(name, s)| {
                let s = setting(&mut p, &name, s);
                (name, s)
            })
            .collect();
        let credentials: BTreeMap<_, _> = raw
            .credentials
            .into_iter()
            .map(|(name, c)| {
                let c = credential(&mut p, &name, c);
                (name, c)
            })
            .collect();
        let mut endpoints = BTreeMap::new();
        for (name, raw) in raw.endpoints {
            if let Some(endpoint) = endpoint(&mut p, &name, raw, &settings, &credentials) {
                endpoints.insert(name, endpoint);
            }
        }
        let mut used: BTreeSet<&str> = endpoints.values().filter_map(|e| e.auth.as_ref()).map(Auth::slot).collect();
        used.extend(credentials.values().filter_map(|slot| slot.oauth.as_ref()?.client.as_deref()));
        check_clients(&mut p, &credentials);
        if p.0.is_empty() {
            // Only when all else is well: an endpoint that was refused above may be the one that uses it.
            for name in credentials.keys().filter(|name| !used.contains(name.as_str())) {
                p.add(format!("credentials.{name}"), "no endpoint uses this credential; do not ask for it");
            }
        }
        let mapping: BTreeMap<_, _> = raw
            .mapping
            .into_iter()
            .map(|(name, t)| {
                let t = target(&mut p, &name, t);
                (name, t)
            })
            .collect();
        for pattern in &raw.scope.default {
            if !scope_pattern(pattern) {
                p.add(
                    "scope.default",
                    format!("{pattern:?} is no surface pattern; write KIND:NAME, KIND:* or *, such as \"form:*\""),
                );
            }
        }
        let batch = batch(&mut p, &raw.batch);
        if !p.0.is_empty() {
            return Err(ManifestError::Invalid(p.0));
        }
        Ok(Self {
            id: raw.id,
            version: raw.version,
            kind: raw.kind,
            title: raw.title,
            summary: raw.summary,
            world: raw.world,
            endpoints,
            credentials,
            settings,
            mapping,
            scope: raw.scope,
            batch,
        })
    }
}

fn endpoint(
    p: &mut Problems,
    name: &str,
    raw: RawEndpoint,
    settings: &BTreeMap<String, Setting>,
    credentials: &BTreeMap<String, CredentialSlot>,
) -> Option<Endpoint> {
    let at = format!("endpoints.{name}");
    p.name(&at, name);
    let base = base(p, &at, raw.base, raw.base_setting, raw.base_pattern, settings);
    if raw.allow.is_empty() {
        p.add(format!("{at}.allow"), "an endpoint that allows nothing cannot be used; grant methods and paths");
    }
    let mut allow = Vec::new();
    for (index, raw) in raw.allow.into_iter().enumerate() {
        let at = format!("{at}.allow[{index}]");
        if raw.methods.is_empty() || raw.paths.is_empty() {
            p.add(&at, "needs at least one method and one path");
        }
        let mut paths = Vec::new();
        for path in raw.paths {
            match path.parse::<PathPattern>() {
                Ok(pattern) => paths.push(pattern),
                Err(e) => p.add(format!("{at}.paths"), e.to_string()),
            }
        }
        allow.push(Allow { methods: raw.methods, paths });
    }
    let auth = raw.auth.map(|raw| auth(p, &format!("{at}.auth"), raw, credentials, settings));
    for header in &raw.response_headers {
        if !token(header)
            || header.bytes().any(|b| b.is_ascii_uppercase())
            || SECRET_RESPONSE_HEADERS.contains(&header.as_str())
        {
            p.add(
                format!("{at}.response_headers"),
                format!("{header:?} cannot be passed on; write a lower-case header name that carries no credential"),
            );
        }
    }
    let timeout = raw.timeout.map_or(TIMEOUT.0, |span| span.0);
    let timeout = p.within(&format!("{at}.timeout"), timeout, &TIMEOUT.1, show_span);
    let max_response = raw.max_response.map_or(MAX_RESPONSE.0, |size| size.0);
    let max_response = p.within(&format!("{at}.max_response"), max_response, &MAX_RESPONSE.1, show_bytes);
    let rate = raw.rate.map(|raw: RawRate| Rate {
        requests: p.within(&format!("{at}.rate.requests"), raw.requests, &RATE_REQUESTS, |n| n.to_string()),
        per: p.within(&format!("{at}.rate.per"), raw.per.0, &RATE_PER, show_span),
    });
    Some(Endpoint { base: base?, allow, auth, response_headers: raw.response_headers, timeout, max_response, rate })
}

fn base(
    p: &mut Problems,
    at: &str,
    base: Option<String>,
    setting: Option<String>,
    pattern: Option<String>,
    settings: &BTreeMap<String, Setting>,
) -> Option<Base> {
    match (base, setting, pattern) {
        (Some(base), None, None) => {
            match base_url(&base) {
                Ok(url) if url.query().is_some() || base.ends_with('/') => {
                    p.add(
                        format!("{at}.base"),
                        "a base has no query and does not end with '/': request paths start with one",
                    );
                }
                Ok(_) => {}
                Err(e) => p.add(format!("{at}.base"), e.to_string()),
            }
            Some(Base::Fixed(base))
        }
        (None, Some(setting), Some(pattern)) => {
            match settings.get(&setting) {
                Some(Setting { kind: SettingKind::Url, required: true, .. }) => {}
                Some(_) => p.add(
                    format!("{at}.base_setting"),
                    format!("the setting {setting:?} must have type = \"url\" and required = true"),
                ),
                None => p.add(format!("{at}.base_setting"), format!("there is no [settings.{setting}]")),
            }
            if let Err(e) = pattern.parse::<UrlPattern>() {
                p.add(format!("{at}.base_pattern"), e.to_string());
            }
            Some(Base::Setting { setting, pattern })
        }
        _ => {
            p.add(at, "give either base, or base_setting and base_pattern together");
            None
        }
    }
}

fn setting(p: &mut Problems, name: &str, raw: RawSetting) -> Setting {
    let at = format!("settings.{name}");
    p.name(&at, name);
    p.text(&format!("{at}.title"), &raw.title, TITLE);
    p.help(&at, raw.help.as_ref());
    let is = |kind| raw.kind == kind;
    if is(SettingKind::Enum) {
        let distinct: BTreeSet<_> = raw.values.iter().collect();
        if raw.values.is_empty() || distinct.len() != raw.values.len() || raw.values.iter().any(String::is_empty) {
            p.add(format!("{at}.values"), "an enum lists its values, each once and none empty");
        }
    } else if !raw.values.is_empty() {
        p.add(format!("{at}.values"), "only an enum has values");
    }
    if !is(SettingKind::Integer) && (raw.min.is_some() || raw.max.is_some()) {
        p.add(&at, "min and max are for integers");
    }
    if raw.min.zip(raw.max).is_some_and(|(min, max)| min > max) {
        p.add(&at, "min is greater than max");
    }
    if let Some(length) = raw.max_length {
        if !is(SettingKind::String) && !is(SettingKind::Url) {
            p.add(format!("{at}.max_length"), "is for strings and URLs");
        }
        p.within(&format!("{at}.max_length"), length, &TEXT_LENGTH, |n| n.to_string());
    }
    if let Some(source) = &raw.options {
        p.name(&format!("{at}.options"), source);
        if !is(SettingKind::String) {
            p.add(format!("{at}.options"), "live choices are for strings");
        }
    }
    let setting = Setting {
        kind: raw.kind,
        title: raw.title,
        help: raw.help,
        required: raw.required,
        default: raw.default,
        values: raw.values,
        options: raw.options,
        min: raw.min,
        max: raw.max,
        max_length: raw.max_length,
    };
    if setting.default.as_ref().is_some_and(|value| !crate::settings::admits(&setting, value)) {
        p.add(format!("{at}.default"), "is not valid for the setting itself");
    }
    setting
}

fn target(p: &mut Problems, name: &str, raw: RawTarget) -> MappingTarget {
    let at = format!("mapping.{name}");
    // The downstream's own names, which the host does not choose: wider than the alphabet of ids.
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '$');
    if name != ANY_TARGET && (name.is_empty() || name.len() > 128 || !name.chars().all(good)) {
        p.add(&at, "a target is 1 to 128 of A-Z, a-z, 0-9, '_', '-', '.' and '$', or \"*\" for any other");
    }
    let title = raw.title.unwrap_or_else(|| name.to_owned());
    p.text(&format!("{at}.title"), &title, TITLE);
    for path in raw.preset.iter().filter(|path| !event_path(path)) {
        p.add(format!("{at}.preset"), format!("{path:?} is no path into an event, such as \"fields.email\""));
    }
    if let Some(source) = &raw.options {
        p.name(&format!("{at}.options"), source);
    }
    if name == ANY_TARGET && (raw.required || !raw.preset.is_empty()) {
        p.add(&at, "\"*\" stands for names not known yet: it can have neither required nor preset");
    }
    MappingTarget { kind: raw.kind, title, required: raw.required, preset: raw.preset, options: raw.options }
}

fn batch(p: &mut Problems, raw: &RawBatch) -> Batch {
    let usual = Batch::default();
    Batch {
        events: p.within("batch.events", raw.events.unwrap_or(usual.events), &BATCH_EVENTS, |n| n.to_string()),
        bytes: p.within("batch.bytes", raw.bytes.map_or(usual.bytes, |b| b.0), &BATCH_BYTES, show_bytes),
        linger: p.within("batch.linger", raw.linger.map_or(usual.linger, |s| s.0), &BATCH_LINGER, show_span),
    }
}

/// A token of RFC 9110, section 5.6.2: what header names are made of.
pub(super) fn token(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 128
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

/// A path into a capture event: `fields.NAME`, `context.NAME` with any depth, or one of the event's own values.
fn event_path(path: &str) -> bool {
    let segment = |s: &str| {
        !s.is_empty() && s.trim() == s && !s.chars().any(|c| c.is_control() || matches!(c, '[' | ']' | '{' | '}'))
    };
    match path.split_once('.') {
        Some(("fields" | "context", rest)) => path.len() <= 256 && rest.split('.').all(segment),
        Some(_) => false,
        None => matches!(path, "id" | "surface" | "captured_at"),
    }
}

/// `*`, `KIND:*` or `KIND:NAME`, as the host's scopes are written.
fn scope_pattern(pattern: &str) -> bool {
    let name = |text: &str| {
        !text.is_empty()
            && text.len() <= 64
            && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
    };
    match pattern.split_once(':') {
        Some(("form" | "analytics" | "phone-tap" | "event", surface)) => surface == "*" || name(surface),
        Some(_) => false,
        None => pattern == "*",
    }
}
