//! The search: all encodings of all secrets in one pass, and whether it would have found one that is there.

use std::collections::BTreeMap;

use aho_corasick::{AhoCorasick, AhoCorasickKind};
use anyhow::{Context as _, Result};
use fastrand::Rng;

use super::encodings::ENCODINGS;

/// How much of a place is around the planted secret when the search itself is tried.
const AROUND: usize = 32 * 1024;
/// How many findings are told in words.
const TOLD: usize = 20;

/// Finds secrets in bytes. Cloning is not needed: it is shared by reference.
pub(super) struct Search {
    automaton: AhoCorasick,
    /// Of each pattern: the secret's number and the encoding's.
    patterns: Vec<(usize, usize)>,
    /// A secret that no host ever has: planted to see whether the search finds what is there.
    planted: Vec<Vec<u8>>,
    planted_number: usize,
}

/// A secret where none may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hit {
    /// The secret's number.
    pub(super) secret: usize,
    /// The encoding's name.
    pub(super) encoding: &'static str,
}

impl Search {
    /// For these secrets, each by its parts.
    pub(super) fn new(secrets: &[Vec<Vec<u8>>], planted: &[u8]) -> Result<Self> {
        let planted: Vec<Vec<u8>> = ENCODINGS.iter().map(|encoding| (encoding.needle)(planted)).collect();
        let (mut needles, mut patterns) = (Vec::new(), Vec::new());
        for (number, parts) in secrets.iter().enumerate() {
            for (at, encoding) in ENCODINGS.iter().enumerate() {
                for needle in parts.iter().map(|part| (encoding.needle)(part)).filter(|needle| !needle.is_empty()) {
                    needles.push(needle);
                    patterns.push((number, at));
                }
            }
        }
        let planted_number = secrets.len();
        for (at, needle) in planted.iter().enumerate() {
            needles.push(needle.clone());
            patterns.push((planted_number, at));
        }
        let automaton = AhoCorasick::builder().kind(Some(AhoCorasickKind::ContiguousNFA)).build(&needles);
        let automaton = automaton.context("the search cannot be built")?;
        Ok(Self { automaton, patterns, planted, planted_number })
    }

    /// The first secret in these bytes.
    pub(super) fn find(&self, bytes: &[u8]) -> Option<Hit> {
        let found = self.automaton.find(bytes)?;
        let (secret, encoding) = *self.patterns.get(found.pattern().as_usize())?;
        Some(Hit { secret, encoding: ENCODINGS.get(encoding)?.name })
    }

    /// Whether the planted secret, in the encoding of this number, is found among these bytes.
    fn finds_planted(&self, bytes: &[u8], number: usize, rng: &mut Rng) -> bool {
        let Some(needle) = self.planted.get(number % self.planted.len().max(1)) else { return false };
        let at = rng.usize(0..=bytes.len());
        let before = bytes.get(at.saturating_sub(AROUND)..at).unwrap_or_default();
        let after = bytes.get(at..bytes.len().min(at.saturating_add(AROUND))).unwrap_or_default();
        let found = self.find(&[before, needle, after].concat());
        found.is_some_and(|hit| hit.secret == self.planted_number)
    }
}

/// What was searched of one kind of place.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Searched {
    pub(super) places: usize,
    pub(super) bytes: u64,
    /// Places in which the planted secret was found.
    controls: usize,
    /// Places in which the decoy, which is no secret, was found as it is.
    decoys: usize,
}

/// The account of all places.
pub(super) struct Places<'a> {
    search: &'a Search,
    decoy: &'a [u8],
    rng: Rng,
    kinds: BTreeMap<&'static str, Searched>,
    found: usize,
    told: Vec<String>,
}

impl<'a> Places<'a> {
    pub(super) fn new(search: &'a Search, decoy: &'a str, seed: u64) -> Self {
        let rng = Rng::with_seed(seed);
        Self { search, decoy: decoy.as_bytes(), rng, kinds: BTreeMap::new(), found: 0, told: Vec::new() }
    }

    /// Searches one place.
    pub(super) fn look(&mut self, kind: &'static str, name: &str, bytes: &[u8]) {
        if let Some(hit) = self.search.find(bytes) {
            self.count(kind, name, hit);
        }
        let known = self.kinds.entry(kind).or_default();
        let control = self.search.finds_planted(bytes, known.places, &mut self.rng);
        known.places += 1;
        known.bytes += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        known.controls += usize::from(control);
        known.decoys += usize::from(contains(bytes, self.decoy));
    }

    /// Takes over what was searched elsewhere, piece by piece.
    pub(super) fn take(&mut self, kind: &'static str, searched: Searched, hits: &[Hit]) {
        for hit in hits {
            self.count(kind, "a piece", *hit);
        }
        self.kinds.insert(kind, searched);
    }

    fn count(&mut self, kind: &str, name: &str, hit: Hit) {
        self.found += 1;
        if self.told.len() < TOLD {
            self.told.push(format!("{kind}: {name} holds secret {} as {}", hit.secret, hit.encoding));
        }
    }

    pub(super) fn found(&self) -> usize {
        self.found
    }

    pub(super) fn places(&self) -> usize {
        self.kinds.values().map(|searched| searched.places).sum()
    }

    /// What was searched of each kind.
    pub(super) fn kinds(&self) -> impl Iterator<Item = (&'static str, Searched)> + '_ {
        self.kinds.iter().map(|(kind, searched)| (*kind, *searched))
    }

    /// Everything that is wrong: secrets that were found, and kinds of places of which nothing can be said.
    pub(super) fn complaints(&self, expected: &[(&'static str, bool)]) -> Vec<String> {
        let mut complaints = self.told.clone();
        for (kind, carries) in expected {
            let searched = self.kinds.get(kind).copied().unwrap_or_default();
            if searched.places == 0 {
                complaints.push(format!("{kind}: nothing of this kind was searched"));
            }
            if searched.controls < searched.places {
                let missed = searched.places - searched.controls;
                complaints.push(format!("{kind}: a planted secret was not found in {missed} places"));
            }
            if *carries && searched.decoys == 0 {
                complaints.push(format!("{kind}: the decoy, which belongs there, was not found"));
            }
        }
        for (kind, _) in self.kinds() {
            if !expected.iter().any(|(known, _)| *known == kind) {
                complaints.push(format!("{kind}: is no expected kind of place"));
            }
        }
        complaints
    }
}

impl Searched {
    /// Searches one piece of a place that comes in pieces. The control is tried on every piece.
    pub(super) fn piece(&mut self, search: &Search, decoy: &[u8], bytes: &[u8], rng: &mut Rng) -> Option<Hit> {
        self.controls += usize::from(search.finds_planted(bytes, self.places, rng));
        self.places += 1;
        self.bytes += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.decoys += usize::from(contains(bytes, decoy));
        search.find(bytes)
    }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    // The text is random: its first byte is rare enough.
    let Some(first) = needle.first() else { return true };
    haystack
        .iter()
        .enumerate()
        .any(|(at, byte)| byte == first && haystack.get(at..).is_some_and(|rest| rest.starts_with(needle)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SECRET: &[u8] = b"a-secret/with+every\"kind&of<character";

    fn search() -> Search {
        Search::new(&[vec![SECRET.to_vec()]], b"a-planted/one+with\"every&kind<of>it").unwrap()
    }

    #[test]
    fn every_encoding_is_found_wherever_it_is() {
        for encoding in ENCODINGS {
            let text = [b"before ", (encoding.needle)(SECRET).as_slice(), b" after"].concat();
            assert_eq!(search().find(&text).map(|hit| hit.secret), Some(0), "{}", encoding.name);
        }
        assert_eq!(search().find(b"nothing to see"), None);
    }

    #[test]
    fn a_kind_that_was_not_searched_or_lacks_its_decoy_is_a_complaint() {
        let search = search();
        let mut places = Places::new(&search, "decoy-1", 1);
        places.look("files", "a", b"with decoy-1 in it");
        assert!(places.complaints(&[("files", true)]).is_empty());
        assert_eq!(places.complaints(&[("files", true), ("logs", false)]).len(), 1);
        places.look("answers", "b", b"nothing");
        assert_eq!(places.complaints(&[("files", true), ("answers", true)]).len(), 1);
        assert_eq!(places.complaints(&[("files", true)]).len(), 1, "a kind that nobody expected");
        places.look("files", "c", SECRET);
        assert_eq!((places.found(), places.places()), (1, 3));
        assert_eq!(places.complaints(&[("files", true), ("answers", false)]).len(), 1);
    }
}
