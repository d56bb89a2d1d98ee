//! What becomes of a token that was judged.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind};
use crate::key::KeyId;
use crate::policy::Times;
use crate::revocation::Verdict;
use crate::token::Record;

/// A session as it arrived: alive, and under which key.
#[derive(Clone)]
pub(crate) struct Opened {
    pub(crate) record: Record,
    pub(crate) key: KeyId,
}

/// Why a token did not open.
pub(crate) enum Refusal {
    /// Because of the client, and nothing in it can be trusted.
    Rejected(ErrorKind),
    /// It is authentic, but not alive.
    Dead(Box<Dead>),
    /// Because the revocation list cannot answer.
    Backend(Error),
}

/// Clocks of a fleet that lie further apart are not expected to meet soon.
const MAX_CLOCK_ERROR: Duration = Duration::from_secs(3_600);

/// An authentic session that a token does not open any more.
pub(crate) struct Dead {
    pub(super) kind: ErrorKind,
    pub(crate) record: Record,
    /// What the list says of it, where the limits said nothing.
    pub(super) verdict: Option<Verdict>,
}

impl Dead {
    /// Whether a better copy may be alive: one that was used more lately, that went through a
    /// `renew`, or that other limits or another clock spare.
    pub(crate) fn may_live_on(&self, now: Timestamp) -> bool {
        let Times { issued_at, lifetime, .. } = self.record.facts.times;
        let sealed = Duration::from_secs(u64::from(lifetime));
        matches!(self.verdict, None | Some(Verdict::Outdated { .. }))
            && now.since(issued_at) <= sealed
    }

    /// Whether a sign-in or sign-out ended it a moment ago.
    pub(crate) fn was_just_ended(&self) -> bool {
        self.verdict == Some(Verdict::JustEnded)
    }

    /// Whether the visitor may well have a better cookie by now, which a write would overwrite.
    pub(crate) fn is_overtaken(&self, now: Timestamp) -> bool {
        let times = &self.record.facts.times;
        let ahead = times.issued_at.max(times.refreshed_at()).since(now);
        matches!(self.verdict, Some(Verdict::Outdated { lately: true } | Verdict::JustEnded))
            // Further ahead it was made by a clock that was wrong, and nothing better will come.
            || (self.kind == ErrorKind::NotYet && ahead <= MAX_CLOCK_ERROR)
    }
}

impl From<ErrorKind> for Refusal {
    fn from(kind: ErrorKind) -> Self {
        Self::Rejected(kind)
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Rejected(kind) => Self::new(kind),
            Refusal::Dead(dead) => Self::new(dead.kind),
            Refusal::Backend(error) => error,
        }
    }
}
