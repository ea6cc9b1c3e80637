//! Proofs against real counterparts: an OAuth server, AWS's signatures, and a service account's verifier, none of them ours.
//!
//! They run the host's rooms that speak to a vendor (the gate, the sources of tokens, the vault and the store) in their own
//! process, which is why this is a crate of its own, and start the counterpart as a process on a free port.

pub mod counterpart;
pub mod oauth;
pub mod person;
pub mod rooms;
pub mod service_account;
pub mod sigv4;
