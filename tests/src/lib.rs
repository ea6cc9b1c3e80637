//! The fixture kit of the end-to-end tests, the demo, the proofs and the benches.
//!
//! It knows the host only as its users do: as a process with a configuration file and an HTTP API. Nothing here reaches
//! into the host's crates, so what passes here holds for the program that is shipped.

pub mod client;
pub mod demo;
pub mod events;
pub mod fakes;
pub mod host;
pub mod page;
pub mod paths;
pub mod proofs;
pub mod scene;
pub mod wait;
