//! Live progress: a bar where there is a terminal, a line now and then where there is none.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often a line is written where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(1);

/// Shows how far something is.
pub struct Progress {
    bar: Option<ProgressBar>,
    total: u64,
    last_line: Option<Instant>,
    last_text: String,
}

impl Progress {
    /// Progress towards `total`.
    #[must_use]
    pub fn new(total: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
            if let Ok(style) = ProgressStyle::with_template("  [{bar:32}] {pos}/{len} {msg}") {
                bar.set_style(style.progress_chars("=> "));
            }
            bar
        });
        Self { bar, total, last_line: None, last_text: String::new() }
    }

    /// Shows the position and what is behind it.
    pub fn show(&mut self, position: u64, text: &str) {
        match &self.bar {
            Some(bar) => {
                bar.set_position(position);
                bar.set_message(text.to_owned());
            }
            None => {
                let line = format!("  {position}/{} {text}", self.total);
                let due = self.last_line.is_none_or(|at| at.elapsed() >= LINE_INTERVAL);
                if due && line != self.last_text {
                    self.write(line);
                }
            }
        }
    }

    /// Shows the last state for good.
    pub fn finish(&mut self, position: u64, text: &str) {
        match self.bar.take() {
            Some(bar) => {
                bar.set_position(position);
                bar.finish_with_message(text.to_owned());
            }
            None => {
                let line = format!("  {position}/{} {text}", self.total);
                if line != self.last_text {
                    self.write(line);
                }
            }
        }
    }

    fn write(&mut self, line: String) {
        // A closed error output is nobody looking: the work goes on.
        let _ = writeln!(std::io::stderr(), "{line}");
        self.last_line = Some(Instant::now());
        self.last_text = line;
    }
}
