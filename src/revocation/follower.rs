//! The way from a log to the facts in memory: one thread for each log.
//!
//! Read, take in, and be as fresh as the question was. After any error the place in the log counts
//! for nothing: all is read again, and what the log lacks is given back. Facts are never taken back,
//! so that is always right.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::builder::WhenMissing;
use super::fact::{EVERY_REALM, Fact, LONGEST, Revocation};
use super::freshness::Moment;
use super::log::{Cursor, Lineage, Page, RevocationLog};
use super::news::ListNews;
use super::receipt::Outcome;
use super::replica::{HOME, Times};
use super::shared::{Shared, Source, Way};
use super::tables::Tables;
use super::writer::BATCH;
use crate::clock::{Timestamp, monotonic};
use crate::error::Error;
use crate::random;

/// How far a log was read.
#[derive(Clone, Debug)]
pub(super) struct Position {
    pub(super) cursor: Cursor,
    pub(super) lineage: [u8; 16],
    /// Whether the log is known to hold all there was when it was made.
    pub(super) whole: bool,
    /// Since when this log has been followed.
    pub(super) seen: Instant,
    /// When its server was started, if it says so.
    pub(super) started: Option<Timestamp>,
}

/// The thread. `first` is told how its first reading went, once the list can answer or cannot be
/// read.
pub(super) fn follow(shared: &Shared, log: usize, first: &Outcome) {
    let Some(source) = shared.source(log) else { return };
    let mut follower =
        Follower { shared, source, log, reconcile_at: monotonic(), left: None, seen: None };
    let mut pause = Pause::default();
    while !shared.is_closed() {
        let tails = follower.position().is_some();
        match guarded(|| follower.step()) {
            Ok(ready) => {
                if tails {
                    pause = Pause::default();
                }
                if ready {
                    first.tell(Ok(()));
                }
            }
            Err(error) => {
                *follower.position() = None;
                shared.failed(log, Way::Read, error.clone());
                first.tell(Err(error.at(&source.name)));
                thread::sleep(pause.next());
            }
        }
    }
}

struct Follower<'a> {
    shared: &'a Shared,
    source: &'a Source,
    log: usize,
    reconcile_at: Instant,
    /// How long a log that was made just now has to wait until it can be believed.
    left: Option<Duration>,
    /// Which log this is, and since when.
    seen: Option<([u8; 16], Instant)>,
}

impl Follower<'_> {
    /// Reads once. Whether the list is fresh now, as far as this log is concerned.
    fn step(&mut self) -> Result<bool, Error> {
        let position = self.position().clone();
        let ready = match position {
            Some(position) if monotonic() < self.reconcile_at => self.tail(position)?,
            _ => self.reconcile()?,
        };
        if self.log == HOME {
            self.shared.settle_lifetimes();
        }
        Ok(ready)
    }

    /// Reads what is new.
    fn tail(&mut self, mut position: Position) -> Result<bool, Error> {
        let due = self.reconcile_at.saturating_duration_since(monotonic());
        let wait = self.shared.settings.wait.min(self.left.unwrap_or(due)).max(SHORTEST_WAIT);
        let asked = self.shared.now();
        let page = self.read(Some(&position.cursor), wait)?;
        let ready = take_in(self.shared, self.log, &mut position, &page, asked, Reader::Follower)?;
        self.settle(&page.lineage);
        let took = monotonic().saturating_duration_since(asked.steady);
        if page.facts.is_empty() && !page.more && took < SHORTEST_WAIT {
            // A log that does not wait must not make this thread spin.
            thread::sleep(SHORTEST_WAIT);
        }
        if self.log == HOME && !position.whole && self.left.is_none() {
            // Nobody gave anything back: that is decided where all is compared.
            self.reconcile_at = monotonic();
        }
        let delay = page.written_at.map(|at| page.lineage.now.since(at));
        let added = page.facts.len();
        *self.position() = Some(position);
        if ready {
            let delay = delay.filter(|_| added > 0);
            let entries = self.shared.replica.entries();
            self.shared.tell(&ListNews::Fresh { entries, added, delay });
        }
        Ok(ready)
    }

    /// Reads all, keeps all, and gives back what the log lacks.
    fn reconcile(&mut self) -> Result<bool, Error> {
        let shared = self.shared;
        let replica = &shared.replica;
        let asked = shared.now();
        let known = shared.freshness.was_complete(self.log).then(|| replica.facts_of(self.log));
        let Read { theirs, lineage, cursor, whole, longest } = self.read_all(known.as_deref())?;
        let lacks = |fact: &Revocation| !theirs.covers(fact) && fact.until > lineage.now;
        // Only now, since facts may have come while it was read; also at the first reading, since a log
        // that was lost meanwhile may have confirmed some.
        let mut missing: Vec<Revocation> =
            replica.facts_to_keep(self.log).into_iter().filter(lacks).collect();
        if let Some(mut heard) = shared.heard(self.log) {
            heard.forget_own(|fact| theirs.covers(fact));
            // They will come back as they are given back, and are no news then.
            heard.add_own(missing.iter().copied());
        }
        if known.is_none() {
            replica.take_over(self.log, theirs);
        }
        if self.seen.is_none_or(|(id, _)| id != lineage.id) {
            self.seen = Some((lineage.id, asked.steady));
        }
        replica.raise_longest(longest);
        if self.log == HOME {
            shared.lifetimes.read_whole(longest);
            // Before anybody hears that the list is fresh, and seals.
            shared.settle_lifetimes();
        }
        let given_back = missing.len();
        let whole = whole || self.complete(&lineage, known.is_some(), &missing)?;
        // While it cannot be written, it must not pile up.
        let waiting = self.source.unsaved.facts();
        missing.retain(|fact| !waiting.covers(fact));
        self.source.unsaved.give_back(missing);
        self.settle(&lineage);
        let ready = whole && self.left.is_none();
        if ready {
            shared.succeeded(self.log, asked);
        }
        let seen = self.seen.map_or(asked.steady, |(_, since)| since);
        let Lineage { id, started, .. } = lineage;
        *self.position() = Some(Position { cursor, lineage: id, whole, seen, started });
        self.reconcile_at = later(jittered(shared.settings.reconcile_every));
        let (reconciles, back) = (&shared.counters.reconciles, &shared.counters.given_back);
        reconciles.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let count = u64::try_from(given_back).unwrap_or(u64::MAX);
        back.fetch_add(count, std::sync::atomic::Ordering::Relaxed);
        let entries = replica.entries();
        shared.tell(&ListNews::Reconciled { entries, given_back });
        if ready {
            shared.tell(&ListNews::Fresh { entries, added: 0, delay: None });
        }
        Ok(ready)
    }

    /// Reads the log from its beginning. What is new beside `known` is in force at once.
    fn read_all(&self, known: Option<&Tables>) -> Result<Read, Error> {
        let (mut theirs, mut whole) = (Tables::default(), HashSet::new());
        let mut longest = None;
        let mut unreadable = None;
        let mut cursor: Option<Cursor> = None;
        let mut first: Option<[u8; 16]> = None;
        loop {
            let page = self.read(cursor.as_ref(), Duration::ZERO)?;
            if *first.get_or_insert(page.lineage.id) != page.lineage.id {
                return Err(Error::backend("it was replaced while it was read"));
            }
            for fact in &page.facts {
                theirs.insert(fact, Timestamp::default());
                match fact.fact {
                    Fact::Longest { lifetime } => longest = longest.max(Some(lifetime)),
                    Fact::Whole { lineage } => whole.extend([lineage]),
                    Fact::Session { .. } | Fact::Issued { .. } => {}
                }
            }
            if let Some(known) = known {
                let news = page.facts.iter().filter(|fact| !known.covers(fact)).copied();
                let news: Vec<Revocation> = news.collect();
                let times = Times { now: page.lineage.now, since: self.wall(), known: None };
                self.shared.replica.take_in(self.log, &news, &times);
            }
            unreadable = unreadable.or(page.unreadable);
            if !page.more {
                let Page { lineage, cursor, .. } = page;
                if let (Some(error), None) = (&unreadable, known) {
                    // What could be read is in force, though the list is not fresh.
                    self.shared.replica.take_over(self.log, theirs);
                    return Err(error.clone());
                }
                let longest = longest.unwrap_or_default();
                let whole = whole.contains(&lineage.id);
                let read = Read { theirs, lineage, cursor, whole, longest };
                return unreadable.map_or(Ok(read), Err);
            }
            if cursor.as_ref() == Some(&page.cursor) {
                return Err(Error::backend("it says that there is more, and gives nothing"));
            }
            cursor = Some(page.cursor);
        }
    }

    /// Makes a log whole that nobody has made so yet, if it can be: by giving back all that is known
    /// here, or once it is clear that nobody knows anything.
    fn complete(
        &self,
        lineage: &Lineage,
        knows: bool,
        missing: &[Revocation],
    ) -> Result<bool, Error> {
        let (log, whole) = (&*self.source.log, Revocation::whole(lineage.id));
        if knows {
            missing.chunks(BATCH).try_for_each(|batch| log.append(batch))?;
            log.append(&[whole])?;
            return Ok(true);
        }
        // Of another region's log, its own instances decide.
        if self.log != HOME || !self.left(lineage).is_zero() {
            return Ok(false);
        }
        let decision = self.shared.settings.when_missing;
        match decision {
            WhenMissing::SignOutEveryone => {
                let before = lineage.now.plus(self.shared.settings.clock_skew);
                let fact = Fact::Issued { key: EVERY_REALM, before, except: None };
                let everyone = Revocation { fact, until: before.plus(LONGEST) };
                // One after the other: no log has to take two facts or none.
                if let Some(mut heard) = self.shared.heard(self.log) {
                    heard.add_own([everyone]);
                }
                log.append(&[everyone])?;
                log.append(&[whole])?;
                let times = Times { now: lineage.now, since: Timestamp::default(), known: None };
                self.shared.replica.take_in(self.log, &[everyone], &times);
            }
            WhenMissing::StartEmpty => log.append(&[whole])?,
            WhenMissing::Refuse => {
                return Err(Error::backend(
                    "it is new or was lost, and when_missing says to refuse: bring it back, or start \
                     once with when_missing = start-empty or sign-out-everyone",
                ));
            }
        }
        self.shared.tell(&ListNews::Missing { decision });
        Ok(true)
    }

    /// Notes how long a young log has to wait.
    fn settle(&mut self, lineage: &Lineage) {
        let left = self.left(lineage);
        self.left = (!left.is_zero()).then_some(left);
    }

    fn left(&self, lineage: &Lineage) -> Duration {
        left(self.shared, self.log, self.seen, lineage)
    }

    fn read(&self, after: Option<&Cursor>, wait: Duration) -> Result<Page, Error> {
        read(self.shared, self.log, after, wait)
    }

    fn wall(&self) -> Timestamp {
        self.shared.now().wall
    }

    fn position(&self) -> MutexGuard<'_, Option<Position>> {
        self.source.position.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All of a log.
struct Read {
    theirs: Tables,
    lineage: Lineage,
    cursor: Cursor,
    whole: bool,
    longest: Duration,
}

/// Servers say in whole seconds how long they have been up.
const RESTARTED: Duration = Duration::from_secs(3);
/// The shortest question that is asked, unless for what is there already.
const SHORTEST_WAIT: Duration = Duration::from_millis(10);
/// Reads a page, and the backend's clock with it.
pub(super) fn read(
    shared: &Shared,
    log: usize,
    after: Option<&Cursor>,
    wait: Duration,
) -> Result<Page, Error> {
    let Some(source) = shared.source(log) else { return Err(Error::backend("no such log")) };
    let asked = shared.now();
    let page = guarded(|| source.log.read(after, wait))?;
    if log == HOME {
        shared.backend_clock.note(&page.lineage, asked, shared.now());
    }
    Ok(page)
}

/// Who reads.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(super) enum Reader {
    Follower,
    /// Somebody who could not wait for the follower.
    Ahead,
}

/// Puts a page in force. Whether the list is as fresh as the question now.
pub(super) fn take_in(
    shared: &Shared,
    log: usize,
    position: &mut Position,
    page: &Page,
    asked: Moment,
    reader: Reader,
) -> Result<bool, Error> {
    if page.lineage.id != position.lineage {
        return Err(Error::backend("it was lost or replaced"));
    }
    if let (Some(before), Some(now)) = (position.started, page.lineage.started)
        && now.since(before) > RESTARTED
    {
        return Err(Error::backend("its server was restarted, perhaps from an older state"));
    }
    let since = shared.now().wall;
    if let Some(mut heard) = shared.heard(log) {
        if reader == Reader::Ahead {
            // The follower will read them, too, and tell of those that are not new.
            let known = shared.replica.facts_of(log);
            let times = Times { now: page.lineage.now, since, known: None };
            shared.replica.take_in(log, &page.facts, &times);
            let news = page.facts.iter().filter(|fact| !known.covers(fact));
            heard.add_own(news.copied());
        } else {
            let times = Times { now: page.lineage.now, since, known: Some(&heard) };
            shared.replica.take_in(log, &page.facts, &times);
            for fact in &page.facts {
                heard.add_read(fact);
            }
        }
    }
    for fact in &page.facts {
        match fact.fact {
            Fact::Longest { lifetime } => {
                shared.replica.raise_longest(lifetime);
                if log == HOME {
                    shared.lifetimes.read(lifetime);
                }
            }
            Fact::Whole { lineage } => position.whole |= lineage == position.lineage,
            Fact::Session { .. } | Fact::Issued { .. } => {}
        }
    }
    if let Some(error) = &page.unreadable {
        return Err(error.clone());
    }
    position.cursor = page.cursor.clone();
    let seen = Some((position.lineage, position.seen));
    let left = left(shared, log, seen, &page.lineage);
    let ready = !page.more && position.whole && left.is_zero();
    if ready {
        shared.succeeded(log, asked);
    }
    Ok(ready)
}

/// How long until a log can be believed: it has to be older than `settle`, or this instance has
/// followed it for so long, if its clock was set back. For an instance that knows nothing yet, its
/// server has to be up for as long, too: it may have started from an older state.
fn left(
    shared: &Shared,
    log: usize,
    seen: Option<([u8; 16], Instant)>,
    lineage: &Lineage,
) -> Duration {
    let own = shared.source(log).map(|source| source.log.settle()).unwrap_or_default();
    let settle = shared.settings.settle.unwrap_or(own);
    let mut age = lineage.age();
    if let Some(up) = lineage.up().filter(|_| !shared.freshness.was_complete(log)) {
        age = age.min(up);
    }
    if let Some((id, since)) = seen
        && id == lineage.id
    {
        age = age.max(monotonic().saturating_duration_since(since));
    }
    settle.saturating_sub(age)
}

/// Calls a log, which is the application's and may panic.
pub(super) fn guarded<R>(call: impl FnOnce() -> Result<R, Error>) -> Result<R, Error> {
    catch_unwind(AssertUnwindSafe(call))
        .unwrap_or_else(|_| Err(Error::backend("the revocation log panicked")))
}

/// How long to wait before the next try: 20 ms, and twice as long each time, up to a second.
#[derive(Default)]
pub(super) struct Pause {
    tries: u32,
}

impl Pause {
    pub(super) fn next(&mut self) -> Duration {
        let pause = Duration::from_millis(20 << self.tries.min(6)).min(Duration::from_secs(1));
        self.tries = self.tries.saturating_add(1);
        // A fleet shall not come back all at once.
        jittered(pause)
    }
}

/// A tenth more or less, by chance.
fn jittered(pause: Duration) -> Duration {
    let [chance] = random::bytes::<1>().unwrap_or([128]);
    let tenth = pause.checked_div(10).unwrap_or_default();
    let jitter = tenth.saturating_mul(u32::from(chance)).checked_div(128).unwrap_or_default();
    pause.saturating_sub(tenth).saturating_add(jitter)
}

fn later(by: Duration) -> Instant {
    let now = monotonic();
    now.checked_add(by).unwrap_or(now)
}
