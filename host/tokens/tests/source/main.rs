//! Sources of tokens against a vendor on loopback, through a real gate, over a real vault.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod grant;
mod kit;
mod renewal;
mod rsa;
