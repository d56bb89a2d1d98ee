//! What a list is asked about, and on whose behalf.

use std::time::Duration;

use crate::clock::{Clock, Timestamp};
use crate::key::{self, Digest16};
use crate::policy::Times;
use crate::token::{Facts, Record, SessionId, Tag, tag_of};

/// The application or tenant, and the keys that facts about it have.
pub(crate) struct Realm {
    name: Box<str>,
    pub(super) everyone: [u8; 16],
    subjects: Digest16,
}

impl Realm {
    pub(crate) fn new(name: &str) -> Self {
        let everyone = key::digest16("sealed-session v1 realm", &[name.as_bytes()]);
        let subjects = Digest16::new("sealed-session v1 subject", &[name.as_bytes()]);
        Self { name: name.into(), everyone, subjects }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn tag(&self, tag: &str) -> Tag {
        tag_of(&self.name, tag)
    }

    pub(super) fn subject(&self, subject: &str) -> [u8; 16] {
        self.subjects.of(subject.as_bytes())
    }
}

/// A session as the list is asked about it.
pub(crate) struct Presented<'a> {
    pub(crate) id: SessionId,
    pub(crate) times: Times,
    pub(crate) generation: u16,
    pub(crate) subject: &'a str,
    pub(crate) tags: &'a [Tag],
}

impl<'a> From<&'a Record> for Presented<'a> {
    fn from(record: &'a Record) -> Self {
        let Facts { id, times, generation, .. } = record.facts;
        Self { id, times, generation, subject: record.subject(), tags: record.tags() }
    }
}

/// A session that is about to be issued.
pub(crate) struct NewSession<'a> {
    pub(crate) subject: &'a str,
    pub(crate) tags: &'a [Tag],
}

/// What a list says of one session.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Verdict {
    Clear,
    Revoked,
    /// Revoked so lately that the answer which replaced it may still be under way.
    JustEnded,
    /// An older generation of a session that lives on; `lately` as in `JustEnded`.
    Outdated {
        lately: bool,
    },
}

/// A place in the order in which facts came to this list.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Mark(pub(super) u64);

/// What a request knew of the list: all up to a mark, and what it added itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) at: Mark,
    pub(crate) own: Vec<Mark>,
}

impl Seen {
    /// All there is and will be: for a session that speaks for nobody, and so can always begin anew.
    pub(crate) const fn everything() -> Self {
        Self { at: Mark(u64::MAX), own: Vec::new() }
    }

    /// Whether a fact came since, from somebody else.
    pub(super) fn is_overtaken_by(&self, sequence: u64) -> bool {
        sequence > self.at.0 && !self.own.contains(&Mark(sequence))
    }
}

/// The clock, read only once the list's own lock is held.
pub(crate) struct Wall<'a> {
    pub(crate) clock: &'a dyn Clock,
    /// How far it may lie apart from true time.
    pub(crate) skew: Duration,
    /// How far ahead of it a session may have been issued.
    pub(crate) slack: Duration,
}

impl Wall<'_> {
    pub(super) fn now(&self) -> Timestamp {
        Timestamp::from_system(self.clock.now())
    }
}

/// On whose behalf sessions are ended.
pub(crate) struct Revoker<'a> {
    /// Sessions issued until then are meant in any case.
    pub(crate) at_least: Timestamp,
    /// Set where a request ends its own subject's sessions. Its own fact is no conflict for a
    /// sign-in that follows in it, unless it replaced somebody else's that is.
    pub(crate) seen: Option<&'a Seen>,
}
