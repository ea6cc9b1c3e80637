//! What the WIT contract generates for the host.

#![allow(missing_docs, reason = "generated; the documentation is in the WIT")]
#![allow(unreachable_pub, clippy::all, reason = "generated")]

wasmtime::component::bindgen!({
    path: "../../wit",
    world: "connector",
    imports: {
        // What does not wait is not asynchronous: the call is cheaper.
        "sgen:connector/egress.[static]endpoint.open": trappable,
        "sgen:connector/egress.[drop]endpoint": trappable,
        "sgen:connector/log.write": trappable,
        default: async | trappable,
    },
    exports: { default: async },
    ownership: Borrowing { duplicate_if_necessary: true },
    with: { "sgen:connector/egress.endpoint": crate::host::OpenEndpoint },
});

/// The ability to tell which account a credential belongs to.
pub mod identify {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "can-identify",
        exports: { default: async },
        with: {
            "sgen:connector/egress": super::sgen::connector::egress,
            "sgen:connector/log": super::sgen::connector::log,
            "sgen:connector/failures": super::sgen::connector::failures,
        },
    });
}
