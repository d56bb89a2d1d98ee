//! The record: what is sealed inside a token.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use crate::base64url;
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind};
use crate::key;
use crate::policy::{Kind, Times};
use crate::random;

const PERSISTENT: u16 = 1 << 0;
const TAGS: u16 = 1 << 1;
// Bit 2 is reserved for device-bound sessions.
const FLASH: u16 = 1 << 3;

pub(crate) const MAX_TAGS: usize = 4;
pub(crate) const MAX_FLASH: usize = 8;
/// Session id to subject length.
const FIXED: usize = 16 + 6 + 4 + 4 + 4 + 2 + 2 + 1;

/// A session's identity: 16 random bytes, the same through every refresh.
///
/// It is no secret: knowing it opens nothing. `Display` and `FromStr` use 22 base64url characters,
/// `Debug` shows only the first four, as much as a log needs to tell sessions apart.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SessionId([u8; 16]);

impl SessionId {
    /// The 16 bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// The id with these 16 bytes, for an application that keeps ids in its own table.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    pub(crate) fn random() -> Result<Self, Error> {
        random::bytes().map(Self)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.to_string();
        write!(f, "SessionId({}…)", text.get(..4).unwrap_or_default())
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base64url::encode(&self.0))
    }
}

impl FromStr for SessionId {
    type Err = Error;

    /// Reads what `Display` wrote.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Malformed`] for anything but 22 canonical base64url characters.
    fn from_str(text: &str) -> Result<Self, Error> {
        base64url::decode_array(text.as_bytes())
            .map(Self)
            .ok_or_else(|| Error::with_detail(ErrorKind::Malformed, "expected a session id"))
    }
}

/// A keyed name by which an application can end sessions: an identity provider's session, a
/// device, a tenant. Only its hash is sealed.
pub(crate) type Tag = [u8; 16];

/// The tag of an application's value in a realm.
pub(crate) fn tag_of(realm: &str, value: &str) -> Tag {
    key::digest16("sealed-session v1 tag", &[realm.as_bytes(), value.as_bytes()])
}

/// The fixed part of a record.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Facts {
    pub(crate) id: SessionId,
    pub(crate) times: Times,
    pub(crate) generation: u16,
    pub(crate) persistent: bool,
}

/// The parts of a record that vary in length, on their way into a token.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Blocks<'a> {
    pub(crate) subject: &'a str,
    pub(crate) tags: &'a [Tag],
    /// A JSON array, or empty.
    pub(crate) flash: &'a [u8],
    pub(crate) data: &'a [u8],
}

impl Blocks<'_> {
    /// The length of the whole record in bytes.
    pub(crate) fn len(&self) -> usize {
        let tags = if self.tags.is_empty() {
            0
        } else {
            self.tags.len().saturating_mul(16).saturating_add(1)
        };
        let flash = if self.flash.is_empty() { 0 } else { self.flash.len().saturating_add(2) };
        [self.subject.len(), tags, flash, self.data.len()]
            .iter()
            .fold(FIXED, |sum, part| sum.saturating_add(*part))
    }

    /// Appends the record. Lengths were checked where the parts came in: a subject has at most 255
    /// bytes, there are at most four tags, and all of it fits into a cookie.
    pub(crate) fn encode(&self, facts: &Facts, out: &mut Vec<u8>) {
        let Facts { id, times, generation, persistent } = facts;
        let mut flags = 0;
        flags |= if *persistent { PERSISTENT } else { 0 };
        flags |= if self.tags.is_empty() { 0 } else { TAGS };
        flags |= if self.flash.is_empty() { 0 } else { FLASH };
        out.extend_from_slice(&id.0);
        let [_, _, issued_at @ ..] = times.issued_at.as_millis().to_be_bytes();
        out.extend_from_slice(&issued_at);
        out.extend_from_slice(&times.refreshed.to_be_bytes());
        out.extend_from_slice(&times.lifetime.to_be_bytes());
        out.extend_from_slice(&times.idle.to_be_bytes());
        out.extend_from_slice(&generation.to_be_bytes());
        out.extend_from_slice(&flags.to_be_bytes());
        out.push(u8::try_from(self.subject.len()).unwrap_or(u8::MAX));
        out.extend_from_slice(self.subject.as_bytes());
        if !self.tags.is_empty() {
            out.push(u8::try_from(self.tags.len()).unwrap_or(u8::MAX));
            self.tags.iter().for_each(|tag| out.extend_from_slice(tag));
        }
        if !self.flash.is_empty() {
            out.extend_from_slice(
                &u16::try_from(self.flash.len()).unwrap_or(u16::MAX).to_be_bytes(),
            );
            out.extend_from_slice(self.flash);
        }
        out.extend_from_slice(self.data);
    }
}

/// An authentic record. Whether it is in time and not revoked is for others to say.
#[derive(Clone)]
pub(crate) struct Record {
    pub(crate) facts: Facts,
    bytes: Vec<u8>,
    subject: Range<usize>,
    tags: Range<usize>,
    flash: Range<usize>,
    data: Range<usize>,
}

impl Record {
    /// Reads the record at `at` in `bytes`. None: it breaks the format.
    pub(crate) fn decode(bytes: Vec<u8>, at: Range<usize>) -> Option<Self> {
        let mut reader = Reader { bytes: bytes.get(..at.end)?, at: at.start };
        let id = SessionId(reader.array()?);
        let [i0, i1, i2, i3, i4, i5] = reader.array()?;
        let issued_at = Timestamp::from_millis(u64::from_be_bytes([0, 0, i0, i1, i2, i3, i4, i5]));
        let refreshed = u32::from_be_bytes(reader.array()?);
        let lifetime = u32::from_be_bytes(reader.array()?);
        let idle = u32::from_be_bytes(reader.array()?);
        let generation = u16::from_be_bytes(reader.array()?);
        let flags = u16::from_be_bytes(reader.array()?);
        if lifetime == 0 || flags & !(PERSISTENT | TAGS | FLASH) != 0 {
            return None;
        }
        let [subject_len] = reader.array()?;
        let subject = reader.text(usize::from(subject_len))?;
        let tags = if flags & TAGS == 0 { 0..0 } else { reader.tags()? };
        let flash = if flags & FLASH == 0 { 0..0 } else { reader.flash()? };
        let data = reader.at..at.end;
        let times = Times { issued_at, refreshed, lifetime, idle };
        let facts = Facts { id, times, generation, persistent: flags & PERSISTENT != 0 };
        Some(Self { facts, bytes, subject, tags, flash, data })
    }

    pub(crate) fn subject(&self) -> &str {
        // Checked as UTF-8 on decoding.
        str::from_utf8(self.part(&self.subject)).unwrap_or_default()
    }

    pub(crate) fn tags(&self) -> &[Tag] {
        self.part(&self.tags).as_chunks().0
    }

    /// A JSON array of messages, or empty.
    pub(crate) fn flash(&self) -> &[u8] {
        self.part(&self.flash)
    }

    pub(crate) fn data(&self) -> &[u8] {
        self.part(&self.data)
    }

    /// The parts as they are, on their way into the next token of the session.
    pub(crate) fn blocks(&self) -> Blocks<'_> {
        let (subject, tags) = (self.subject(), self.tags());
        Blocks { subject, tags, flash: self.flash(), data: self.data() }
    }

    pub(crate) fn kind(&self) -> Kind {
        kind_of(self.subject(), self.facts.persistent)
    }

    fn part(&self, at: &Range<usize>) -> &[u8] {
        self.bytes.get(at.clone()).unwrap_or_default()
    }
}

/// The column of the policy that a session falls under.
pub(crate) fn kind_of(subject: &str, persistent: bool) -> Kind {
    match (subject.is_empty(), persistent) {
        (true, _) => Kind::Anonymous,
        (false, true) => Kind::Remember,
        (false, false) => Kind::Browser,
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let array = *self.bytes.get(self.at..)?.first_chunk()?;
        self.at = self.at.checked_add(N)?;
        Some(array)
    }

    fn take(&mut self, len: usize) -> Option<Range<usize>> {
        let end = self.at.checked_add(len).filter(|&end| end <= self.bytes.len())?;
        let range = self.at..end;
        self.at = end;
        Some(range)
    }

    fn text(&mut self, len: usize) -> Option<Range<usize>> {
        let range = self.take(len)?;
        str::from_utf8(self.bytes.get(range.clone())?).ok()?;
        Some(range)
    }

    fn tags(&mut self) -> Option<Range<usize>> {
        let [count] = self.array()?;
        let count = usize::from(count);
        if count == 0 || count > MAX_TAGS {
            return None;
        }
        self.take(count.checked_mul(16)?)
    }

    fn flash(&mut self) -> Option<Range<usize>> {
        let len = usize::from(u16::from_be_bytes(self.array()?));
        let range = self.take(len)?;
        let messages: Vec<(String, String)> =
            serde_json::from_slice(self.bytes.get(range.clone())?).ok()?;
        (1..=MAX_FLASH).contains(&messages.len()).then_some(range)
    }
}
