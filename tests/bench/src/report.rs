//! Figures: how they are printed, and the file that keeps the last of each.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

/// One figure of a bench, with what it must reach. Smaller is better.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Figure {
    bench: String,
    what: String,
    value: f64,
    unit: String,
    reach: f64,
    /// What else was measured, for the reader.
    detail: String,
}

impl Figure {
    pub(crate) fn new(bench: &str, what: &str, value: f64, unit: &str, reach: f64, detail: String) -> Self {
        Self { bench: bench.into(), what: what.into(), value, unit: unit.into(), reach, detail }
    }

    /// Whether it is within reach.
    pub(crate) fn reached(&self) -> bool {
        self.value <= self.reach
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bench, what, value, unit, reach, .. } = self;
        let verdict = if self.reached() { "ok" } else { "short" };
        write!(f, "bench {bench} {what}: {value:.2}{unit} (reach {reach}{unit}): {verdict}")
    }
}

/// Adds figures to `target/bench/report.json`, replacing earlier ones of the same name.
pub(crate) fn keep(figures: &[Figure]) -> Result<()> {
    let folder = sgen_tests::paths::target().join("bench");
    let file = folder.join("report.json");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut all: BTreeMap<String, Figure> = match fs::read(&file) {
        Ok(bytes) => {
            serde_json::from_slice(&bytes).with_context(|| format!("{} is not a report; delete it", file.display()))?
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
    };
    for figure in figures {
        all.insert(format!("{} {}", figure.bench, figure.what), figure.clone());
    }
    fs::write(&file, serde_json::to_vec_pretty(&all)?).with_context(|| format!("cannot write {}", file.display()))
}

/// The middle of several measurements.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
