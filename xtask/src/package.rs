//! From a core module to a component.

use std::path::Path;

use anyhow::{Context as _, Result};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// Wraps a core module as the component that its embedded WIT describes.
///
/// Without an adapter for WASI: a connector built for `wasm32-unknown-unknown` needs none of it, and a module that does
/// fails here, with the name of what it imports.
pub(crate) fn component(module: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = ComponentEncoder::default();
    encoder.module(module)?.validate(true);
    encoder.encode()
}

/// [`component`] of a file.
pub(crate) fn component_of(file: &Path) -> Result<Vec<u8>> {
    let module = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    component(&module).with_context(|| format!("{} cannot be made a component", file.display()))
}

/// What a core module written as text implements: a connector that may ask for random bytes. A component imports only what
/// its module does.
const TEXT_WORLD: &str = "package test:guest;
    world guest { include sgen:connector/connector@1.0.0; import wasi:random/random@0.2.0; }
    package wasi:random@0.2.0 { interface random { get-random-bytes: func(len: u64) -> list<u8>; } }";

/// A component from a core module as text.
pub(crate) fn component_of_text(file: &Path) -> Result<Vec<u8>> {
    let module = wat::parse_file(file).with_context(|| format!("{} is no module", file.display()))?;
    from_text(module).with_context(|| format!("{} cannot be made a component", file.display()))
}

fn from_text(mut module: Vec<u8>) -> Result<Vec<u8>> {
    let mut resolve = Resolve::default();
    resolve.push_path(crate::paths::root().join("wit"))?;
    let package = resolve.push_str("guest.wit", TEXT_WORLD)?;
    let world = resolve.select_world(&[package], Some("guest"))?;
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, false)?;
    component(&module)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use sgen_catalog::component::{Ability, inspect};
    use wit_component::dummy_module;
    use wit_parser::{LiftLowerAbi, ManglingAndAbi};

    use super::*;

    /// A core module that implements a world of `text` (beside the project's own WIT) by doing nothing.
    fn module(text: &str) -> Vec<u8> {
        let mut resolve = Resolve::default();
        resolve.push_path(crate::paths::root().join("wit")).unwrap();
        let package = resolve.push_str("guest.wit", text).unwrap();
        let world = resolve.select_world(&[package], Some("guest")).unwrap();
        let mut module = dummy_module(&resolve, world, ManglingAndAbi::Legacy(LiftLowerAbi::Sync));
        embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, false).unwrap();
        module
    }

    #[test]
    fn a_module_of_the_world_becomes_a_component_that_may_be_released() {
        let wasm =
            component(&module("package test:guest; world guest { include sgen:connector/connector@1.0.0; }")).unwrap();
        let interface = inspect(&wasm).unwrap();
        assert!(interface.imports.iter().all(|name| name.starts_with("sgen:connector/")), "{:?}", interface.imports);
        assert!(interface.abilities.is_empty());
    }

    #[test]
    fn abilities_are_found_by_their_exports() {
        let worlds = "package test:guest; world guest {
            include sgen:connector/connector@1.0.0;
            include sgen:connector/can-identify@1.0.0;
            include sgen:connector/can-revoke@1.0.0;
            include sgen:connector/can-erase@1.0.0;
            include sgen:connector/can-migrate@1.0.0;
        }";
        let interface = inspect(&component(&module(worlds)).unwrap()).unwrap();
        assert_eq!(interface.abilities, Ability::ALL.into());
    }

    #[test]
    fn a_component_that_asks_for_more_or_offers_less_may_not() {
        let more = "package test:guest;
            interface sockets { connect: func(host: string); }
            world guest { include sgen:connector/connector@1.0.0; import sockets; }";
        let error = inspect(&component(&module(more)).unwrap()).unwrap_err().to_string();
        assert!(error.contains("test:guest/sockets"), "{error}");
        let calls = "package test:guest; world guest { include sgen:connector/connector@1.0.0; import sgen:connector/erasure@1.0.0; }";
        let error = inspect(&component(&module(calls)).unwrap()).unwrap_err().to_string();
        assert!(error.contains("sgen:connector/erasure@1.0.0"), "{error}");
        let less = "package test:guest; world guest { include sgen:connector/can-erase@1.0.0; }";
        let error = inspect(&component(&module(less)).unwrap()).unwrap_err().to_string();
        assert!(error.contains("sgen:connector/delivery@1.0.0"), "{error}");
    }

    #[test]
    fn the_guests_that_are_written_as_text_are_connectors() {
        for (guest, imports) in [("table-growth", 0), ("random-flood", 1)] {
            let file = crate::paths::root().join("tests/guests").join(guest).join("module.wat");
            let interface = inspect(&component_of_text(&file).unwrap()).unwrap();
            // Types come from an interface of the world in any case.
            let foreign = interface.imports.iter().filter(|import| !import.starts_with("sgen:connector/"));
            assert_eq!(foreign.count(), imports, "{guest}: {:?}", interface.imports);
        }
    }

    #[test]
    fn what_is_no_module_is_refused_by_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x.wasm");
        std::fs::write(&file, "x").unwrap();
        assert!(format!("{:#}", component_of(&file).unwrap_err()).contains("x.wasm"));
        assert!(format!("{:#}", component_of(&folder.path().join("y.wasm")).unwrap_err()).contains("y.wasm"));
    }
}
