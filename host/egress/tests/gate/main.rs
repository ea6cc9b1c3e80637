//! The gate end to end, against real servers on loopback.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod addresses;
mod bad_answers;
mod injection;
mod isolation;
mod kit;
mod rate;
mod reflection;
mod tls;
mod tokens;
