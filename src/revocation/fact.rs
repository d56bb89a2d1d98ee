//! One fact, in memory and as bytes.

use std::fmt;
use std::time::{Duration, SystemTime};

use crate::clock::Timestamp;
use crate::error::Error;
use crate::token::SessionId;

/// A fact: some sessions are dead, whatever their tokens say.
///
/// It names them by hashes, holds nothing else, and ends by itself. Only a list makes them; a
/// [`RevocationLog`](super::RevocationLog) keeps their bytes:
///
/// | kind, one byte | then | bytes in all |
/// |---|---|---|
/// | 1 a session | id 16, generations below this end: 4 (65536 is all), until 6 | 31 |
/// | 2 a subject, a tag or everyone | hash 16, sessions issued until then end: 6, until 6 | 33 |
/// | 3 the same but for one session | as 2, its id 16, when it was issued, 0 if unknown: 6 | 55 |
/// | 4 how long sessions live | milliseconds 6 | 11 |
/// | 5 a log is whole | the log's id 16 | 21 |
///
/// and last a CRC-32 of what stands before it. Numbers come most significant byte first, instants as
/// milliseconds since 1970. The hashes are the first 16 bytes of SHA-256 over a label and each part
/// under its length as two bytes: `sealed-session v1 realm`, realm; `sealed-session v1 subject`,
/// realm, subject; tags as in the token format. 16 zero bytes are everyone in every realm.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub struct Revocation {
    pub(super) fact: Fact,
    /// When the last session it speaks of has ended anyway.
    pub(super) until: Timestamp,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum Fact {
    /// The session's generations below this one; 65536 is all.
    Session { id: SessionId, below: u32 },
    /// Sessions with this subject, tag or realm, issued at or before an instant, except one.
    Issued { key: [u8; 16], before: Timestamp, except: Option<Spared> },
    /// Sessions of this list may live for so long.
    Longest { lifetime: Duration },
    /// The log with this id holds all that was known when it was made.
    Whole { lineage: [u8; 16] },
}

/// The session that a fact spares.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct Spared {
    pub(super) id: SessionId,
    /// Where it is known: facts about sessions issued before it do not speak of it anyway.
    pub(super) issued_at: Option<Timestamp>,
}

/// The longest life that any policy may set.
pub(super) const LONGEST: Duration = Duration::from_secs(3_653 * 86_400);

/// Above every generation.
pub(super) const ALL: u32 = 1 << 16;

/// In place of a hash: everyone in every realm.
pub(super) const EVERY_REALM: [u8; 16] = [0; 16];

impl Revocation {
    /// The most bytes that a fact takes.
    pub const MAX_LEN: usize = 55;

    /// Reads a fact.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Backend`](crate::ErrorKind::Backend) for bytes that are damaged, and for a kind
    /// that only newer releases know: it must not be left out.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let damaged = || Error::backend("a fact in the revocation log is damaged");
        let (body, crc) = bytes.split_last_chunk::<4>().ok_or_else(damaged)?;
        if crc32fast::hash(body).to_be_bytes() != *crc {
            return Err(damaged());
        }
        let (kind, body) = body.split_first().ok_or_else(damaged)?;
        let mut fields = Fields(body);
        let fact = match kind {
            1 => {
                let id = SessionId::from_bytes(fields.take().ok_or_else(damaged)?);
                let below = u32::from_be_bytes(fields.take().ok_or_else(damaged)?);
                Some(Fact::Session { id, below }).filter(|_| below <= ALL)
            }
            2 | 3 => {
                let key = fields.take().ok_or_else(damaged)?;
                let before = fields.instant().ok_or_else(damaged)?;
                Some(Fact::Issued { key, before, except: None })
            }
            4 => {
                let lifetime = fields.instant().ok_or_else(damaged)?;
                // No policy may set more: a damaged one shall not keep every fact for ever.
                let lifetime = lifetime.since(Timestamp::default()).min(LONGEST);
                Some(Fact::Longest { lifetime })
            }
            5 => Some(Fact::Whole { lineage: fields.take().ok_or_else(damaged)? }),
            kind => {
                return Err(Error::backend(format!(
                    "a fact of kind {kind} in the revocation log comes from a newer release: update \
                     this one"
                )));
            }
        };
        let mut fact = fact.ok_or_else(damaged)?;
        let until = match fact {
            Fact::Session { .. } | Fact::Issued { .. } => fields.instant().ok_or_else(damaged)?,
            Fact::Longest { .. } | Fact::Whole { .. } => Timestamp::MAX,
        };
        if let (3, Fact::Issued { except, .. }) = (kind, &mut fact) {
            let id = SessionId::from_bytes(fields.take().ok_or_else(damaged)?);
            let issued_at = fields.instant().ok_or_else(damaged)?;
            let issued_at = (issued_at != Timestamp::default()).then_some(issued_at);
            *except = Some(Spared { id, issued_at });
        }
        if fields.0.is_empty() { Ok(Self { fact, until }) } else { Err(damaged()) }
    }

    /// Writes the fact, in at most [`MAX_LEN`](Self::MAX_LEN) bytes; the same fact in the same bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(Self::MAX_LEN);
        match self.fact {
            Fact::Session { id, below } => {
                bytes.push(1);
                bytes.extend(id.as_bytes());
                bytes.extend(below.to_be_bytes());
                bytes.extend(six(self.until));
            }
            Fact::Issued { key, before, except } => {
                bytes.push(if except.is_some() { 3 } else { 2 });
                bytes.extend(key);
                bytes.extend(six(before));
                bytes.extend(six(self.until));
                if let Some(Spared { id, issued_at }) = except {
                    bytes.extend(id.as_bytes());
                    bytes.extend(six(issued_at.unwrap_or_default()));
                }
            }
            Fact::Longest { lifetime } => {
                bytes.push(4);
                bytes.extend(six(Timestamp::default().plus(lifetime)));
            }
            Fact::Whole { lineage } => {
                bytes.push(5);
                bytes.extend(lineage);
            }
        }
        let crc = crc32fast::hash(&bytes);
        bytes.extend(crc.to_be_bytes());
        bytes
    }

    /// When the fact can be forgotten; None for what a log keeps for as long as it exists.
    pub fn until(&self) -> Option<SystemTime> {
        match self.fact {
            Fact::Session { .. } | Fact::Issued { .. } => Some(self.until.to_system()),
            Fact::Longest { .. } | Fact::Whole { .. } => None,
        }
    }

    pub(crate) const fn session(id: SessionId, until: Timestamp) -> Self {
        Self { fact: Fact::Session { id, below: ALL }, until }
    }

    pub(crate) fn generations_below(id: SessionId, generation: u16, until: Timestamp) -> Self {
        Self { fact: Fact::Session { id, below: u32::from(generation) }, until }
    }

    /// The session that this ends, if it is one.
    pub(crate) const fn session_id(&self) -> Option<SessionId> {
        match self.fact {
            Fact::Session { id, .. } => Some(id),
            Fact::Issued { .. } | Fact::Longest { .. } | Fact::Whole { .. } => None,
        }
    }

    /// The same fact, kept for as long as sessions live, if whoever made it knew of shorter ones.
    pub(super) fn kept_for(mut self, longest: Duration) -> Self {
        if let Fact::Issued { before, .. } = self.fact {
            self.until = self.until.max(before.plus(longest));
        }
        self
    }

    /// Whether it is worth keeping: "this session, except itself" is not.
    pub(super) const fn says_anything(&self) -> bool {
        !matches!(self.fact, Fact::Session { below: 0, .. })
    }

    /// What is left of "this session, except itself".
    pub(super) fn nothing(id: SessionId) -> Self {
        Self { fact: Fact::Session { id, below: 0 }, until: Timestamp::default() }
    }

    pub(super) const fn longest(lifetime: Duration) -> Self {
        Self { fact: Fact::Longest { lifetime }, until: Timestamp::MAX }
    }

    pub(super) const fn whole(lineage: [u8; 16]) -> Self {
        Self { fact: Fact::Whole { lineage }, until: Timestamp::MAX }
    }
}

impl fmt::Debug for Revocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Revocation").field("fact", &self.fact).field("until", &self.until).finish()
    }
}

/// What is left to read of a fact.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*field)
    }

    fn instant(&mut self) -> Option<Timestamp> {
        let six: [u8; 6] = self.take()?;
        let mut bytes = [0; 8];
        bytes.last_chunk_mut::<6>()?.copy_from_slice(&six);
        Some(Timestamp::from_millis(u64::from_be_bytes(bytes)))
    }
}

fn six(instant: Timestamp) -> [u8; 6] {
    let [_, _, six @ ..] = instant.as_millis().to_be_bytes();
    six
}
