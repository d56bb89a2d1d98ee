//! XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03), in two back ends with the same bytes.
//!
//! `chacha20poly1305` is the reference and always there. With feature `ring`, `HChaCha20` derives
//! the subkey and *ring* does the rest, about five times as fast: the reference calls its AVX2
//! helpers instead of inlining them unless it is built for the very machine.

/// Authentication failed, or the message is longer than the cipher takes.
#[derive(Debug)]
pub(crate) struct Unauthentic;

#[cfg(not(feature = "ring"))]
pub(crate) use reference::{open, seal};
#[cfg(feature = "ring")]
pub(crate) use with_ring::{open, seal};

#[cfg(any(test, not(feature = "ring")))]
mod reference {
    use chacha20poly1305::{AeadInOut, KeyInit, Tag, XChaCha20Poly1305, XNonce};

    use super::Unauthentic;

    pub(crate) fn seal(
        key: &[u8; 32],
        nonce: &[u8; 24],
        aad: &[u8],
        message: &mut [u8],
    ) -> Result<[u8; 16], Unauthentic> {
        XChaCha20Poly1305::new(key.into())
            .encrypt_inout_detached(&XNonce::from(*nonce), aad, message.into())
            .map(Into::into)
            .map_err(|_| Unauthentic)
    }

    /// Decrypts in place; the last 16 bytes are the tag and stay.
    pub(crate) fn open(
        key: &[u8; 32],
        nonce: &[u8; 24],
        aad: &[u8],
        sealed: &mut [u8],
    ) -> Result<(), Unauthentic> {
        let (message, tag) = sealed.split_last_chunk_mut::<16>().ok_or(Unauthentic)?;
        XChaCha20Poly1305::new(key.into())
            .decrypt_inout_detached(&XNonce::from(*nonce), aad, message.into(), &Tag::from(*tag))
            .map_err(|_| Unauthentic)
    }
}

#[cfg(feature = "ring")]
mod with_ring {
    use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
    use zeroize::Zeroizing;

    use super::Unauthentic;

    pub(crate) fn seal(
        key: &[u8; 32],
        nonce: &[u8; 24],
        aad: &[u8],
        message: &mut [u8],
    ) -> Result<[u8; 16], Unauthentic> {
        let (key, nonce) = subkey(key, nonce)?;
        let tag = key
            .seal_in_place_separate_tag(nonce, Aad::from(aad), message)
            .map_err(|_| Unauthentic)?;
        tag.as_ref().try_into().map_err(|_| Unauthentic)
    }

    /// Decrypts in place; the last 16 bytes are the tag and stay.
    pub(crate) fn open(
        key: &[u8; 32],
        nonce: &[u8; 24],
        aad: &[u8],
        sealed: &mut [u8],
    ) -> Result<(), Unauthentic> {
        let (key, nonce) = subkey(key, nonce)?;
        key.open_in_place(nonce, Aad::from(aad), sealed).map(drop).map_err(|_| Unauthentic)
    }

    /// Draft section 2.3: `HChaCha20` of the first 16 nonce bytes is the key of this one message;
    /// its nonce is four zero bytes and the last eight.
    fn subkey(key: &[u8; 32], nonce: &[u8; 24]) -> Result<(LessSafeKey, Nonce), Unauthentic> {
        let (first, last) = nonce.split_first_chunk::<16>().ok_or(Unauthentic)?;
        let subkey = Zeroizing::new(chacha20::hchacha::<chacha20::R20>(key.into(), first.into()).0);
        let mut short = [0; 12];
        short.get_mut(4..).ok_or(Unauthentic)?.copy_from_slice(last);
        let key =
            UnboundKey::new(&CHACHA20_POLY1305, subkey.as_slice()).map_err(|_| Unauthentic)?;
        Ok((LessSafeKey::new(key), Nonce::assume_unique_for_key(short)))
    }
}
