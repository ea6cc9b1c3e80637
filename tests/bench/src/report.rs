//! Figures: how they are printed, and the file that keeps the last of each.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::usage;

/// What a figure must reach.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Reach {
    AtLeast(f64),
    AtMost(f64),
    /// Nothing: it is there to be read beside others.
    Told,
}

/// The same done natively in the same run, as far as it can be: what of a figure is the machine's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Baseline {
    /// What was done.
    pub(crate) what: String,
    /// In the figure's unit.
    pub(crate) value: f64,
}

/// One figure of a bench.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Figure {
    bench: String,
    what: String,
    pub(crate) value: f64,
    unit: String,
    reach: Reach,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    baseline: Option<Baseline>,
    /// The machine's load average of the last minute when it was measured.
    load_average: f64,
    /// What else was measured, for the reader.
    detail: String,
}

impl Figure {
    pub(crate) fn new(bench: &str, what: &str, value: f64, unit: &str, reach: Reach, detail: String) -> Self {
        let load_average = usage::load_average();
        Self {
            bench: bench.into(),
            what: what.into(),
            value,
            unit: unit.into(),
            reach,
            baseline: None,
            load_average,
            detail,
        }
    }

    /// Adds what the same run reached natively.
    pub(crate) fn beside(self, what: &str, value: f64) -> Self {
        Self { baseline: Some(Baseline { what: what.into(), value }), ..self }
    }

    /// Whether it is within reach. A figure that is not a number is not.
    pub(crate) fn reached(&self) -> bool {
        match self.reach {
            Reach::AtLeast(reach) => self.value >= reach,
            Reach::AtMost(reach) => self.value <= reach,
            Reach::Told => true,
        }
    }

    /// Whether it is this figure of this bench.
    pub(crate) fn is(&self, bench: &str, what: &str) -> bool {
        self.bench == bench && self.what == what
    }

    fn name(&self) -> String {
        format!("{} {}", self.bench, self.what)
    }

    fn verdict(&self) -> &'static str {
        match (self.reach, self.reached()) {
            (Reach::Told, _) => "",
            (_, true) => "reached",
            (_, false) => "not reached",
        }
    }

    fn target(&self) -> String {
        match self.reach {
            Reach::AtLeast(reach) => format!("≥ {}", number(reach)),
            Reach::AtMost(reach) => format!("≤ {}", number(reach)),
            Reach::Told => String::new(),
        }
    }

    fn beside_it(&self) -> String {
        self.baseline.as_ref().map_or_else(String::new, |baseline| {
            format!("{:.2} × {} ({})", self.value / baseline.value, number(baseline.value), baseline.what)
        })
    }
}

/// A number with as many digits as say something.
fn number(value: f64) -> String {
    if value.abs() >= 1000.0 {
        let digits = format!("{:.0}", value.abs());
        let mut grouped = String::new();
        for (index, digit) in digits.chars().enumerate() {
            if index > 0 && (digits.len() - index).is_multiple_of(3) {
                grouped.push(',');
            }
            grouped.push(digit);
        }
        return if value < 0.0 { format!("-{grouped}") } else { grouped };
    }
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { value, unit, detail, load_average, .. } = self;
        write!(f, "bench {}: {} {unit}", self.name(), number(*value))?;
        if self.reach != Reach::Told {
            write!(f, " (target {} {unit}: {})", self.target(), self.verdict())?;
        }
        if self.baseline.is_some() {
            write!(f, "; {}", self.beside_it())?;
        }
        write!(f, "\n      {detail}; load average {load_average:.1}")
    }
}

/// All figures as a table.
pub(crate) fn table(figures: &[Figure]) -> String {
    let head = ["figure", "value", "unit", "target", "", "native in the same run"].map(str::to_owned);
    let rows = figures.iter().map(|figure| {
        let verdict = figure.verdict().to_owned();
        [figure.name(), number(figure.value), figure.unit.clone(), figure.target(), verdict, figure.beside_it()]
    });
    let rows: Vec<[String; 6]> = std::iter::once(head).chain(rows).collect();
    let mut widths = [0_usize; 6];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |row: &[String; 6]| {
        let cells = row.iter().zip(widths).enumerate().map(|(column, (cell, width))| {
            let space = " ".repeat(width - cell.chars().count());
            if column == 1 { format!("{space}{cell}") } else { format!("{cell}{space}") }
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Writes one run's figures to a file, to be compared with another's.
pub(crate) fn write(figures: &[Figure], file: &Path) -> Result<()> {
    fs::write(file, serde_json::to_vec_pretty(figures)?).with_context(|| format!("cannot write {}", file.display()))
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
        all.insert(figure.name(), figure.clone());
    }
    fs::write(&file, serde_json::to_vec_pretty(&all)?).with_context(|| format!("cannot write {}", file.display()))
}

/// The middle of several measurements.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn figure(value: f64, reach: Reach) -> Figure {
        Figure::new("ingest", "singles", value, "events/s", reach, "64 connections".to_owned())
    }

    #[test]
    fn what_is_not_a_number_reaches_nothing() {
        assert!(!figure(f64::NAN, Reach::AtLeast(1.0)).reached());
        assert!(!figure(f64::NAN, Reach::AtMost(1.0)).reached());
        assert!(figure(2.0, Reach::AtLeast(2.0)).reached() && figure(2.0, Reach::AtMost(2.0)).reached());
        assert!(!figure(1.9, Reach::AtLeast(2.0)).reached() && !figure(2.1, Reach::AtMost(2.0)).reached());
    }

    #[test]
    fn a_figure_says_its_target_and_the_share_of_its_baseline() {
        let text = figure(12_345.6, Reach::AtLeast(10_000.0)).beside("append and sync", 24_691.2).to_string();
        assert!(
            text.starts_with("bench ingest singles: 12,346 events/s (target ≥ 10,000 events/s: reached); 0.50 ×"),
            "{text}"
        );
        let table = table(&[figure(0.5, Reach::AtMost(0.25)), figure(1_000_000.0, Reach::Told)]);
        let lines: Vec<&str> = table.lines().collect();
        assert!(lines.get(1).unwrap().contains("0.5  events/s  ≤ 0.25  not reached"), "{table}");
        assert!(lines.get(2).unwrap().ends_with("1,000,000  events/s"), "{table}");
    }
}
