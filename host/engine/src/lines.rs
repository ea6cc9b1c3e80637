//! The connector's log of one invocation: bounded, escaped, and telling what it dropped.

use std::fmt::Write as _;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// `trace` … `error`.
    pub level: &'static str,
    /// Message and fields, escaped.
    pub text: String,
}

/// The lines of one invocation.
#[derive(Debug)]
pub(crate) struct Lines {
    kept: Vec<Line>,
    dropped: u64,
    lines_left: usize,
    bytes_left: usize,
}

/// The longest line, in bytes.
const LINE: usize = 1024;

impl Lines {
    pub(crate) fn new(lines: usize, bytes: usize) -> Self {
        Self { kept: Vec::new(), dropped: 0, lines_left: lines, bytes_left: bytes }
    }

    pub(crate) fn push(&mut self, level: &'static str, message: &str, fields: &[(impl AsRef<str>, impl AsRef<str>)]) {
        if self.lines_left == 0 || self.bytes_left == 0 {
            self.dropped = self.dropped.saturating_add(1);
            return;
        }
        let room = LINE.min(self.bytes_left);
        let mut text = String::new();
        escape(&mut text, message, room);
        for (name, value) in fields {
            if text.len() >= room {
                break;
            }
            text.push(' ');
            escape(&mut text, name.as_ref(), room);
            text.push('=');
            escape(&mut text, value.as_ref(), room);
        }
        self.lines_left = self.lines_left.saturating_sub(1);
        self.bytes_left = self.bytes_left.saturating_sub(text.len().max(1));
        self.kept.push(Line { level, text });
    }

    /// The last line at error level: a panic's message, when there was one.
    pub(crate) fn last_error(&self) -> Option<&str> {
        self.kept.iter().rev().find(|line| line.level == "error").map(|line| line.text.as_str())
    }

    /// The lines, with a last one that tells how many were dropped.
    pub(crate) fn finish(mut self) -> Vec<Line> {
        if self.dropped > 0 {
            self.kept.push(Line { level: "warn", text: format!("{} more lines dropped: log quota", self.dropped) });
        }
        self.kept
    }
}

/// Appends `text`, control characters escaped, until `out` has `room` bytes.
fn escape(out: &mut String, text: &str, room: usize) {
    for c in text.chars() {
        if out.len() >= room {
            out.push('…');
            return;
        }
        if c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
        {
            // Writing to a String cannot fail.
            let _ = write!(out, "{}", c.escape_unicode());
        } else {
            out.push(c);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    const NONE: &[(&str, &str)] = &[];

    #[test]
    fn a_flood_is_cut_and_counted() {
        let mut lines = Lines::new(3, 10_000);
        for i in 0..10 {
            lines.push("info", &format!("line {i}"), NONE);
        }
        let kept = lines.finish();
        assert_eq!(kept.len(), 4);
        assert_eq!(kept[3].text, "7 more lines dropped: log quota");

        let mut lines = Lines::new(1000, 3000);
        for _ in 0..1000 {
            lines.push("info", &"x".repeat(100_000), NONE);
        }
        let kept = lines.finish();
        assert!(kept.iter().map(|l| l.text.len()).sum::<usize>() < 3200);
    }

    #[test]
    fn control_characters_are_escaped() {
        let mut lines = Lines::new(3, 1000);
        lines.push("error", "a\n\u{1b}[2Jb\u{202e}", &[("k\r", "v\0")]);
        assert_eq!(lines.last_error().unwrap(), "a\\u{a}\\u{1b}[2Jb\\u{202e} k\\u{d}=v\\u{0}");
    }
}
