//! Keys: what seals tokens and binds CSRF tokens, and the ring that says which key does it when.
//!
//! A [`KeyRing`] is read from text, one key a line, which comes from a [`KeySource`]. [`WatchedKeys`]
//! follow one while the process runs; a [`Rotation`] makes the text of the next ring. What is sealed
//! under a key is left to the token.

mod access;
mod alarm;
mod draft;
mod ring;
mod rotate;
mod source;
mod text;
mod watch;

use std::fmt;
use std::hint::black_box;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::{ArcSwap, Guard};
use hmac::digest::FixedOutput;
use hmac::{Hmac, KeyInit, Mac};
use sha2::block_api::compress256;
use sha2::{Digest, Sha256};
use zeroize::Zeroize;

use crate::error::{Error, ErrorKind};
use crate::random;

#[cfg(feature = "sqlite")]
pub(crate) use access::directory_open_to_others;
pub use ring::KeyRing;
#[cfg(feature = "cli")]
pub(crate) use rotate::HEAD_START;
pub use rotate::{RingChange, RingFinding, Rotated, Rotation};
#[cfg(feature = "cli")]
pub(crate) use source::check_place;
pub use source::{DirectoryKeys, EnvKeys, FileKeys, KeySource};
#[cfg(any(feature = "cli", feature = "tracing"))]
pub(crate) use text::Date;
pub(crate) use watch::POLL_EVERY;
pub use watch::WatchedKeys;
pub(crate) use watch::{KeyNews, Listener};
#[doc(no_inline)]
pub use zeroize::Zeroizing;

/// The public name of a key: eight hexadecimal digits, derived from the key and never typed.
///
/// It stands at the head of every token and in events, and reveals nothing about the key.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct KeyId([u8; 4]);

impl KeyId {
    /// The four bytes, as a token carries them.
    pub const fn as_bytes(&self) -> &[u8; 4] {
        &self.0
    }

    pub(crate) const fn from_bytes(bytes: [u8; 4]) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", u32::from_be_bytes(self.0))
    }
}

/// What a key does at an instant.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum KeyState {
    /// `seal_from` has not come: opens, since the clock of another instance may run ahead.
    Pending,
    /// Seals and opens: the key with the latest `seal_from` that has come.
    Active,
    /// A newer key is active: opens, and what it opens is sealed anew.
    AcceptOnly,
    /// `open_until` has come: refused.
    Expired,
    /// Marked `revoked`: refused, whatever the dates say.
    Revoked,
}

impl fmt::Display for KeyState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Pending => "pending",
            Self::Active => "active",
            Self::AcceptOnly => "accept-only",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        })
    }
}

/// One key of a ring, without its secrets.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct KeyStatus {
    id: KeyId,
    state: KeyState,
    seal_from: Option<SystemTime>,
    open_until: Option<SystemTime>,
}

impl KeyStatus {
    /// The id of the key.
    pub const fn id(&self) -> KeyId {
        self.id
    }

    /// Its state at the instant asked about.
    pub const fn state(&self) -> KeyState {
        self.state
    }

    /// From when on it may seal; None means since ever.
    pub const fn seal_from(&self) -> Option<SystemTime> {
        self.seal_from
    }

    /// When it stops opening; None means not yet decided.
    pub const fn open_until(&self) -> Option<SystemTime> {
        self.open_until
    }
}

/// The keys of a session manager, as a handle: clones share one ring.
///
/// Made from a fixed [`KeyRing`], or from [`WatchedKeys`] that follow a source.
#[derive(Clone, Debug)]
pub struct Keys {
    ring: Arc<ArcSwap<KeyRing>>,
    watched: Option<WatchedKeys>,
}

impl Keys {
    /// The ring to use for one request: asked for once, or two answers might differ.
    pub(crate) fn current(&self) -> CurrentRing {
        self.ring.load()
    }

    /// The handle that follows a source: for its state, or to make it reload. None for a fixed ring.
    pub const fn watched(&self) -> Option<&WatchedKeys> {
        self.watched.as_ref()
    }

    /// Takes note that a token came under a key that the ring does not know.
    pub(crate) fn ask_for(&self, id: KeyId) {
        if let Some(watched) = &self.watched {
            watched.ask_for(id);
        }
    }

    /// Tells `listener` which ring there is, and of every reading of its source to come.
    pub(crate) fn listen(&self, listener: Listener) {
        let Some(watched) = &self.watched else {
            let ring = &*self.current();
            listener(&KeyNews::Loaded { ring, changed: true, recovered: false });
            return;
        };
        watched.listen(listener);
    }
}

impl From<KeyRing> for Keys {
    fn from(ring: KeyRing) -> Self {
        Self { ring: Arc::new(ArcSwap::from_pointee(ring)), watched: None }
    }
}

/// The ring that was current when it was asked for.
pub(crate) type CurrentRing = Guard<Arc<KeyRing>>;

/// A key: the root that stands in the ring's text, and what is derived from it once, at load.
pub(crate) struct Key {
    id: KeyId,
    // Boxed, so that moving a key leaves no copy of the secrets behind.
    secrets: Box<Secrets>,
}

impl Key {
    /// Derives a key from its root.
    fn new(root: &[u8; 32]) -> Self {
        let mut secrets = Box::new(Secrets::default());
        secrets.root.copy_from_slice(root);
        derive("sealed-session v1 seal", root, &mut secrets.seal);
        derive("sealed-session v1 csrf", root, &mut secrets.csrf);
        let mut id = [0; 32];
        derive("sealed-session key id", root, &mut id);
        let [a, b, c, d, ..] = id;
        Self { id: KeyId([a, b, c, d]), secrets }
    }

    /// A fresh key.
    fn generate() -> Result<Self, Error> {
        let mut root = Zeroizing::new([0; 32]);
        random::fill(&mut *root)?;
        let key = Self::new(&root);
        if key.is_weak() || key.is_published() {
            let reason = "a fresh key is not random: try again, and distrust this machine";
            return Err(Error::with_detail(ErrorKind::KeyRing, reason));
        }
        Ok(key)
    }

    pub(crate) const fn id(&self) -> KeyId {
        self.id
    }

    /// The key that seals and opens tokens, and does nothing else.
    pub(crate) fn seal_secret(&self) -> &[u8; 32] {
        &self.secrets.seal
    }

    /// The MAC over `parts`, each under its length, that binds a CSRF token.
    pub(crate) fn csrf_mac(&self, parts: &[&[u8]]) -> [u8; 32] {
        self.csrf(parts).finalize().into_bytes().into()
    }

    /// Whether `mac` is the MAC over `parts`, found out in constant time.
    pub(crate) fn csrf_verify(&self, parts: &[&[u8]], mac: &[u8]) -> bool {
        self.csrf(parts).verify_slice(mac).is_ok()
    }

    fn csrf(&self, parts: &[&[u8]]) -> Hmac<Sha256> {
        let mut mac = hmac(&self.secrets.csrf);
        for part in parts {
            mac.update(&length(part));
            mac.update(part);
        }
        mac
    }

    fn root(&self) -> &[u8; 32] {
        &self.secrets.root
    }

    /// Whether the root is a pattern, a passphrase or the like, rather than random.
    fn is_weak(&self) -> bool {
        // Ascending, descending, and with a step of zero all equal.
        let mut steps =
            self.root().iter().zip(self.root().iter().skip(1)).map(|(a, b)| b.wrapping_sub(*a));
        let first = steps.next();
        if steps.all(|step| Some(step) == first) {
            return true;
        }
        // 32 random bytes have fewer than 16 distinct values with a probability below
        // C(256, 15) x (15/256)^32 < 2^-51; exactly it is 2^-54.8. A constant step: 2^-240.
        let mut seen = [false; 256];
        for byte in self.root() {
            if let Some(seen) = seen.get_mut(usize::from(*byte)) {
                *seen = true;
            }
        }
        seen.iter().filter(|seen| **seen).count() < 16
    }

    /// Whether everybody can read the root in our documentation and test vectors.
    fn is_published(&self) -> bool {
        PUBLISHED.contains(&self.id)
    }
}

impl Clone for Key {
    fn clone(&self) -> Self {
        // Derived once more: a copy of the secrets would pass over the stack.
        Self::new(self.root())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.id)
    }
}

/// SHA-256 over a label and `parts`, each under its length as two bytes.
///
/// Parts are shorter than 65536 bytes by contract.
pub(crate) fn digest(label: &str, parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new_with_prefix(label);
    for part in parts {
        hash.update(length(part));
        hash.update(part);
    }
    hash.finalize().into()
}

/// The first 16 bytes of a [`digest`]: enough to name things by.
pub(crate) fn digest16(label: &str, parts: &[&[u8]]) -> [u8; 16] {
    let [first @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = digest(label, parts);
    first
}

/// A [`digest16`] of which all but the last part is known beforehand, for what every request pays
/// for: a text of one block is padded here, which takes little more than half the time.
pub(crate) struct Digest16 {
    /// Label and parts, with room for the last one and the padding of SHA-256.
    block: [u8; 64],
    len: usize,
    /// The same, for a text that is longer.
    hash: Sha256,
}

impl Digest16 {
    /// The last byte of a text that ends within one block: its end and its length follow.
    const MAX: usize = 55;

    pub(crate) fn new(label: &str, parts: &[&[u8]]) -> Self {
        let mut text = label.as_bytes().to_vec();
        for part in parts {
            text.extend(length(part));
            text.extend(*part);
        }
        let mut block = [0; 64];
        if let Some(room) = block.get_mut(..text.len()) {
            room.copy_from_slice(&text);
        }
        Self { block, len: text.len(), hash: Sha256::new_with_prefix(text) }
    }

    pub(crate) fn of(&self, last: &[u8]) -> [u8; 16] {
        let state = self.of_one_block(last).unwrap_or_else(|| {
            let hash = self.hash.clone().chain_update(length(last)).chain_update(last);
            hash.finalize().into()
        });
        let [first @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = state;
        first
    }

    fn of_one_block(&self, last: &[u8]) -> Option<[u8; 32]> {
        let mut block = self.block;
        let start = self.len.checked_add(2)?;
        let end = start.checked_add(last.len()).filter(|end| *end <= Self::MAX)?;
        block.get_mut(self.len..start)?.copy_from_slice(&length(last));
        block.get_mut(start..end)?.copy_from_slice(last);
        *block.get_mut(end)? = 0x80;
        let bits = u16::try_from(end).ok()?.checked_mul(8)?;
        let [.., high, low] = &mut block;
        [*high, *low] = bits.to_be_bytes();
        let mut state = SHA256_START;
        compress256(&mut state, &[block]);
        let mut hash = [0; 32];
        for (to, word) in hash.chunks_exact_mut(4).zip(state) {
            to.copy_from_slice(&word.to_be_bytes());
        }
        Some(hash)
    }
}

/// FIPS 180-4, section 5.3.3.
const SHA256_START: [u32; 8] = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

/// The ids of published keys: SHA-256 of "sealed-session test key 1" and so on. A fresh key has one
/// of these ids once in 1.4 billion times, and is refused as well: another one is quickly made.
const PUBLISHED: [KeyId; 3] = [
    KeyId([0x2c, 0x14, 0xda, 0x4c]),
    KeyId([0x5f, 0xe0, 0x95, 0x96]),
    KeyId([0x0b, 0x42, 0x34, 0x14]),
];

#[derive(Default)]
struct Secrets {
    root: [u8; 32],
    seal: [u8; 32],
    csrf: [u8; 32],
}

impl Drop for Secrets {
    fn drop(&mut self) {
        self.root.zeroize();
        self.seal.zeroize();
        self.csrf.zeroize();
    }
}

/// HMAC-SHA-256(root, label ‖ 0x01), which is HKDF-Expand for one block (RFC 5869 section 2.3).
fn derive(label: &str, root: &[u8; 32], out: &mut [u8; 32]) {
    hmac(root).chain_update(label).chain_update([0x01]).finalize_into(out.into());
}

fn hmac(key: &[u8; 32]) -> Hmac<Sha256> {
    let mac = keyed(key);
    // The hmac crate leaves the padded key in its stack frame: let that be no secret.
    black_box(keyed(&[0; 32]));
    mac
}

#[inline(never)] // One stack frame for both calls.
fn keyed(key: &[u8; 32]) -> Hmac<Sha256> {
    // A key shorter than the hash's block is padded with zeros anyway (RFC 2104 section 2). Padded
    // here, it has the one length for which there is a constructor that cannot fail.
    let mut block = Zeroizing::new([0; 64]);
    for (to, from) in block.iter_mut().zip(key) {
        *to = *from;
    }
    Hmac::new((&*block).into())
}

fn length(part: &[u8]) -> [u8; 2] {
    u16::try_from(part.len()).unwrap_or(u16::MAX).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From Python: `hmac.new(sha256(b"sealed-session test key 1").digest(), …, sha256)`.
    const SEAL_1: &str = "64c12b556290e387606ef7b877bb1624a44340a8122f785f9fa5fddbb089971a";
    const CSRF_1: &str = "922212a836c1423f399ca442fda7557260f155c1fe85e6262a0107b2e125124a";
    const MAC_1: &str = "cab8700f232ab44aea8b03475555acd9647c833f0fc95e51d49f53afecbdbd2b";
    const DIGEST: &str = "7a3fa3bff79f50afe3a338d1bc12ea2fd8acea8852cf3da42779f9ca9bafe0c7";
    const PARTS: [&[u8]; 3] = [b"realm", b"", b"name"];

    #[test]
    fn derived_keys_are_those_of_an_independent_implementation() {
        let key = test_key(1);

        assert_eq!(key.id().to_string(), "2c14da4c");
        assert_eq!(hex(key.seal_secret()), SEAL_1);
        assert_eq!(hex(&key.secrets.csrf), CSRF_1);
        assert_eq!(hex(&key.csrf_mac(&PARTS)), MAC_1);
        assert_eq!(hex(&digest("sealed-session v1 tag", &PARTS)), DIGEST);
    }

    #[test]
    fn a_digest_whose_beginning_is_known_is_the_same() {
        for (before, last) in (0..60).flat_map(|before| (0..60).map(move |last| (before, last))) {
            let (before, last) = ("r".repeat(before), "s".repeat(last));
            let parts: [&[u8]; 2] = [before.as_bytes(), last.as_bytes()];

            let known = Digest16::new("label", &parts[..1]);

            assert_eq!(known.of(parts[1]), digest16("label", &parts), "{parts:?}");
        }
    }

    #[test]
    fn a_csrf_mac_holds_for_its_own_key_and_parts_only() {
        let mac = test_key(1).csrf_mac(&PARTS);

        assert!(test_key(1).csrf_verify(&PARTS, &mac));
        assert!(!test_key(2).csrf_verify(&PARTS, &mac));
        assert!(!test_key(1).csrf_verify(&[b"realmn", b"", b"ame"], &mac));
        assert!(!test_key(1).csrf_verify(&PARTS, &mac[..31]));
        assert!(!test_key(1).csrf_verify(&PARTS, &[]));
    }

    #[test]
    fn the_list_of_published_keys_holds_the_test_keys() {
        let ids: Vec<_> = (1..=PUBLISHED.len()).map(|n| test_key(n).id()).collect();

        assert_eq!(ids, PUBLISHED);
    }

    #[test]
    fn a_key_of_sixteen_distinct_bytes_is_the_weakest_allowed() {
        let of_distinct = |n: u8| {
            let mut root: [u8; 32] = std::array::from_fn(|i| u8::try_from(i).unwrap() % n);
            root.swap(0, 1);
            Key::new(&root)
        };

        assert!(!of_distinct(16).is_weak());
        assert!(of_distinct(15).is_weak());
    }

    fn test_key(number: usize) -> Key {
        Key::new(&Sha256::digest(format!("sealed-session test key {number}")).into())
    }

    fn hex(bytes: &[u8; 32]) -> String {
        bytes.map(|byte| format!("{byte:02x}")).concat()
    }
}
