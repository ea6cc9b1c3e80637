//! The connector's own log, shown to platform engineers.
//!
//! Never for operators (that is what a [`crate::Failure`]'s message is for), and never for the content of events: lines
//! are kept longer than events are. The host escapes, truncates and counts lines.
//!
//! ```
//! use sgen_connector_sdk::log;
//!
//! log::info("batch sent", &[("events", &25), ("requests", &1)]);
//! ```

use std::fmt::Display;

/// How important a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Every step.
    Trace,
    /// What helps to find a fault.
    Debug,
    /// What happens in a normal run.
    Info,
    /// What should not happen, and was dealt with.
    Warn,
    /// What should not happen.
    Error,
}

/// Writes one line with named fields.
pub fn write(level: Level, message: &str, fields: &[(&str, &dyn Display)]) {
    let fields: Vec<(&str, String)> = fields.iter().map(|(name, value)| (*name, value.to_string())).collect();
    #[cfg(target_arch = "wasm32")]
    crate::guest::write_log(level, message, &fields);
    #[cfg(not(target_arch = "wasm32"))]
    crate::backend::write_log(level, message, &fields);
}

/// [`write`] at [`Level::Trace`].
pub fn trace(message: &str, fields: &[(&str, &dyn Display)]) {
    write(Level::Trace, message, fields);
}

/// [`write`] at [`Level::Debug`].
pub fn debug(message: &str, fields: &[(&str, &dyn Display)]) {
    write(Level::Debug, message, fields);
}

/// [`write`] at [`Level::Info`].
pub fn info(message: &str, fields: &[(&str, &dyn Display)]) {
    write(Level::Info, message, fields);
}

/// [`write`] at [`Level::Warn`].
pub fn warn(message: &str, fields: &[(&str, &dyn Display)]) {
    write(Level::Warn, message, fields);
}

/// [`write`] at [`Level::Error`].
pub fn error(message: &str, fields: &[(&str, &dyn Display)]) {
    write(Level::Error, message, fields);
}
