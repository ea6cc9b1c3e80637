/// An RSA key for these tests, in PEM. `cargo xtask test` makes it; none is committed.
pub(crate) fn pem() -> String {
    let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let file = root.join(target).join("test-keys/rsa-2048.pem");
    std::fs::read_to_string(&file)
        .unwrap_or_else(|error| panic!("{} cannot be read ({error}): `cargo xtask test` makes it", file.display()))
}
