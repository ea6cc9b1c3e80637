//! What a component asks for and offers, read from its bytes without running them.
//!
//! The import list of a component is the complete list of what it can ever call. It is checked when a release is made
//! and again when one is opened, so that neither side has to trust the other's check.

use std::collections::BTreeSet;
use std::fmt;

use wasmparser::component_types::ComponentEntityType;
use wasmparser::types::Types;
use wasmparser::{Encoding, Parser, Payload, Validator, WasmFeatures};

/// Interfaces of `sgen:connector@1.0.0` with functions that the host provides.
const CALLABLE: [&str; 2] = ["egress", "log"];
/// Interfaces of `sgen:connector@1.0.0` that a component may import for their types.
const TYPES_ONLY: [&str; 8] =
    ["failures", "delivery", "health", "choices", "identity", "revocation", "erasure", "migration"];
/// What every connector exports.
const REQUIRED: [&str; 3] = ["delivery", "health", "choices"];
/// WASI 0.2 interfaces that a language's standard library imports whether it uses them or not. The host links them to
/// an empty context. Not among them: sockets and http, which would be a second way out of the sandbox.
const WASI: [(&str, &[&str]); 5] = [
    ("wasi:io/", &["error", "poll", "streams"]),
    ("wasi:clocks/", &["monotonic-clock", "wall-clock"]),
    ("wasi:random/", &["random", "insecure", "insecure-seed"]),
    (
        "wasi:cli/",
        &[
            "environment",
            "exit",
            "stdin",
            "stdout",
            "stderr",
            "terminal-input",
            "terminal-output",
            "terminal-stdin",
            "terminal-stdout",
            "terminal-stderr",
        ],
    ),
    ("wasi:filesystem/", &["types", "preopens"]),
];

/// What a component may do beyond delivery: optional interfaces that it exports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ability {
    /// Tells which downstream account the credential belongs to.
    Identity,
    /// Revokes the grant at the downstream.
    Revocation,
    /// Erases a person at the downstream.
    Erasure,
    /// Brings settings of an earlier version to this one's shape.
    Migration,
}

impl Ability {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Identity, Self::Revocation, Self::Erasure, Self::Migration];

    /// The interface's name within `sgen:connector`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Revocation => "revocation",
            Self::Erasure => "erasure",
            Self::Migration => "migration",
        }
    }
}

impl fmt::Display for Ability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a component that may be released asks for and offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Every import, all of them allowed.
    pub imports: BTreeSet<String>,
    /// Every export, the required ones among them.
    pub exports: BTreeSet<String>,
    /// The optional interfaces that it exports.
    pub abilities: BTreeSet<Ability>,
}

/// Why a component must not be released or run. The connector's author must act.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ComponentError {
    /// A core module, or no WebAssembly at all.
    #[error("it is no WebAssembly component: {0}")]
    NotAComponent(String),
    /// Its bytes break the rules of WebAssembly, or use a proposal that the host does not run.
    #[error("it is no valid component: {0}")]
    Invalid(String),
    /// It asks for what is not granted or lacks what is required.
    #[error("{}", refusals(.imports, .missing))]
    Interface {
        /// Every import that is not allowed, with the reason.
        imports: Vec<String>,
        /// Every export that is missing.
        missing: Vec<String>,
    },
}

fn refusals(imports: &[String], missing: &[String]) -> String {
    let mut parts = Vec::new();
    if !imports.is_empty() {
        parts.push(format!("it imports what no connector may: {}", imports.join("; ")));
    }
    if !missing.is_empty() {
        parts.push(format!("it does not export {}", missing.join(", ")));
    }
    parts.join("; and ")
}

/// The WebAssembly that connectors may be made of: version 2 of the core specification with what toolchains emit
/// today, and the component model without its asynchronous part. Threads, 64-bit memories, garbage collection and
/// exceptions are not needed, and what is not there cannot fail.
fn features() -> WasmFeatures {
    WasmFeatures::WASM2
        | WasmFeatures::COMPONENT_MODEL
        | WasmFeatures::TAIL_CALL
        | WasmFeatures::EXTENDED_CONST
        | WasmFeatures::MULTI_MEMORY
}

/// Validates a component and checks its imports and exports.
///
/// # Errors
/// [`ComponentError`], with every import and export at fault.
pub fn inspect(wasm: &[u8]) -> Result<Interface, ComponentError> {
    let (import_names, exports) = outer_names(wasm)?;
    let types = Validator::new_with_features(features())
        .validate_all(wasm)
        .map_err(|e| ComponentError::Invalid(e.to_string()))?;
    let imports: Vec<String> =
        import_names.iter().filter_map(|name| refusal(name, &types).map(|why| format!("{name} ({why})"))).collect();
    let missing: Vec<String> = REQUIRED.iter().map(|name| own(name)).filter(|name| !exports.contains(name)).collect();
    if !imports.is_empty() || !missing.is_empty() {
        return Err(ComponentError::Interface { imports, missing });
    }
    let abilities = Ability::ALL.into_iter().filter(|ability| exports.contains(&own(ability.as_str()))).collect();
    Ok(Interface { imports: import_names, exports, abilities })
}

fn own(interface: &str) -> String {
    format!("sgen:connector/{interface}@1.0.0")
}

/// The names that the outermost component imports and exports; those of components nested in it are its own affair,
/// since it can hand them nothing but what it has itself.
fn outer_names(wasm: &[u8]) -> Result<(BTreeSet<String>, BTreeSet<String>), ComponentError> {
    let invalid = |e: wasmparser::Error| ComponentError::Invalid(e.to_string());
    let (mut imports, mut exports) = (BTreeSet::new(), BTreeSet::new());
    let (mut depth, mut begun) = (0_usize, false);
    let mut parser = Parser::new(0);
    parser.set_features(features());
    for payload in parser.parse_all(wasm) {
        let payload =
            payload.map_err(|e| if begun { invalid(e) } else { ComponentError::NotAComponent(e.to_string()) })?;
        match payload {
            Payload::Version { encoding: Encoding::Module, .. } if !begun => {
                return Err(ComponentError::NotAComponent("a core module; wrap it as a component first".into()));
            }
            Payload::Version { .. } => begun = true,
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    imports.insert(import.map_err(invalid)?.name.full_name().into_owned());
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section {
                    exports.insert(export.map_err(invalid)?.name.full_name().into_owned());
                }
            }
            _ => {}
        }
    }
    if begun { Ok((imports, exports)) } else { Err(ComponentError::NotAComponent("the file is empty".into())) }
}

/// Why an import is not allowed; nothing when it is.
fn refusal(name: &str, types: &Types) -> Option<&'static str> {
    let Some(item) = types.component_item_for_import(name) else { return Some("not understood") };
    let ComponentEntityType::Instance(id) = item.ty else { return Some("not an interface") };
    let Some((interface, version)) = name.rsplit_once('@') else { return Some("without a version") };
    if let Some(own) = interface.strip_prefix("sgen:connector/") {
        if version != "1.0.0" {
            return Some("a version of sgen:connector that this host does not have");
        }
        if CALLABLE.contains(&own) {
            return None;
        }
        if !TYPES_ONLY.contains(&own) {
            return Some("no interface of sgen:connector");
        }
        let calls = types[id].exports.values().any(|export| matches!(export.ty, ComponentEntityType::Func(_)));
        return calls.then_some("the host provides only the types of this interface");
    }
    let known =
        WASI.iter().any(|(package, names)| interface.strip_prefix(package).is_some_and(|name| names.contains(&name)));
    if !known {
        return Some("not among the allowed interfaces");
    }
    let supported = semver::Version::parse(version)
        .is_ok_and(|v| (v.major, v.minor) == (0, 2) && v.pre.is_empty() && v.build.is_empty());
    (!supported).then_some("only WASI 0.2 is allowed")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    /// A component with these imports (name and kind) and exports.
    fn component(imports: &[(&str, &str)], exports: &[&str]) -> Vec<u8> {
        let mut text = String::from("(component ");
        for (name, kind) in imports {
            text.push_str(&format!("(import \"{name}\" {kind}) "));
        }
        text.push_str("(component $inner) (instance $empty (instantiate $inner)) ");
        for name in exports {
            text.push_str(&format!("(export \"{name}\" (instance $empty)) "));
        }
        text.push(')');
        wat::parse_str(&text).unwrap()
    }

    const ALL: [&str; 3] =
        ["sgen:connector/delivery@1.0.0", "sgen:connector/health@1.0.0", "sgen:connector/choices@1.0.0"];

    #[test]
    fn a_connector_with_allowed_imports_is_described() {
        let wasm = component(
            &[
                ("sgen:connector/failures@1.0.0", "(instance)"),
                ("sgen:connector/egress@1.0.0", "(instance (export \"f\" (func)))"),
                ("sgen:connector/log@1.0.0", "(instance (export \"write\" (func)))"),
                ("wasi:io/streams@0.2.6", "(instance (export \"f\" (func)))"),
                ("wasi:cli/terminal-stdin@0.2.0", "(instance)"),
                ("wasi:filesystem/preopens@0.2.3", "(instance)"),
            ],
            &[ALL[0], ALL[1], ALL[2], "sgen:connector/erasure@1.0.0", "exports"],
        );
        let interface = inspect(&wasm).unwrap();
        assert_eq!(interface.imports.len(), 6);
        assert_eq!(interface.exports.len(), 5);
        assert_eq!(interface.abilities, BTreeSet::from([Ability::Erasure]));
    }

    #[test]
    fn every_import_outside_the_list_is_refused_and_named() {
        for (name, kind, why) in [
            ("wasi:sockets/tcp@0.2.6", "(instance)", "not among"),
            ("wasi:http/outgoing-handler@0.2.6", "(instance)", "not among"),
            ("wasi:io/streams@0.3.0", "(instance)", "only WASI 0.2"),
            ("wasi:io/streams@0.2.0-rc-2023-11-10", "(instance)", "only WASI 0.2"),
            ("wasi:io/streams", "(instance)", "without a version"),
            ("wasi:io/other@0.2.6", "(instance)", "not among"),
            ("evil:io/streams@0.2.6", "(instance)", "not among"),
            ("sgen:connector/egress@1.1.0", "(instance)", "a version"),
            ("sgen:connector/vault@1.0.0", "(instance)", "no interface"),
            ("sgen:connector/delivery@1.0.0", "(instance (export \"deliver\" (func)))", "only the types"),
            ("sgen:connectors/egress@1.0.0", "(instance)", "not among"),
            ("escape", "(func)", "not an interface"),
            ("sgen:connector/egress@1.0.0", "(func)", "not an interface"),
        ] {
            let error = inspect(&component(&[(name, kind)], &ALL)).unwrap_err();
            let ComponentError::Interface { imports, missing } = &error else { panic!("{name}: {error}") };
            assert_eq!((imports.len(), missing.len()), (1, 0), "{name}");
            assert!(imports[0].starts_with(name) && imports[0].contains(why), "{}", imports[0]);
        }
    }

    #[test]
    fn all_faults_are_told_at_once() {
        let wasm =
            component(&[("wasi:sockets/tcp@0.2.6", "(instance)"), ("wasi:http/types@0.2.6", "(instance)")], &ALL[..1]);
        let text = inspect(&wasm).unwrap_err().to_string();
        for part in ["wasi:sockets/tcp@0.2.6", "wasi:http/types@0.2.6", ALL[1], ALL[2]] {
            assert!(text.contains(part), "{text}");
        }
        assert!(!text.contains(ALL[0]), "{text}");
    }

    #[test]
    fn what_is_nested_is_not_taken_for_the_component_itself() {
        let text = format!("(component (component (export \"{}\" (func 0)) (import \"x\" (func))) )", ALL[0]);
        // Invalid order inside the nested component is refused as invalid; a valid one must not count as an export.
        assert!(wat::parse_str(&text).map_or(true, |wasm| inspect(&wasm).is_err()));
        let nested = wat::parse_str("(component (component (import \"wasi:sockets/tcp@0.2.6\" (instance))))").unwrap();
        let ComponentError::Interface { imports, missing } = inspect(&nested).unwrap_err() else { panic!() };
        assert_eq!((imports.len(), missing.len()), (0, 3));
    }

    #[test]
    fn what_is_no_component_is_refused() {
        assert!(matches!(inspect(b""), Err(ComponentError::NotAComponent(_))));
        assert!(matches!(inspect(b"\x7fELF, surely"), Err(ComponentError::NotAComponent(_))));
        assert!(matches!(inspect(&wat::parse_str("(module)").unwrap()), Err(ComponentError::NotAComponent(_))));
        let threads = wat::parse_str("(component (core module (memory 1 1 shared)))").unwrap();
        assert!(matches!(inspect(&threads), Err(ComponentError::Invalid(_))));
    }

    #[test]
    fn truncated_and_flipped_components_never_panic() {
        let wasm = component(&[("sgen:connector/log@1.0.0", "(instance)")], &ALL);
        let whole = inspect(&wasm).unwrap();
        for end in 0..wasm.len() {
            // Only what follows the last export can go unnoticed: the names for debuggers.
            assert!(inspect(&wasm[..end]).map_or(true, |cut| cut == whole), "cut at {end}");
        }
        for at in 0..wasm.len() {
            for bit in 0..8 {
                let mut bad = wasm.clone();
                bad[at] ^= 1 << bit;
                let _ = inspect(&bad);
            }
        }
    }
}
