//! Base64url without padding (RFC 4648 section 5), canonical: one text per byte string.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Appends the encoding of `bytes` to `out`.
pub(crate) fn encode_onto(bytes: &[u8], out: &mut String) {
    URL_SAFE_NO_PAD.encode_string(bytes, out);
}

pub(crate) fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Decodes, or None for anything that `encode` would not have written: another alphabet, padding,
/// non-zero trailing bits.
pub(crate) fn decode(text: &[u8]) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

/// Decodes into an array of exactly `N` bytes, without allocating.
pub(crate) fn decode_array<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    if text.len() != encoded_len(N) {
        return None;
    }
    let mut out = [0; N];
    // A wrong length cannot come back: the text's length is the one that `N` bytes have.
    URL_SAFE_NO_PAD.decode_slice(text, &mut out).ok().filter(|&n| n == N).map(|_| out)
}

/// The number of characters that `bytes` bytes are encoded as.
pub(crate) const fn encoded_len(bytes: usize) -> usize {
    bytes.saturating_mul(4).div_ceil(3)
}
