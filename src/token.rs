//! The wire format, version 1: what a cookie value is made of.
//!
//! The specification stands in SECURITY.md, section "Token format v1"; numbers in comments here
//! are its steps. This module knows keys and bytes. Limits belong to `policy`, and whether a
//! session was ended early to `revocation`.

mod aead;
mod context;
mod record;

pub use record::SessionId;

pub(crate) use context::Context;
pub(crate) use record::{Blocks, Facts, MAX_FLASH, MAX_TAGS, Record, Tag, kind_of, tag_of};

use crate::base64url;
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind};
use crate::key::{Key, KeyId, KeyRing};
use crate::random;

/// The most characters that a token, together with the cookie's name, may have: above it browsers
/// drop the cookie and say nothing (RFC 6265bis 5.6, CK-3).
pub(crate) const MAX_CHARS: usize = 4096;

const VERSION: u8 = 1;
const KEY_ID: usize = 4;
const NONCE: usize = 24;
const TAG: usize = 16;
/// Version, key id and nonce, in clear before the ciphertext.
const HEAD: usize = 1 + KEY_ID + NONCE;
/// Characters that hold version and key id (and one byte of the nonce).
const PREFIX_CHARS: usize = 8;
const MIN_CHARS: usize = base64url::encoded_len(HEAD + TAG);

/// A token that has the right form and names a key that opens. Nothing in it can be trusted yet.
pub(crate) struct SealedToken<'a> {
    chars: &'a [u8],
    key: &'a Key,
}

/// The key that a token names, if it has as much as that.
pub(crate) fn key_id(chars: &[u8]) -> Option<KeyId> {
    let [VERSION, k0, k1, k2, k3, _] = base64url::decode_array(chars.get(..PREFIX_CHARS)?)? else {
        return None;
    };
    Some(KeyId::from_bytes([k0, k1, k2, k3]))
}

/// Steps 1 to 4: form, version, key. Reads eight characters and allocates nothing.
pub(crate) fn parse<'a>(
    chars: &'a [u8],
    ring: &'a KeyRing,
    now: Timestamp,
) -> Result<SealedToken<'a>, ErrorKind> {
    if chars.len() > MAX_CHARS {
        return Err(ErrorKind::Malformed);
    }
    let prefix = chars.get(..PREFIX_CHARS).ok_or(ErrorKind::Malformed)?;
    let [version, k0, k1, k2, k3, _] =
        base64url::decode_array(prefix).ok_or(ErrorKind::Malformed)?;
    if version != VERSION {
        return Err(ErrorKind::Version);
    }
    if chars.len() < MIN_CHARS || chars.len() % 4 == 1 {
        return Err(ErrorKind::Malformed);
    }
    let key = ring.open_key(KeyId::from_bytes([k0, k1, k2, k3]), now)?;
    Ok(SealedToken { chars, key })
}

impl SealedToken<'_> {
    pub(crate) fn key_id(&self) -> KeyId {
        self.key.id()
    }

    /// Steps 5 to 7: canonical text, authentication, record.
    pub(crate) fn open(&self, context: &Context) -> Result<Record, ErrorKind> {
        let mut bytes = base64url::decode(self.chars).ok_or(ErrorKind::Malformed)?;
        let (head, sealed) = bytes.split_at_mut_checked(HEAD).ok_or(ErrorKind::Malformed)?;
        let nonce: &[u8; NONCE] = head.last_chunk().ok_or(ErrorKind::Malformed)?;
        let length = sealed.len().checked_sub(TAG).ok_or(ErrorKind::Malformed)?;
        let aad = context.associated_data(self.key.id());
        aead::open(self.key.seal_secret(), nonce, aad.as_bytes(), sealed)
            .map_err(|_| ErrorKind::Forged)?;
        Record::decode(bytes, HEAD..HEAD.saturating_add(length)).ok_or(ErrorKind::Record)
    }
}

/// Seals a record under `key`, with a fresh random nonce.
pub(crate) fn seal(
    key: &Key,
    context: &Context,
    facts: &Facts,
    blocks: &Blocks<'_>,
) -> Result<String, Error> {
    seal_with_nonce(key, context, facts, blocks, &random::bytes()?)
}

/// The only function that takes a nonce.
fn seal_with_nonce(
    key: &Key,
    context: &Context,
    facts: &Facts,
    blocks: &Blocks<'_>,
    nonce: &[u8; NONCE],
) -> Result<String, Error> {
    let id = key.id();
    let mut bytes = Vec::with_capacity(HEAD.saturating_add(blocks.len()).saturating_add(TAG));
    bytes.push(VERSION);
    bytes.extend_from_slice(id.as_bytes());
    bytes.extend_from_slice(nonce);
    blocks.encode(facts, &mut bytes);
    let aad = context.associated_data(id);
    let record = bytes.get_mut(HEAD..).unwrap_or_default();
    let tag = aead::seal(key.seal_secret(), nonce, aad.as_bytes(), record)
        .map_err(|_| Error::new(ErrorKind::TooLarge))?;
    bytes.extend_from_slice(&tag);
    Ok(base64url::encode(&bytes))
}

/// Refuses a record that would not fit beside a cookie name of `name_len` octets.
pub(crate) fn check_size(name_len: usize, blocks: &Blocks<'_>) -> Result<(), Error> {
    let bytes = blocks.len().saturating_add(HEAD + TAG);
    let size = base64url::encoded_len(bytes).saturating_add(name_len);
    if size <= MAX_CHARS {
        return Ok(());
    }
    Err(Error::with_detail(
        ErrorKind::TooLarge,
        format!("name and value would have {size} octets, the limit is {MAX_CHARS}"),
    ))
}
