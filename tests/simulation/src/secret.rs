//! The signing secrets of simulated downstreams, and the verification of a Standard Webhooks signature, written from the
//! specification and independent of the code that signs.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use ring::hmac;

use crate::dice::mix;

fn bytes(seed: u64, number: u32) -> Vec<u8> {
    (0..4_u64).flat_map(|part| mix(&[seed, 0x5ec_4e7, u64::from(number), part]).to_le_bytes()).collect()
}

/// The `number`-th secret of a downstream, as an operator enters it.
pub(crate) fn text(seed: u64, number: u32) -> String {
    format!("whsec_{}", STANDARD.encode(bytes(seed, number)))
}

/// Whether a request is signed with the `number`-th secret.
pub(crate) fn signed(seed: u64, number: u32, headers: &HeaderMap, body: &[u8]) -> bool {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let (Some(id), Some(stamp), Some(signatures)) =
        (header("webhook-id"), header("webhook-timestamp"), header("webhook-signature"))
    else {
        return false;
    };
    let key = hmac::Key::new(hmac::HMAC_SHA256, &bytes(seed, number));
    let mut content = format!("{id}.{stamp}.").into_bytes();
    content.extend_from_slice(body);
    signatures
        .split(' ')
        .filter_map(|one| STANDARD.decode(one.strip_prefix("v1,")?).ok())
        .any(|tag| hmac::verify(&key, &content, &tag).is_ok())
}
