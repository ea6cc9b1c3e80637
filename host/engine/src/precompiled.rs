//! The one unsafe step: turning our own authenticated machine code back into a component.

use wasmtime::component::Component;

/// Deserialises machine code that this host compiled and authenticated.
pub(crate) fn load(engine: &wasmtime::Engine, authenticated: &[u8]) -> wasmtime::Result<Component> {
    #[expect(unsafe_code, reason = "the caller has verified the code's MAC; see the argument below")]
    // SAFETY: `deserialize` runs whatever machine code it is given. The bytes come from `Engine::precompile_component` of
    // this host: `cache::read` admits only a file whose MAC, over its bytes, the component's digest and the engine's
    // configuration, verifies under a key that only this deployment's outer key yields, and it hands over the very
    // buffer that it verified.
    unsafe {
        Component::deserialize(engine, authenticated)
    }
}
