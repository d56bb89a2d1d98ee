//! How old a list is, and what time it is where its facts are kept.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::log::Lineage;
use crate::clock::{Clock, Timestamp, monotonic};

/// An instant on both clocks. Which of them tells the truth is known only later: one can be set,
/// the other stands still while a machine sleeps.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) steady: Instant,
    pub(super) wall: Timestamp,
}

impl Moment {
    pub(super) fn now(clock: &dyn Clock) -> Self {
        Self { steady: monotonic(), wall: Timestamp::from_system(clock.now()) }
    }
}

/// Until when the list can answer for sessions that it does not know.
///
/// It is as old as the *question* was to which its last answer came, by the clock by which that is
/// older. The wall clock is looked at by every request, and costs nothing, since a request has read
/// it already; the steady one by a thread, which ends the freshness when its time has come.
#[derive(Debug)]
pub(super) struct Freshness {
    logs: Mutex<Vec<Log>>,
    /// By the wall clock, in milliseconds. 0: not fresh.
    until: AtomicU64,
}

#[derive(Debug)]
struct Log {
    max_staleness: Duration,
    /// When it was asked for what was answered last.
    complete: Option<Moment>,
}

impl Freshness {
    pub(super) fn new(max_staleness: impl IntoIterator<Item = Duration>) -> Self {
        let log = |max_staleness| Log { max_staleness, complete: None };
        let logs = Mutex::new(max_staleness.into_iter().map(log).collect());
        Self { logs, until: AtomicU64::new(0) }
    }

    pub(super) fn is_fresh(&self, now: Timestamp) -> bool {
        now.as_millis() <= self.until.load(Ordering::Acquire)
    }

    /// The list holds all that this log held at `asked`.
    pub(super) fn renew(&self, log: usize, asked: Moment) {
        let mut logs = self.logs();
        if let Some(log) = logs.get_mut(log) {
            // Two threads ask: the later question counts.
            let later = log.complete.is_none_or(|complete| complete.steady <= asked.steady);
            log.complete = if later { Some(asked) } else { log.complete };
        }
        self.settle(&logs, monotonic());
    }

    /// Ends the freshness if its time has come by the steady clock, and says when to look again.
    pub(super) fn expire(&self) -> Option<Instant> {
        let logs = self.logs();
        let now = monotonic();
        self.settle(&logs, now);
        logs.iter().filter_map(Log::ends).min().filter(|end| *end > now)
    }

    /// How long ago the question was asked whose answer is the oldest; None before there is one.
    pub(super) fn age(&self, now: Moment) -> Option<Duration> {
        let age = |log: &Log| {
            let complete = log.complete?;
            let steady = now.steady.saturating_duration_since(complete.steady);
            Some(steady.max(now.wall.since(complete.wall)))
        };
        let ages: Option<Vec<Duration>> = self.logs().iter().map(age).collect();
        ages?.into_iter().max()
    }

    /// Whether this log was ever read whole.
    pub(super) fn was_complete(&self, log: usize) -> bool {
        self.logs().get(log).is_some_and(|log| log.complete.is_some())
    }

    /// Whether all logs were ever read whole.
    pub(super) fn were_complete(&self) -> bool {
        self.logs().iter().all(|log| log.complete.is_some())
    }

    fn settle(&self, logs: &[Log], now: Instant) {
        let until = |log: &Log| {
            let end = log.ends().filter(|end| now <= *end);
            let complete = log.complete.filter(|_| end.is_some());
            complete.map_or(0, |at| at.wall.plus(log.max_staleness).as_millis())
        };
        self.until.store(logs.iter().map(until).min().unwrap_or(0), Ordering::Release);
    }

    fn logs(&self) -> MutexGuard<'_, Vec<Log>> {
        self.logs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log {
    fn ends(&self) -> Option<Instant> {
        self.complete.and_then(|at| at.steady.checked_add(self.max_staleness))
    }
}

/// What time it is at the backend, from the narrowest answer to that of late.
#[derive(Debug, Default)]
pub(super) struct BackendClock {
    reading: Mutex<Option<Reading>>,
}

#[derive(Clone, Copy, Debug)]
struct Reading {
    /// The backend's time, and ours in the middle of the question.
    theirs: Timestamp,
    ours: Moment,
    /// How far it may be off, at most.
    off: Duration,
}

/// For so long a narrower answer is believed rather than a later one: clocks drift.
const BELIEVED: Duration = Duration::from_secs(900);

impl BackendClock {
    /// Notes an answer to a question that took from `asked` to `answered`.
    pub(super) fn note(&self, lineage: &Lineage, asked: Moment, answered: Moment) {
        let took = answered.steady.saturating_duration_since(asked.steady);
        let off = took.checked_div(2).unwrap_or_default();
        let steady = asked.steady.checked_add(off).unwrap_or(asked.steady);
        let ours = Moment { steady, wall: asked.wall.plus(off) };
        let new = Reading { theirs: lineage.now, ours, off };
        let mut reading = self.reading();
        let stays = reading.filter(|old| {
            let expected = old.at(ours);
            let apart = expected.since(new.theirs).max(new.theirs.since(expected));
            let agree = apart <= old.off.saturating_add(off).saturating_add(DRIFT);
            agree
                && old.agrees(ours)
                && old.off < off
                && ours.steady.saturating_duration_since(old.ours.steady) < BELIEVED
        });
        *reading = Some(stays.unwrap_or(new));
    }

    /// The latest that it may be there; None before the first answer. Where more time has passed by the
    /// wall clock than by the steady one, this machine may have slept: then the former is believed.
    pub(super) fn now(&self, now: Moment) -> Option<Timestamp> {
        let reading = (*self.reading())?;
        let latest = reading.at(now).plus(reading.off).plus(ROUNDING);
        Some(if reading.agrees(now) { latest } else { latest.max(now.wall) })
    }

    fn reading(&self) -> MutexGuard<'_, Option<Reading>> {
        self.reading.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What two readings may lie apart by rounding and drift, when no clock was set.
const DRIFT: Duration = Duration::from_millis(500);

/// Of three times that were cut to milliseconds.
const ROUNDING: Duration = Duration::from_millis(3);
/// By so much both clocks of a machine agree on how much time has passed.
const AGREED: Duration = Duration::from_secs(2);

impl Reading {
    fn at(&self, moment: Moment) -> Timestamp {
        self.theirs.plus(moment.steady.saturating_duration_since(self.ours.steady))
    }

    /// Whether both clocks say that the same time has passed since.
    fn agrees(&self, moment: Moment) -> bool {
        let steady = moment.steady.saturating_duration_since(self.ours.steady);
        let wall = moment.wall.since(self.ours.wall);
        steady.max(wall).saturating_sub(steady.min(wall)) <= AGREED
    }
}
