//! Generated from `wit/`: one module per world, so that a component exports only the abilities it has. Types that the
//! worlds share are those of `connector`.
#![allow(unsafe_code, missing_docs, unreachable_pub, rust_2018_idioms, clippy::all, clippy::restriction)]

/// World `connector`: what every connector is.
pub mod connector {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "connector",
        ownership: Borrowing { duplicate_if_necessary: true },
        pub_export_macro: true,
    });
}

/// World `can-identify`.
pub mod identity {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "can-identify",
        pub_export_macro: true,
        with: {
            "sgen:connector/failures@1.0.0": super::connector::sgen::connector::failures,
            "sgen:connector/egress@1.0.0": super::connector::sgen::connector::egress,
            "sgen:connector/log@1.0.0": super::connector::sgen::connector::log,
        },
    });
}

/// World `can-revoke`.
pub mod revocation {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "can-revoke",
        pub_export_macro: true,
        with: {
            "sgen:connector/failures@1.0.0": super::connector::sgen::connector::failures,
            "sgen:connector/egress@1.0.0": super::connector::sgen::connector::egress,
            "sgen:connector/log@1.0.0": super::connector::sgen::connector::log,
        },
    });
}

/// World `can-erase`.
pub mod erasure {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "can-erase",
        pub_export_macro: true,
        with: {
            "sgen:connector/failures@1.0.0": super::connector::sgen::connector::failures,
            "sgen:connector/egress@1.0.0": super::connector::sgen::connector::egress,
            "sgen:connector/log@1.0.0": super::connector::sgen::connector::log,
        },
    });
}

/// World `can-migrate`.
pub mod migration {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "can-migrate",
        pub_export_macro: true,
    });
}
