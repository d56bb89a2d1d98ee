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

#[cfg(test)]
mod tests {
    use super::{open, seal};

    /// Draft A.3.1: key 80..9f, nonce 40..57, the sunscreen text of RFC 8439.
    #[test]
    fn the_vector_of_the_draft_seals_and_opens() {
        let key: [u8; 32] = std::array::from_fn(|i| 0x80 + u8::try_from(i).unwrap());
        let nonce: [u8; 24] = std::array::from_fn(|i| 0x40 + u8::try_from(i).unwrap());
        let aad = [0x50, 0x51, 0x52, 0x53, 0xc0, 0xc1, 0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7];
        let text = b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip \
                     for the future, sunscreen would be it.";
        let tag = [
            0xc0, 0x87, 0x59, 0x24, 0xc1, 0xc7, 0x98, 0x79, 0x47, 0xde, 0xaf, 0xd8, 0x78, 0x0a,
            0xcf, 0x49,
        ];

        let mut sealed = text.to_vec();
        assert_eq!(seal(&key, &nonce, &aad, &mut sealed).unwrap(), tag);
        assert_eq!(sealed[..8], [0xbd, 0x6d, 0x17, 0x9d, 0x3e, 0x83, 0xd4, 0x3b]);

        sealed.extend_from_slice(&tag);
        open(&key, &nonce, &aad, &mut sealed).unwrap();
        assert_eq!(&sealed[..text.len()], text);
    }
}

#[cfg(all(test, feature = "ring"))]
mod properties {
    use proptest::prelude::*;

    use super::{reference, with_ring};

    proptest! {
        #[test]
        fn both_back_ends_write_the_same_bytes(
            key: [u8; 32],
            nonce: [u8; 24],
            aad in prop::collection::vec(any::<u8>(), 0..300),
            message in prop::collection::vec(any::<u8>(), 0..4096),
        ) {
            let mut ours = message.clone();
            let our_tag = with_ring::seal(&key, &nonce, &aad, &mut ours).unwrap();
            let mut theirs = message.clone();
            let their_tag = reference::seal(&key, &nonce, &aad, &mut theirs).unwrap();

            prop_assert_eq!(&ours, &theirs);
            prop_assert_eq!(our_tag, their_tag);

            ours.extend_from_slice(&our_tag);
            theirs.extend_from_slice(&their_tag);
            with_ring::open(&key, &nonce, &aad, &mut theirs).unwrap();
            reference::open(&key, &nonce, &aad, &mut ours).unwrap();
            prop_assert_eq!(&ours[..message.len()], &message[..]);
            prop_assert_eq!(&theirs[..message.len()], &message[..]);
        }

        #[test]
        fn both_back_ends_refuse_the_same(
            key: [u8; 32],
            nonce: [u8; 24],
            sealed in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            prop_assert!(with_ring::open(&key, &nonce, b"", &mut sealed.clone()).is_err());
            prop_assert!(reference::open(&key, &nonce, b"", &mut sealed.clone()).is_err());
        }
    }
}
