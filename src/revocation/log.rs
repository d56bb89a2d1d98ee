//! What a backend has to be: a log of facts that only grows.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::Revocation;
use crate::clock::Timestamp;
use crate::error::Error;
use crate::random;

/// An append-only log of revocations that all instances of an application share.
///
/// Implement it to bring a backend of your own, and let
/// [`conformance::run`](super::conformance::run) prove it. Two methods are all there is: facts are
/// never changed or taken back, and every instance keeps all of them in memory.
///
/// The methods block, on purpose: a list calls them on threads of its own, never on one that serves
/// visitors. An asynchronous client fits in with its runtime's `block_on`, under a time limit; see
/// `examples/async_log.rs`.
///
/// `append`, a `read` that waits and one that does not may be called at the same time: let each have
/// a connection of its own.
pub trait RevocationLog: Send + Sync + 'static {
    /// Adds facts, and returns once they survive a crash of the backend.
    ///
    /// Up to 5,000 facts at a time. Adding one that is there already is no error, and need not store
    /// it twice. After an error it does not matter which of them were added: all of them come again.
    ///
    /// # Errors
    ///
    /// Whatever went wrong, as [`Error::backend`], after 2 s at most: a backend that does not answer
    /// is an error, too.
    fn append(&self, facts: &[Revocation]) -> Result<(), Error>;

    /// Gives the facts that were added after `after`, or all of them.
    ///
    /// Each fact at least once, in any order, and without a hole: no later read may bring a fact
    /// that was added before what this page's [`Cursor`] stands for, so writers that finish out of
    /// order must not be overtaken. If there is none, it waits for one, for `wait` at most, and then
    /// gives an empty page: the sign that the backend is alive. A log that does not exist yet is
    /// made, by one instance. Without `after` it need not wait, even if there is nothing.
    ///
    /// A fact may be left out, and deleted, once its [`until`](Revocation::until) has passed by an
    /// hour on the backend's clock; one without stays.
    ///
    /// # Errors
    ///
    /// Whatever went wrong, as [`Error::backend`], 2 s after `wait` at most. A log that was lost or
    /// replaced, or has fallen behind `after`, is an error, or a page with another [`Lineage`].
    /// Either makes the list read everything anew.
    fn read(&self, after: Option<&Cursor>, wait: Duration) -> Result<Page, Error>;

    /// Names the log in errors and events: an address without its password, and the list's name.
    fn name(&self) -> Cow<'_, str> {
        Cow::Borrowed("revocation log")
    }

    /// How long it may take until every instance has noticed that the log was lost, and has given
    /// back what it knows: a [`read`](Self::read) that waited for 5 s, a pause of a second, and the
    /// reading of everything.
    fn settle(&self) -> Duration {
        Duration::from_secs(10)
    }
}

impl<L: RevocationLog + ?Sized> RevocationLog for Box<L> {
    fn append(&self, facts: &[Revocation]) -> Result<(), Error> {
        (**self).append(facts)
    }

    fn read(&self, after: Option<&Cursor>, wait: Duration) -> Result<Page, Error> {
        (**self).read(after, wait)
    }

    fn name(&self) -> Cow<'_, str> {
        (**self).name()
    }

    fn settle(&self) -> Duration {
        (**self).settle()
    }
}

impl<L: RevocationLog + ?Sized> RevocationLog for Arc<L> {
    fn append(&self, facts: &[Revocation]) -> Result<(), Error> {
        (**self).append(facts)
    }

    fn read(&self, after: Option<&Cursor>, wait: Duration) -> Result<Page, Error> {
        (**self).read(after, wait)
    }

    fn name(&self) -> Cow<'_, str> {
        (**self).name()
    }

    fn settle(&self) -> Duration {
        (**self).settle()
    }
}

/// A place in a log, in whatever form the log gives it. Only the log looks inside.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Cursor {
    bytes: Box<[u8]>,
}

impl Cursor {
    /// A place.
    pub fn new(bytes: impl Into<Box<[u8]>>) -> Self {
        Self { bytes: bytes.into() }
    }

    /// What it was made of.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Which log this is: a new one gets a new id. So a log that was lost and made anew is noticed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Lineage {
    pub(super) id: [u8; 16],
    pub(super) born: Timestamp,
    pub(super) now: Timestamp,
    pub(super) started: Option<Timestamp>,
}

impl Lineage {
    /// The log's id, when it was made, and what time it is: both by the **backend's clock**, read
    /// while the page was.
    pub fn new(id: [u8; 16], born: SystemTime, now: SystemTime) -> Self {
        let [born, now] = [born, now].map(Timestamp::from_system);
        Self { id, born, now, started: None }
    }

    /// Adds when the server was started, by its clock: it may have come back with an older state, so
    /// an instance that knows nothing yet waits for those that do.
    #[must_use]
    pub fn started(mut self, at: SystemTime) -> Self {
        self.started = Some(Timestamp::from_system(at));
        self
    }

    /// An id for a new log.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Random`](crate::ErrorKind::Random).
    pub fn new_id() -> Result<[u8; 16], Error> {
        random::bytes()
    }

    /// The log's id.
    pub const fn id(&self) -> [u8; 16] {
        self.id
    }

    /// How long its server has been up, if that is known.
    pub(super) fn up(&self) -> Option<Duration> {
        self.started.map(|started| self.now.since(started))
    }

    /// How long the log has existed.
    pub const fn age(&self) -> Duration {
        self.now.since(self.born)
    }
}

/// What one [`read`](RevocationLog::read) gave.
pub struct Page {
    pub(super) facts: Vec<Revocation>,
    pub(super) lineage: Lineage,
    pub(super) cursor: Cursor,
    pub(super) more: bool,
    pub(super) written_at: Option<Timestamp>,
    /// Why a fact could not be read. The others count all the same.
    pub(super) unreadable: Option<Error>,
}

impl Page {
    /// A page without facts, and where the next one begins.
    pub const fn new(lineage: Lineage, cursor: Cursor) -> Self {
        Self { facts: Vec::new(), lineage, cursor, more: false, written_at: None, unreadable: None }
    }

    /// Adds a fact, as [`Revocation::to_bytes`] wrote it.
    ///
    /// One that does not decode is not left out in silence: the list takes the other facts of the
    /// page, and does not count as fresh.
    pub fn push(&mut self, fact: &[u8]) {
        match Revocation::from_bytes(fact) {
            Ok(fact) => self.facts.push(fact),
            Err(error) => self.unreadable = Some(error),
        }
    }

    /// Sets where the next page begins, if that is known only after the facts.
    pub fn set_cursor(&mut self, cursor: Cursor) {
        self.cursor = cursor;
    }

    /// Says that more facts are there already: the next page is asked for at once.
    #[must_use]
    pub const fn with_more(mut self, more: bool) -> Self {
        self.more = more;
        self
    }

    /// Says when the first of the facts was added, by the backend's clock. From that follows how long
    /// revocations take to arrive, which is only reported.
    #[must_use]
    pub fn written_at(mut self, at: SystemTime) -> Self {
        self.written_at = Some(Timestamp::from_system(at));
        self
    }

    /// The facts that could be decoded.
    pub fn facts(&self) -> &[Revocation] {
        &self.facts
    }

    /// Which log they are of.
    pub const fn lineage(&self) -> Lineage {
        self.lineage
    }

    /// Where the next page begins.
    pub const fn cursor(&self) -> &Cursor {
        &self.cursor
    }

    /// Whether more facts are there already.
    pub const fn has_more(&self) -> bool {
        self.more
    }
}

impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Page")
            .field("facts", &self.facts.len())
            .field("lineage", &self.lineage)
            .field("more", &self.more)
            .field("unreadable", &self.unreadable)
            .finish_non_exhaustive()
    }
}
