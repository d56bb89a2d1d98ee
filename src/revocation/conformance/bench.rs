//! What the rules work with: handles whose calls end in their time, facts, and what was added.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::super::{Cursor, Lineage, Page, Revocation, RevocationLog};
use crate::clock::{Timestamp, monotonic};
use crate::error::{Error, ErrorKind};
use crate::token::SessionId;

/// In 2100: no fact of the suite is over, whatever the clocks say.
pub(super) const FAR: Timestamp = Timestamp::from_millis(4_102_444_800_000);

/// What a call may take beyond the time that it was told to wait.
pub(super) const LIMIT: Duration = Duration::from_secs(2);

/// What a rule says when it is broken.
pub(super) fn broken(text: impl Into<Arc<str>>) -> Error {
    Error::with_detail(ErrorKind::Backend, text)
}

/// The log under test, and what it has to hold.
pub(super) struct Bench<'a, L> {
    open: &'a dyn Fn() -> Result<L, Error>,
    pub(super) start: Option<Start>,
    /// What has to be in the log.
    pub(super) added: HashSet<Revocation>,
    /// What was added, and may be gone.
    pub(super) over: HashSet<Revocation>,
    made: u128,
}

impl<'a, L: RevocationLog> Bench<'a, L> {
    pub(super) fn new(open: &'a dyn Fn() -> Result<L, Error>) -> Self {
        Self { open, start: None, added: HashSet::new(), over: HashSet::new(), made: 0 }
    }

    pub(super) fn handle(&self) -> Result<Handle<L>, Error> {
        let log = (self.open)().map_err(|error| {
            Error::backend(error).at("expected `open` to give a handle, but it failed")
        })?;
        Ok(Handle { log: Arc::new(log) })
    }

    /// What the first rule has read.
    pub(super) fn start(&self) -> Result<&Start, Error> {
        self.start.as_ref().ok_or_else(|| broken("expected a first page"))
    }

    /// An id that none had before, in no order.
    pub(super) fn id(&mut self) -> SessionId {
        self.made = self.made.wrapping_add(1);
        // Odd, so different numbers give different ids.
        let id = self.made.wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835);
        SessionId::from_bytes(id.to_be_bytes())
    }

    /// A new fact.
    pub(super) fn fact(&mut self) -> Revocation {
        let fact = Revocation::session(self.id(), FAR);
        self.note(fact)
    }

    /// New facts.
    pub(super) fn facts(&mut self, count: usize) -> Vec<Revocation> {
        (0..count).map(|_| self.fact()).collect()
    }

    /// Notes a fact that will be added.
    pub(super) fn note(&mut self, fact: Revocation) -> Revocation {
        self.added.insert(fact);
        fact
    }
}

/// The log at first, when it was empty, and between which instants it was read.
pub(super) struct Start {
    pub(super) lineage: Lineage,
    pub(super) cursor: Cursor,
    pub(super) asked: Instant,
    pub(super) answered: Instant,
}

/// One instance's view of the log.
pub(super) struct Handle<L> {
    log: Arc<L>,
}

impl<L> Clone for Handle<L> {
    fn clone(&self) -> Self {
        Self { log: Arc::clone(&self.log) }
    }
}

impl<L: RevocationLog> Handle<L> {
    pub(super) fn append(&self, facts: &[Revocation]) -> Result<(), Error> {
        let what = format!("`append` with {} facts", facts.len());
        let (log, facts) = (Arc::clone(&self.log), facts.to_vec());
        Call::start(what, LIMIT, move || log.append(&facts))?.answer()
    }

    pub(super) fn read(&self, after: Option<&Cursor>, wait: Duration) -> Result<Page, Error> {
        self.start_read(after, wait)?.answer().and_then(whole)
    }

    pub(super) fn start_read(
        &self,
        after: Option<&Cursor>,
        wait: Duration,
    ) -> Result<Call<Page>, Error> {
        let place = if after.is_some() { "a cursor" } else { "`None`" };
        let what = format!("`read` from {place}, waiting for {wait:?}");
        let (log, after) = (Arc::clone(&self.log), after.cloned());
        Call::start(what, wait.saturating_add(LIMIT), move || log.read(after.as_ref(), wait))
    }

    /// All that is there now, as a strict route reads it: page by page, without waiting.
    pub(super) fn catch_up(&self, after: Option<&Cursor>) -> Result<CaughtUp, Error> {
        let mut page = self.read(after, Duration::ZERO)?;
        let mut facts: HashSet<Revocation> = page.facts().iter().copied().collect();
        let mut pages_without_news = 0_u32;
        while page.has_more() {
            page = self.read(Some(page.cursor()), Duration::ZERO)?;
            let before = facts.len();
            facts.extend(page.facts());
            let news = facts.len() > before;
            pages_without_news = if news { 0 } else { pages_without_news.saturating_add(1) };
            if pages_without_news > 10 {
                return Err(broken(
                    "expected more facts, as the page said, but the next 10 pages brought nothing \
                     new and still said so",
                ));
            }
        }
        Ok(CaughtUp { facts, cursor: page.cursor, lineage: page.lineage })
    }

    /// The place after all that is there now.
    pub(super) fn end(&self) -> Result<Cursor, Error> {
        self.catch_up(None).map(|all| all.cursor)
    }
}

pub(super) struct CaughtUp {
    pub(super) facts: HashSet<Revocation>,
    pub(super) cursor: Cursor,
    pub(super) lineage: Lineage,
}

impl CaughtUp {
    /// That every one of `facts` came.
    pub(super) fn has(&self, facts: &[Revocation], when: &str) -> Result<(), Error> {
        has(&self.facts, facts, when)
    }
}

/// That every one of `expected` is among `came`.
pub(super) fn has(
    came: &HashSet<Revocation>,
    expected: &[Revocation],
    when: &str,
) -> Result<(), Error> {
    let missing: Vec<&Revocation> = expected.iter().filter(|fact| !came.contains(*fact)).collect();
    let Some(one) = missing.first() else { return Ok(()) };
    Err(broken(format!(
        "expected {} facts {when}, but {} of them did not come, as {one:?}",
        expected.len(),
        missing.len(),
    )))
}

/// A page whose facts could all be read.
pub(super) fn whole(mut page: Page) -> Result<Page, Error> {
    match page.unreadable.take() {
        None => Ok(page),
        Some(error) => {
            Err(Error::backend(error).at("expected a fact as it was added, but it does not decode"))
        }
    }
}

/// A call on a thread of its own, which is left behind if it does not return in its time.
pub(super) struct Call<T> {
    what: String,
    began: Instant,
    limit: Duration,
    answer: Receiver<(Result<T, Error>, Duration)>,
    thread: JoinHandle<()>,
}

impl<T: Send + 'static> Call<T> {
    pub(super) fn start(
        what: impl Into<String>,
        limit: Duration,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<Self, Error> {
        let began = monotonic();
        let (tell, answer) = sync_channel(1);
        let call = move || {
            let result = work();
            let _ = tell.send((result, since(began)));
        };
        let thread = thread::Builder::new().name("conformance".into()).spawn(call);
        let thread = thread.map_err(|error| Error::backend(error).at("no thread for a call"))?;
        Ok(Self { what: what.into(), began, limit, answer, thread })
    }

    pub(super) fn is_over(&self) -> bool {
        self.thread.is_finished()
    }

    pub(super) fn answer(self) -> Result<T, Error> {
        self.timed().map(|(answer, _)| answer)
    }

    /// The answer, and how long it took.
    pub(super) fn timed(self) -> Result<(T, Duration), Error> {
        let what = self.what.clone();
        match self.outcome()? {
            (Ok(answer), took) => Ok((answer, took)),
            (Err(error), _) => {
                Err(Error::backend(error).at(&format!("expected {what} to succeed, but it failed")))
            }
        }
    }

    /// The answer, whichever it is, as long as it comes in its time.
    pub(super) fn outcome(self) -> Result<(Result<T, Error>, Duration), Error> {
        let Self { what, limit, .. } = self;
        let late = || broken(format!("expected {what} to return within {limit:?}, but it did not"));
        match self.answer.recv_timeout(limit.saturating_sub(since(self.began))) {
            Ok((_, took)) if took > limit => Err(late()),
            Ok(outcome) => Ok(outcome),
            Err(RecvTimeoutError::Timeout) => Err(late()),
            Err(RecvTimeoutError::Disconnected) => {
                Err(broken(format!("expected {what} to return, but it panicked")))
            }
        }
    }
}

/// Gives a read that was started the time to get as far as waiting. If it does not, the rule holds
/// all the more easily: this cannot fail a good log.
pub(super) fn begin_to_wait() {
    thread::sleep(Duration::from_millis(200));
}

pub(super) fn since(began: Instant) -> Duration {
    monotonic().saturating_duration_since(began)
}
