//! What the threads of a list share with the requests that ask it.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Revocation;
use super::builder::{OnStale, WhenMissing};
use super::catch_up::Strict;
use super::follower::Position;
use super::freshness::{BackendClock, Freshness, Moment};
use super::log::RevocationLog;
use super::news::{ListNews, Listener, Listeners};
use super::order::Heard;
use super::replica::{HOME, Replica};
use super::writer::{Promises, Unsaved};
use crate::clock::{Clock, Timestamp};
use crate::error::Error;

/// A list that follows logs.
pub(super) struct Shared {
    pub(super) replica: Arc<Replica>,
    pub(super) sources: Vec<Source>,
    pub(super) freshness: Freshness,
    /// Of the home log, by whose clock sessions are ended.
    pub(super) backend_clock: BackendClock,
    pub(super) clock: Box<dyn Clock>,
    pub(super) settings: Settings,
    pub(super) promises: Promises,
    pub(super) lifetimes: Lifetimes,
    pub(super) counters: Counters,
    closed: AtomicBool,
    listeners: Listeners,
}

/// A log, and how far it was read and written.
pub(super) struct Source {
    pub(super) log: Arc<dyn RevocationLog>,
    pub(super) name: String,
    pub(super) unsaved: Unsaved,
    /// Where the follower is, for those who read ahead of it. None while it is out of step.
    pub(super) position: Mutex<Option<Position>>,
    pub(super) heard: Mutex<Heard>,
    pub(super) strict: Strict,
    /// Why it cannot be read, and why it cannot be written.
    pub(super) errors: [Mutex<Option<Error>>; 2],
}

/// Which way to a log.
#[derive(Clone, Copy)]
pub(super) enum Way {
    Read = 0,
    Write = 1,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    /// How long a reading waits for news.
    pub(super) wait: Duration,
    /// How long an instance may go on without hearing from the home log.
    pub(super) patience: Duration,
    pub(super) settle: Option<Duration>,
    pub(super) reconcile_every: Duration,
    pub(super) clock_skew: Duration,
    pub(super) on_stale: OnStale,
    pub(super) when_missing: WhenMissing,
}

/// How often things happened.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) reconciles: AtomicU64,
    pub(super) given_back: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) accepted: AtomicU64,
}

impl Shared {
    pub(super) fn new(
        replica: Arc<Replica>,
        sources: Vec<Source>,
        max_staleness: &[Duration],
        settings: Settings,
        clock: Box<dyn Clock>,
    ) -> Self {
        Self {
            replica,
            sources,
            freshness: Freshness::new(max_staleness.iter().copied()),
            backend_clock: BackendClock::default(),
            clock,
            settings,
            promises: Promises::default(),
            lifetimes: Lifetimes::default(),
            counters: Counters::default(),
            closed: AtomicBool::new(false),
            listeners: Listeners::default(),
        }
    }

    pub(super) fn source(&self, log: usize) -> Option<&Source> {
        self.sources.get(log)
    }

    pub(super) fn now(&self) -> Moment {
        Moment::now(&*self.clock)
    }

    /// The time at the home log, or ours where that is not known.
    pub(super) fn backend_now(&self) -> Timestamp {
        let now = self.now();
        self.backend_clock.now(now).unwrap_or(now.wall)
    }

    pub(super) fn unsaved(&self) -> usize {
        self.sources.iter().map(|source| source.unsaved.count()).sum()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        for source in &self.sources {
            source.unsaved.close();
            source.strict.close();
        }
        self.promises.wake();
    }

    pub(super) fn tell(&self, news: &ListNews) {
        self.listeners.tell(news);
    }

    /// Notes that a log cannot be read or written.
    pub(super) fn failed(&self, log: usize, way: Way, error: Error) {
        let name = self.source(log).map_or("", |source| source.name.as_str());
        let error = error.at(name);
        self.note(log, way, Some(error.clone()));
        self.tell(&ListNews::Failed(error));
    }

    /// Notes whether a way to a log is open.
    pub(super) fn note(&self, log: usize, way: Way, error: Option<Error>) {
        if let Some(slot) = self.source(log).and_then(|source| source.errors.get(way as usize)) {
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = error;
        }
    }

    /// Notes that a log was read.
    pub(super) fn succeeded(&self, log: usize, asked: Moment) {
        self.freshness.renew(log, asked);
        self.note(log, Way::Read, None);
        self.promises.wake();
    }

    pub(super) fn error(&self) -> Option<Error> {
        let all = self.sources.iter().flat_map(|source| &source.errors);
        let mut all = all.map(|slot| slot.lock().unwrap_or_else(PoisonError::into_inner).clone());
        all.find_map(|error| error)
    }

    /// Adds a listener, and tells it how things stand.
    pub(super) fn listen(&self, listener: &Listener) {
        self.listeners.add(Arc::clone(listener));
        if self.freshness.were_complete() {
            let entries = self.replica.entries();
            listener(&ListNews::Fresh { entries, added: 0, delay: None });
        }
        if let Some(error) = self.error() {
            listener(&ListNews::Failed(error));
        }
    }

    /// The facts of a log that no sign-in has to hear of any more.
    pub(super) fn heard(&self, log: usize) -> Option<MutexGuard<'_, Heard>> {
        let heard = self.source(log).map(|source| &source.heard)?;
        Some(heard.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Hands facts that are in force here to the home log.
    pub(super) fn save(&self, facts: Vec<Revocation>) -> Option<super::receipt::Receipt> {
        if let Some(mut heard) = self.heard(HOME) {
            heard.add_own(facts.iter().copied());
        }
        self.source(HOME).map(|source| source.unsaved.add(facts, &self.promises))
    }

    /// Sees to it that the home log knows how long sessions live here, and holds longer ones back
    /// until every instance knows.
    pub(super) fn settle_lifetimes(&self) {
        let own = self.replica.longest();
        if let Some(announced) = self.lifetimes.settle(own, self.now(), self.settings.patience)
            && let Some(source) = self.source(HOME)
        {
            source.unsaved.give_back(vec![Revocation::longest(announced)]);
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.sources.iter().map(|source| &source.name);
        f.debug_list().entries(names).finish()
    }
}

/// How long sessions may live, as far as all instances know.
///
/// A fact is kept until the last session that it means has ended. An instance that knows of no longer
/// sessions than its own keeps it too short: so longer ones are announced first, and sealed only
/// after every instance has read that, or is stale.
#[derive(Debug, Default)]
pub(super) struct Lifetimes {
    state: Mutex<Known>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// None before the log was read.
    in_log: Option<Duration>,
    announced: Duration,
    /// Since when the log has had our own, after it had a shorter one.
    since: Option<Moment>,
    /// What may be sealed meanwhile.
    limit: Option<Duration>,
}

impl Lifetimes {
    /// The log was read whole: it says this, or nothing.
    pub(super) fn read_whole(&self, longest: Duration) {
        let mut known = self.known();
        known.in_log = Some(longest);
        known.announced = Duration::ZERO;
    }

    /// The log says this as well.
    pub(super) fn read(&self, longest: Duration) {
        let mut known = self.known();
        known.in_log = known.in_log.map(|in_log| in_log.max(longest));
    }

    /// The longest life that may be sealed now; None for no limit.
    pub(super) fn limit(&self) -> Option<Duration> {
        self.known().limit
    }

    /// What has to be announced to the log.
    fn settle(&self, own: Duration, now: Moment, patience: Duration) -> Option<Duration> {
        let mut known = self.known();
        let in_log = known.in_log?;
        if in_log < own {
            // In a log that says nothing there is no instance that knows less.
            known.limit = (!in_log.is_zero()).then_some(in_log);
            known.since = None;
            let announce = known.announced < own;
            known.announced = known.announced.max(own);
            return announce.then_some(own);
        }
        if known.limit.is_some() {
            let since = *known.since.get_or_insert(now);
            if now.steady.saturating_duration_since(since.steady) >= patience {
                known.limit = None;
            }
        }
        None
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
