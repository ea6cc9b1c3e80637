//! Proofs: claims about the whole host, checked at any size, each ending with one closing line of figures.

pub mod canary;
pub mod crash;
pub mod examine;
pub mod injection;
pub mod ledger;
pub mod syscalls;
