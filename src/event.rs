//! What happens to sessions, told to an [`Observer`].

use std::fmt;
use std::time::{Duration, SystemTime};

use crate::error::{Error, ErrorKind};
use crate::key::{KeyId, KeyStatus};
use crate::token::SessionId;

#[cfg(feature = "metrics")]
mod with_metrics;
#[cfg(feature = "tracing")]
mod with_tracing;

#[cfg(feature = "metrics")]
pub use with_metrics::MetricsObserver;
#[cfg(feature = "tracing")]
pub use with_tracing::TracingObserver;

/// Receives every [`Event`], on the thread where it happens.
///
/// Called on the request path, outside of all locks: count, log or queue, but do not block. Any
/// `Fn(&Event<'_>)` is an observer.
pub trait Observer: Send + Sync + 'static {
    /// Takes note of an event.
    fn observe(&self, event: &Event<'_>);
}

impl<F> Observer for F
where
    F: Fn(&Event<'_>) + Send + Sync + 'static,
{
    fn observe(&self, event: &Event<'_>) {
        self(event);
    }
}

/// One thing that happened. No event holds a token, a key or session data.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A token opened: the session is alive.
    #[non_exhaustive]
    Opened {
        /// The session.
        id: SessionId,
        /// The key it was sealed under. Once an old key no longer shows here, nobody needs it.
        key: KeyId,
    },
    /// A new session is on its way to the visitor: a sign-in, or the first write of an anonymous
    /// one. Goes out before the headers, so that a table of devices can be kept.
    #[non_exhaustive]
    Issued {
        /// The session.
        id: SessionId,
        /// Whose it is, empty for an anonymous one.
        subject: &'a str,
        /// When it was issued.
        issued_at: SystemTime,
        /// The absolute limit.
        expires_at: SystemTime,
        /// Whether it was asked to outlive the browser ("remember me").
        persistent: bool,
        /// The hashed tags it carries.
        tags: &'a [[u8; 16]],
    },
    /// Activity was written down.
    #[non_exhaustive]
    Refreshed {
        /// The session.
        id: SessionId,
    },
    /// A token sealed under an older key was sealed again under the active one.
    #[non_exhaustive]
    Resealed {
        /// The session.
        id: SessionId,
        /// The key it came under.
        from: KeyId,
        /// The key it went out under.
        to: KeyId,
    },
    /// A token was refused because of the client.
    #[non_exhaustive]
    Rejected {
        /// Why. Not for the visitor's eyes.
        kind: ErrorKind,
        /// The session, where the token was authentic.
        id: Option<SessionId>,
    },
    /// Writes of this request were not sent, because the visitor's token is one that this instance
    /// cannot judge: sealed by a newer key, version or application.
    #[non_exhaustive]
    Withheld {
        /// Whether a sign-out was among them, which then could not revoke anything.
        signed_out: bool,
    },
    /// A session, or many, were ended early.
    #[non_exhaustive]
    Revoked {
        /// How many this reaches.
        scope: Scope,
        /// The session, where it is one.
        id: Option<SessionId>,
    },
    /// A session went on under a new generation; its older copies are dead.
    #[non_exhaustive]
    Renewed {
        /// The session.
        id: SessionId,
        /// The new generation.
        generation: u16,
    },
    /// A copy older than the last [`renew`](crate::Session::renew) came back: perhaps a thief's,
    /// perhaps an answer that was overtaken.
    #[non_exhaustive]
    Reuse {
        /// The session.
        id: SessionId,
        /// The outdated generation.
        generation: u16,
    },
    /// One request brought two different live sessions under one name: a cookie was planted, or
    /// Path or Domain changed without a change of name. It was treated as anonymous.
    #[non_exhaustive]
    TwoSessions {
        /// The two first ones.
        ids: [SessionId; 2],
    },
    /// A change was refused because the session would not fit into a cookie.
    #[non_exhaustive]
    TooLarge {
        /// The error, which tells size and limit.
        error: &'a Error,
    },
    /// A change came after the response had begun, and was refused.
    #[non_exhaustive]
    ClosedLate {
        /// The session, if there was one.
        id: Option<SessionId>,
    },
    /// A refresh was left out because the handler made its answer public.
    #[non_exhaustive]
    RefreshSkipped {
        /// The session.
        id: SessionId,
    },
    /// A caching header of the handler was changed because the answer carries a session cookie.
    #[non_exhaustive]
    CacheHeaderChanged {
        /// The header's name.
        header: &'static str,
    },
    /// A cookie was not sent: the session ended while the answer was under way, or there is no active
    /// key or no random bytes. What was written in this request is lost, revocations stand.
    #[non_exhaustive]
    NotSent {
        /// Why.
        error: &'a Error,
    },
    /// A token came under a key that the ring does not hold: a newer one, or an invented one. A ring
    /// that follows its source reads it again soon. `Rejected` follows.
    #[non_exhaustive]
    KeyUnknown {
        /// The key that the token names. Anybody can send any.
        key: KeyId,
    },
    /// The key ring was read without an error: at start, and then at every reading of its source.
    #[non_exhaustive]
    KeyRingLoaded {
        /// The ring's [name](crate::KeyRing::fingerprint): the same on all instances that share it.
        fingerprint: &'a str,
        /// Its keys, as they are now.
        keys: &'a [KeyStatus],
        /// Whether it differs from the ring before.
        changed: bool,
        /// Whether the reading before failed.
        recovered: bool,
    },
    /// The key ring could not be read or cannot be used, and the one before stays.
    #[non_exhaustive]
    KeyRingFailed {
        /// Why, with source and line.
        error: &'a Error,
    },
    /// The key ring is used, but lies where it could be safer.
    #[non_exhaustive]
    KeySourceWarning {
        /// What to change.
        warning: &'a str,
    },
    /// A key of the ring ends before all sessions sealed under it are sealed anew, as this policy
    /// has it: some visitors will be signed out.
    #[non_exhaustive]
    KeyEndsEarly {
        /// The key.
        key: KeyId,
        /// When it has to open at least until.
        needed: SystemTime,
    },
    /// The revocation list could not answer, and the request was refused.
    #[non_exhaustive]
    ListStale,
    /// The revocation list was too old to answer, and the session was let in all the same, because
    /// [`OnStale::Accept`](crate::revocation::OnStale) says so.
    #[non_exhaustive]
    ListAcceptedStale,
    /// The revocation list had no room.
    #[non_exhaustive]
    ListFull,
    /// The revocation list was read, and is fresh: after every batch of facts, and at least every
    /// quarter of `max_staleness`.
    #[non_exhaustive]
    ListFresh {
        /// Entries that it holds now.
        entries: usize,
        /// Facts that came; this list's own come back, too.
        added: usize,
        /// How long ago the first of them was written, by the backend's clock, if it tells.
        delay: Option<Duration>,
    },
    /// All of a revocation log was compared with what is known here: at start, after every error, and
    /// now and then.
    #[non_exhaustive]
    ListReconciled {
        /// Entries that it holds now.
        entries: usize,
        /// Facts that the log had lost, and got back from here.
        given_back: usize,
    },
    /// A revocation log was found new, and no instance knew what it should hold.
    #[non_exhaustive]
    ListMissing {
        /// What was done about it, by [`WhenMissing`](crate::revocation::WhenMissing).
        decision: &'static str,
    },
    /// Facts are in force here and not in the revocation log, which could not be written; or no more.
    #[non_exhaustive]
    ListUnsaved {
        /// How many wait for it.
        facts: usize,
    },
    /// A revocation log cannot be read or written. Sessions are let in until the list is too old.
    #[non_exhaustive]
    ListFailed {
        /// Which, and why.
        error: &'a Error,
    },
}

/// How many sessions a revocation reaches.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Scope {
    /// One session.
    Session,
    /// All sessions of one subject up to now.
    Subject,
    /// All sessions with one tag up to now.
    Tag,
    /// All sessions of the realm up to now.
    Everyone,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Session => "session",
            Self::Subject => "subject",
            Self::Tag => "tag",
            Self::Everyone => "everyone",
        })
    }
}
