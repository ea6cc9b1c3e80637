//! Realistic captured events, made from a seed, each with the fate that is expected of it.
//!
//! The same seed gives the same events, apart from their times. What a person types is not tidy: names in several
//! scripts, addresses that are none, fields left out, the same person twice.

use std::fmt;

use fastrand::Rng;
use serde_json::{Map, Value, json};

/// What kind of capture a sample is, by what is special about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A contact form, filled in well.
    Contact,
    /// A contact form of someone who has written before, with a changed spelling of the address.
    ContactAgain,
    /// A newsletter form: an address and nothing else.
    Newsletter,
    /// A contact form whose e-mail address is none.
    InvalidEmail,
    /// A contact form whose e-mail address looks like one and is refused by the downstream.
    RefusedEmail,
    /// A contact form without an e-mail address.
    MissingEmail,
    /// An analytics event.
    Analytics,
    /// A tap on a phone number.
    PhoneTap,
    /// A custom event.
    Custom,
}

impl Kind {
    /// Whether the surface is a form.
    #[must_use]
    pub const fn is_form(self) -> bool {
        !matches!(self, Self::Analytics | Self::PhoneTap | Self::Custom)
    }

    /// What is expected of it at an instance that takes forms and requires a valid `email`.
    #[must_use]
    pub const fn fate_as_contact(self) -> Fate {
        match self {
            Self::Contact | Self::ContactAgain | Self::Newsletter => Fate::Delivered,
            Self::InvalidEmail | Self::RefusedEmail | Self::MissingEmail => Fate::DeadLettered,
            Self::Analytics | Self::PhoneTap | Self::Custom => Fate::OutOfScope,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Contact => "contact form",
            Self::ContactAgain => "contact form, again",
            Self::Newsletter => "newsletter form",
            Self::InvalidEmail => "form with an invalid address",
            Self::RefusedEmail => "form with an address that is refused",
            Self::MissingEmail => "form without an address",
            Self::Analytics => "analytics event",
            Self::PhoneTap => "phone tap",
            Self::Custom => "custom event",
        })
    }
}

/// What becomes of an event at one instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// The downstream has it.
    Delivered,
    /// It is listed with the reason.
    DeadLettered,
    /// The instance does not take it.
    OutOfScope,
}

/// One captured event.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The capture's id.
    pub id: String,
    /// What is special about it.
    pub kind: Kind,
    /// The event as a site posts it.
    pub event: Value,
}

/// Makes events; also an endless iterator over them.
#[derive(Debug)]
pub struct Generator {
    rng: Rng,
    prefix: String,
    number: u64,
    now_ms: i64,
    people: Vec<Person>,
}

#[derive(Debug, Clone)]
struct Person {
    first: &'static str,
    last: &'static str,
    email: String,
}

/// First and last names with the spelling that their owners use in an address.
const FIRST: &[(&str, &str)] = &[
    ("Zoë", "zoe"),
    ("Łukasz", "lukasz"),
    ("José", "jose"),
    ("Ayşe", "ayse"),
    ("Søren", "soeren"),
    ("Nguyễn", "nguyen"),
    ("Дмитрий", "dmitri"),
    ("李", "li"),
    ("さくら", "sakura"),
    ("محمد", "mohammed"),
    ("Ελένη", "eleni"),
    ("अनन्या", "ananya"),
    ("Siobhán", "siobhan"),
    ("Mary Ann", "mary.ann"),
    ("Jürgen", "juergen"),
    ("Chloe", "chloe"),
    ("D’Angelo", "dangelo"),
    ("Ngozi", "ngozi"),
];
const LAST: &[(&str, &str)] = &[
    ("Müller-Lüdenscheidt", "mueller"),
    ("O’Neill", "oneill"),
    ("Nowak", "nowak"),
    ("García Márquez", "garcia"),
    ("Yılmaz", "yilmaz"),
    ("Thị Minh", "minh"),
    ("Иванова", "ivanova"),
    ("小龙", "xiaolong"),
    ("田中", "tanaka"),
    ("الخوارزمي", "alkhwarizmi"),
    ("Παπαδοπούλου", "papadopoulou"),
    ("Šimůnek", "simunek"),
    ("Ó Briain", "obriain"),
    ("van der Berg", "vandenberg"),
    ("Smith", "smith"),
    ("Adeyemi", "adeyemi"),
];
const DOMAINS: &[&str] = &[
    "example.org",
    "example.com",
    "mail.example.net",
    "post.example.co.uk",
    "firma.example.de",
    "xn--bcher-kva.example",
];
const COMPANIES: &[&str] =
    &["Acme & Söhne GmbH", "Globex", "Initech \"West\"", "株式会社サンプル", "Umbrella <Labs>", "Stark, Inc.", ""];
const MESSAGES: &[&str] = &[
    "Could you call me back tomorrow after 3 pm?",
    "Ich hätte gerne ein Angebot über 12 Stück.\nMit freundlichen Grüßen",
    "¿Tienen disponibilidad en marzo? 🙏",
    "Your page says {price} \u{2014} is that per user?",
    "Bonjour,\r\n\r\nje souhaite une démonstration.\r\n\r\nMerci d’avance",
    "見積もりをお願いします。",
    "'; DROP TABLE contacts; --",
    "<script>alert(\"hi\")</script>",
    "🎉🎉🎉",
    "A quotation: \"yes\", a backslash: \\, a tab:\t.",
];
const PAGES: &[&str] = &["/", "/contact", "/pricing", "/blog/2026/hello", "/produkte/übersicht"];
const CAMPAIGNS: &[&str] = &["spring-26", "newsletter-11", "brand"];

impl Generator {
    /// A generator of events whose ids start with `prefix`.
    #[must_use]
    pub fn new(seed: u64, prefix: &str) -> Self {
        let now_ms = jiff::Timestamp::now().as_millisecond();
        Self { rng: Rng::with_seed(seed), prefix: prefix.to_owned(), number: 0, now_ms, people: Vec::new() }
    }

    /// The next event, of a kind that comes as often as on a real site.
    pub fn sample(&mut self) -> Sample {
        let kind = match self.rng.u32(0..1000) {
            0..480 => Kind::Contact,
            480..520 => Kind::ContactAgain,
            520..600 => Kind::Newsletter,
            600..620 => Kind::InvalidEmail,
            620..635 => Kind::RefusedEmail,
            635..655 => Kind::MissingEmail,
            655..880 => Kind::Analytics,
            880..960 => Kind::PhoneTap,
            _ => Kind::Custom,
        };
        self.sample_of(kind)
    }

    /// The next event, of this kind.
    pub fn sample_of(&mut self, kind: Kind) -> Sample {
        self.number += 1;
        let id = format!("{}-{:05}", self.prefix, self.number);
        let (surface, fields) = match kind {
            Kind::Analytics => self.analytics(),
            Kind::PhoneTap => self.phone_tap(),
            Kind::Custom => self.custom(),
            Kind::Newsletter => {
                let person = self.new_person();
                ("form:newsletter", json!({ "email": person.email, "consent": true }))
            }
            _ => self.contact(kind),
        };
        let captured = self.now_ms - self.rng.i64(0..3_600_000);
        let captured_at = jiff::Timestamp::from_millisecond(captured).unwrap_or_default().to_string();
        let event = json!({
            "id": id,
            "surface": surface,
            "captured_at": captured_at,
            "fields": fields,
            "context": self.context(),
        });
        Sample { id, kind, event }
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        // `choice` asks for an iterator that knows its length; a slice does.
        self.rng.choice(from.iter()).copied()
    }

    fn text(&mut self, from: &[&'static str]) -> &'static str {
        self.pick(from).unwrap_or_default()
    }

    fn new_person(&mut self) -> Person {
        let (first, first_spelled) = self.pick(FIRST).unwrap_or_default();
        let (last, last_spelled) = self.pick(LAST).unwrap_or_default();
        let domain = self.text(DOMAINS);
        let tag = if self.rng.u8(..) < 40 { "+web" } else { "" };
        // The number makes the address this person's alone.
        let email = format!("{first_spelled}.{last_spelled}{}{tag}@{domain}", self.number);
        let person = Person { first, last, email };
        self.people.push(person.clone());
        person
    }

    fn contact(&mut self, kind: Kind) -> (&'static str, Value) {
        let person = match kind {
            Kind::ContactAgain if !self.people.is_empty() => {
                let index = self.rng.usize(0..self.people.len());
                let known = self.people.get(index).cloned();
                let mut person = known.unwrap_or_else(|| self.new_person());
                person.email = person.email.to_uppercase();
                person
            }
            _ => self.new_person(),
        };
        let mut fields = Map::new();
        let mut put = |name: &str, value: Value| {
            fields.insert(name.to_owned(), value);
        };
        put("first_name", person.first.into());
        put("last_name", person.last.into());
        match kind {
            Kind::InvalidEmail => {
                let bad = self.text(&["not an address", "ada@", "@example.org", "zoe.example.org", "a b@example.org"]);
                put("email", bad.into());
            }
            Kind::RefusedEmail => {
                // Addresses that a lenient check lets through and HubSpot does not.
                let refused = self.text(&["zoe..nowak@example.org", "ada@exa_mple.org", "li@-example.org"]);
                put("email", refused.into());
            }
            Kind::MissingEmail => {}
            _ => put("email", person.email.into()),
        }
        if self.rng.bool() {
            let number = self.rng.u32(1_000_000..9_999_999);
            put("phone", format!("+49 30 {number}").into());
        }
        let company = self.text(COMPANIES);
        if !company.is_empty() {
            put("company", company.into());
        }
        put("message", self.text(MESSAGES).into());
        put("consent", self.rng.bool().into());
        if self.rng.u8(..) < 60 {
            put("interests", json!(["pricing", "support"]));
        }
        if self.rng.u8(..) < 8 {
            // Now and then somebody pastes a whole document: large enough to be kept in several pieces.
            put("notes", "Lorem ipsum dolor sit amet. ".repeat(400).into());
        }
        ("form:contact", Value::Object(fields))
    }

    fn analytics(&mut self) -> (&'static str, Value) {
        let surface = self.text(&["analytics:page-view", "analytics:scroll", "analytics:outbound-click"]);
        let fields = json!({
            "path": self.text(PAGES),
            "duration_ms": self.rng.u32(200..90_000),
            "viewport": { "width": self.rng.u32(320..2560), "height": self.rng.u32(480..1440) },
            "experiment": Value::Null,
        });
        (surface, fields)
    }

    fn phone_tap(&mut self) -> (&'static str, Value) {
        let surface = self.text(&["phone-tap:header", "phone-tap:footer"]);
        (surface, json!({ "number": "+49 30 5550100", "path": self.text(PAGES) }))
    }

    fn custom(&mut self) -> (&'static str, Value) {
        let cents = self.rng.u32(100..100_000);
        (
            "event:checkout-started",
            json!({ "value": f64::from(cents) / 100.0, "currency": "EUR", "items": self.rng.u8(1..9) }),
        )
    }

    fn context(&mut self) -> Value {
        let path = self.text(PAGES);
        let page = json!({ "url": format!("https://acme.example{path}"), "title": "Acme – Willkommen" });
        if !self.rng.bool() {
            return json!({ "page": page });
        }
        let campaign = self.text(CAMPAIGNS);
        json!({ "page": page, "utm": { "source": "newsletter", "campaign": campaign } })
    }
}

impl Iterator for Generator {
    type Item = Sample;
    fn next(&mut self) -> Option<Sample> {
        Some(self.sample())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::fakes::hubspot::properties::is_email;

    #[test]
    fn a_seed_gives_the_same_events_but_for_their_times() {
        let make = || {
            let timeless = |mut sample: Sample| {
                sample.event["captured_at"] = Value::Null;
                sample
            };
            Generator::new(7, "e").take(200).map(timeless).collect::<Vec<_>>()
        };
        assert_eq!(make(), make());
    }

    #[test]
    fn a_thousand_events_hold_every_kind_and_no_id_twice() {
        let samples: Vec<Sample> = Generator::new(2026, "demo").take(1000).collect();
        let ids: BTreeSet<&str> = samples.iter().map(|s| s.id.as_str()).collect();
        assert_eq!(ids.len(), 1000);
        let mut kinds = BTreeMap::new();
        for sample in &samples {
            *kinds.entry(sample.kind).or_insert(0) += 1;
        }
        assert_eq!(kinds.len(), 9, "{kinds:?}");
    }

    #[test]
    fn an_address_is_valid_exactly_when_the_kind_says_so() {
        for sample in Generator::new(1, "e").take(3000).filter(|s| s.kind.is_form()) {
            let email = sample.event["fields"].get("email").and_then(Value::as_str);
            let valid = email.is_some_and(is_email);
            assert_eq!(valid, sample.kind.fate_as_contact() == Fate::Delivered, "{sample:?}");
        }
    }

    #[test]
    fn an_event_is_as_the_host_takes_it() {
        for sample in Generator::new(1, "e").take(100) {
            let event = sample.event.as_object().unwrap();
            let names: Vec<&str> = event.keys().map(String::as_str).collect();
            assert_eq!(names, ["captured_at", "context", "fields", "id", "surface"]);
            assert!(event["surface"].as_str().unwrap().contains(':'));
        }
    }
}
