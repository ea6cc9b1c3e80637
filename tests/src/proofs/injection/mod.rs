//! Harm at one call: the host is killed, or its disk fails, at a chosen call that changes the store's folder.
//!
//! [`interposer`] puts itself between the host and the C library, [`stage`] is what the host does meanwhile, [`life`] one
//! run of it, [`verdict`] what must hold afterwards. [`worker`] puts them together for one point; [`witness`] makes sure
//! that no call goes unseen.

pub mod interposer;
pub mod kind;
pub mod life;
pub mod stage;
pub mod verdict;
pub mod witness;
pub mod worker;
