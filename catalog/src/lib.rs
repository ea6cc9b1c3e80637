//! The catalog: what a connector declares, how a platform release is signed, and how a host verifies one.
//!
//! - [`manifest`] is the `connector.toml` of a connector: endpoints, credential slots, settings, mapping targets.
//! - [`release`] is the document that pins every connector of a platform release by digest.
//! - [`dsse`], [`key`] and [`trust`] are the signatures around it and the keys that may make them.
//! - [`component`] looks at what a WebAssembly component imports and exports, without running it.
//! - [`folder`] writes a release to a folder and opens one again; [`open`] is all that a host needs.
//!
//! This crate knows nothing of the host: it opens no sockets, reads no clock (time is an argument) and keeps no state
//! (what was seen before is an argument, [`Floor`]).

pub mod component;
pub mod digest;
pub mod dsse;
pub mod error;
pub mod folder;
pub mod key;
pub mod manifest;
pub mod pattern;
pub mod release;
mod settings;
pub mod trust;
pub mod units;

pub use component::{Ability, ComponentError, Interface};
pub use digest::Digest;
pub use error::CatalogError;
pub use folder::{Catalog, Entry, Floor, open};
pub use key::{KeyError, KeyId, PublicKey, SigningKey};
pub use manifest::{Manifest, ManifestError};
pub use pattern::{PathPattern, PatternError, UrlPattern};
pub use trust::{Role, TrustError, TrustRoot};

/// The WIT world that this version of the project speaks, as manifests name it.
pub const WORLD: &str = "sgen:connector@1.0.0";
