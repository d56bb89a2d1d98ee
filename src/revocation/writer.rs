//! The way from verbs to the log: facts wait here until their log has them.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::Revocation;
use super::follower::{Pause, guarded};
use super::log::RevocationLog;
use super::news::ListNews;
use super::receipt::{Outcome, Receipt};
use super::shared::{Shared, Way};
use super::tables::Tables;
use crate::clock::{Timestamp, monotonic};
use crate::error::Error;

/// How long a receipt waits.
const PATIENCE: Duration = Duration::from_secs(2);
/// How many facts a log is given at a time.
pub(super) const BATCH: usize = 5_000;

/// Facts that a log does not have yet.
#[derive(Default)]
pub(super) struct Unsaved {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Job>,
    /// Facts in them.
    count: usize,
    /// What the writer has taken and not finished.
    taken: Vec<Revocation>,
    closed: bool,
}

struct Job {
    facts: Vec<Revocation>,
    outcome: Option<Arc<Outcome>>,
}

impl Unsaved {
    /// Hands facts over; the receipt tells when they are durable.
    pub(super) fn add(&self, facts: Vec<Revocation>, promises: &Promises) -> Receipt {
        let outcome = Arc::new(Outcome::default());
        promises.add(&outcome, "not confirmed within 2 s; in force here, and tried again");
        self.push(Job { facts, outcome: Some(Arc::clone(&outcome)) });
        Receipt::pending(outcome)
    }

    /// Hands facts over that nobody waits for.
    pub(super) fn give_back(&self, facts: Vec<Revocation>) {
        if !facts.is_empty() {
            self.push(Job { facts, outcome: None });
        }
    }

    /// How many facts wait.
    pub(super) fn count(&self) -> usize {
        let state = self.state();
        state.count.saturating_add(state.taken.len())
    }

    /// The facts that wait.
    pub(super) fn facts(&self) -> Tables {
        let mut tables = Tables::default();
        let state = self.state();
        for fact in state.waiting.iter().flat_map(|job| &job.facts).chain(&state.taken) {
            tables.insert(fact, Timestamp::default());
        }
        tables
    }

    pub(super) fn close(&self) {
        self.state().closed = true;
        self.changed.notify_all();
    }

    fn push(&self, job: Job) {
        let mut state = self.state();
        state.count = state.count.saturating_add(job.facts.len());
        state.waiting.push_back(job);
        drop(state);
        self.changed.notify_all();
    }

    /// Takes what waits, as much as goes into one batch; None once it is closed and empty.
    fn take(&self) -> Option<Vec<Job>> {
        let mut state = self.state();
        while state.waiting.is_empty() {
            if state.closed {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let mut jobs = Vec::new();
        let mut facts = 0_usize;
        while let Some(job) = state.waiting.front() {
            facts = facts.saturating_add(job.facts.len());
            if facts > BATCH && !jobs.is_empty() {
                break;
            }
            jobs.extend(state.waiting.pop_front());
        }
        state.taken = jobs.iter().flat_map(|job: &Job| &job.facts).copied().collect();
        state.count = state.count.saturating_sub(state.taken.len());
        Some(jobs)
    }

    /// Puts back what could not be saved, before all that came since.
    fn put_back(&self, jobs: Vec<Job>) -> bool {
        let mut state = self.state();
        state.count = state.count.saturating_add(std::mem::take(&mut state.taken).len());
        for job in jobs.into_iter().rev() {
            state.waiting.push_front(job);
        }
        !state.closed
    }

    fn done(&self) {
        self.state().taken = Vec::new();
    }

    /// Waits before the next try, or until the list is dropped.
    fn rest(&self, pause: Duration) {
        let state = self.state();
        let open = |state: &mut State| !state.closed;
        let _ = self.changed.wait_timeout_while(state, pause, open);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread. It ends when the list is dropped, after one last try.
pub(super) fn write(shared: &Shared, log: usize) {
    let Some(source) = shared.source(log) else { return };
    let unsaved = &source.unsaved;
    let mut pause = Pause::default();
    let mut behind = false;
    while let Some(jobs) = unsaved.take() {
        let facts: Vec<Revocation> = jobs.iter().flat_map(|job| &job.facts).copied().collect();
        match save(&*source.log, &facts) {
            Ok(()) => {
                unsaved.done();
                shared.note(log, Way::Write, None);
                pause = Pause::default();
                for outcome in jobs.iter().filter_map(|job| job.outcome.as_ref()) {
                    outcome.tell(Ok(()));
                }
                if std::mem::take(&mut behind) {
                    shared.tell(&ListNews::Unsaved { facts: unsaved.count() });
                }
            }
            Err(error) => {
                behind = true;
                let goes_on = unsaved.put_back(jobs);
                shared.failed(log, Way::Write, error);
                shared.tell(&ListNews::Unsaved { facts: unsaved.count() });
                if !goes_on {
                    return;
                }
                unsaved.rest(pause.next());
            }
        }
    }
}

fn save(log: &dyn RevocationLog, facts: &[Revocation]) -> Result<(), Error> {
    facts.chunks(BATCH).try_for_each(|batch| guarded(|| log.append(batch)))
}

/// Receipts that are waited for: each gets an answer in time, whatever the log does.
#[derive(Default)]
pub(super) struct Promises {
    given: Mutex<Given>,
    changed: Condvar,
}

impl Promises {
    /// `late`: what is told if nothing else was, 2 s from now.
    pub(super) fn add(&self, outcome: &Arc<Outcome>, late: &'static str) {
        let until = monotonic().checked_add(PATIENCE).unwrap_or_else(monotonic);
        let promise = Promise { until, outcome: Arc::downgrade(outcome), late };
        self.given().promises.push_back(promise);
        self.changed.notify_all();
    }

    /// Breaks the promises whose time has come, and waits: for the next one, or for `other`.
    pub(super) fn keep(&self, other: Option<Instant>, log: &str) {
        let now = monotonic();
        let mut broken = Vec::new();
        let mut given = self.given();
        while let Some(promise) = given.promises.front()
            && (promise.until <= now || promise.outcome.strong_count() == 0)
        {
            broken.extend(given.promises.pop_front());
        }
        if std::mem::take(&mut given.woken) {
            // Something else has changed since `other` was worked out.
        } else if broken.is_empty() {
            let next = given.promises.front().map(|promise| promise.until);
            let wake = next.into_iter().chain(other).min();
            let pause = wake.map_or(IDLE, |wake| wake.saturating_duration_since(now));
            // A millisecond more: to wake too early is to wake twice.
            let pause = pause.saturating_add(Duration::from_millis(1)).min(IDLE);
            let waited = self.changed.wait_timeout(given, pause);
            waited.unwrap_or_else(PoisonError::into_inner).0.woken = false;
            return;
        }
        drop(given);
        for Promise { outcome, late, .. } in broken {
            if let Some(outcome) = outcome.upgrade() {
                outcome.tell(Err(Error::backend(late).at(log)));
            }
        }
    }

    /// Whether any are waited for.
    pub(super) fn any(&self) -> bool {
        !self.given().promises.is_empty()
    }

    /// Has the thread look again at what it waits for.
    pub(super) fn wake(&self) {
        self.given().woken = true;
        self.changed.notify_all();
    }

    fn given(&self) -> MutexGuard<'_, Given> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Default)]
struct Given {
    promises: VecDeque<Promise>,
    woken: bool,
}

struct Promise {
    until: Instant,
    outcome: Weak<Outcome>,
    late: &'static str,
}

/// How long the thread that keeps promises sleeps with nothing to do.
const IDLE: Duration = Duration::from_secs(5);
