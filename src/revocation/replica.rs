//! The facts in memory: what every request asks, without waiting for anybody.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;

use super::asked::{NewSession, Presented, Realm, Revoker, Seen, Verdict, Wall};
use super::fact::{EVERY_REALM, Fact, Revocation};
use super::order::{Heard, Writing};
use super::tables::Tables;
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind};

const DEFAULT_MAX_ENTRIES: usize = 1_000_000;
/// A request that began longer ago is none any more.
const FORGOTTEN: Duration = Duration::from_secs(86_400);
/// How many facts from a log are taken in at a time.
const PART: usize = 500;

/// All facts of a list.
pub(crate) struct Replica {
    /// One for each log that is followed, the home log first; exactly one for a list without logs.
    tables: Box<[ArcSwap<Tables>]>,
    /// Held by the one who changes tables, or must not miss a change.
    writing: Mutex<Writing>,
    /// Whether facts are forgotten by this machine's clock, not by that of their log.
    alone: bool,
    sequence: AtomicU64,
    longest_ms: AtomicU64,
    /// The latest `issued_at` that was given to a session.
    latest_issue_ms: AtomicU64,
    max_entries: AtomicUsize,
}

/// The log from which verbs' own facts are read back.
pub(super) const HOME: usize = 0;

impl Replica {
    /// For a list that follows so many logs.
    pub(crate) fn new(logs: usize) -> Self {
        Self {
            alone: logs == 0,
            tables: (0..logs.max(1)).map(|_| ArcSwap::default()).collect(),
            writing: Mutex::default(),
            sequence: AtomicU64::new(0),
            longest_ms: AtomicU64::new(0),
            latest_issue_ms: AtomicU64::new(0),
            max_entries: AtomicUsize::new(DEFAULT_MAX_ENTRIES),
        }
    }

    pub(crate) fn set_max_entries(&self, max_entries: usize) {
        self.max_entries.store(max_entries, Ordering::Relaxed);
    }

    pub(crate) fn max_entries(&self) -> usize {
        self.max_entries.load(Ordering::Relaxed)
    }

    pub(crate) fn entries(&self) -> usize {
        self.tables.iter().map(|tables| tables.load().entries()).sum()
    }

    pub(crate) fn sequence(&self) -> u64 {
        self.sequence.load(Ordering::Acquire)
    }

    pub(crate) fn raise_longest(&self, lifetime: Duration) {
        let millis = u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX);
        self.longest_ms.fetch_max(millis, Ordering::AcqRel);
    }

    pub(crate) fn longest(&self) -> Duration {
        Duration::from_millis(self.longest_ms.load(Ordering::Acquire))
    }

    /// Every fact is judged by itself: a session is dead if any of them hits it.
    pub(crate) fn check(&self, realm: &Realm, session: &Presented<'_>, now: Timestamp) -> Verdict {
        let mut verdicts =
            self.tables.iter().map(|tables| tables.load().judge(realm, session, now));
        verdicts.find(|verdict| *verdict != Verdict::Clear).unwrap_or(Verdict::Clear)
    }

    /// Gives a new session its `issued_at`, later than every fact it is to step over. Working out the
    /// keys of such facts costs a hash, so it is left out where there are none.
    ///
    /// Under the writers' lock, as [`cut`](Self::cut) is: either this sees the fact, or the fact
    /// means this session.
    pub(crate) fn issue(
        &self,
        realm: &Realm,
        new: &NewSession<'_>,
        seen: &Seen,
        wall: &Wall<'_>,
    ) -> Result<Timestamp, Error> {
        let writing = self.lock();
        let now = wall.now();
        let mut issued_at = now;
        if self.tables.iter().any(|tables| tables.load().has_cuts()) {
            let mut keys = vec![EVERY_REALM, realm.everyone, realm.subject(new.subject)];
            keys.extend(new.tags);
            if let Some(before) = self.latest_cut(&keys) {
                if writing.is_overtaken(&keys, seen, now.since(before) < FORGOTTEN) {
                    return Err(Error::new(ErrorKind::Conflict));
                }
                issued_at = issued_at.max(before.plus(Duration::from_millis(1)));
            }
        }
        // No token would open that is further ahead.
        if issued_at.since(now) > wall.slack {
            let advice = "a revocation lies in the future: set this server's clock right";
            return Err(Error::with_detail(ErrorKind::Backend, advice));
        }
        self.latest_issue_ms.fetch_max(issued_at.as_millis(), Ordering::AcqRel);
        Ok(issued_at)
    }

    /// Puts in force the facts that `facts` makes of a cut-off. The cut-off is `at`, or later where a
    /// session that stepped over earlier facts was issued ahead of the clock; but by no more than a
    /// token may be ahead, or nobody could sign in again once a clock was set back.
    pub(crate) fn cut(
        &self,
        facts: &dyn Fn(Timestamp) -> Vec<Revocation>,
        by: &Revoker<'_>,
        wall: &Wall<'_>,
        at: &dyn Fn(Timestamp) -> Timestamp,
    ) -> Result<Cut, Error> {
        let mut writing = self.lock();
        let now = wall.now();
        let at = at(now);
        let mut latest = Timestamp::from_millis(self.latest_issue_ms.load(Ordering::Acquire));
        // A session that signed in elsewhere has stepped over what is known here.
        let keys: Vec<[u8; 16]> = facts(at).iter().filter_map(key_of).collect();
        if let Some(before) = self.latest_cut(&keys).filter(|_| at > now) {
            latest = latest.max(before.plus(Duration::from_millis(1)));
        }
        let facts = facts(latest.min(at.max(now).plus(wall.slack)).max(at).max(by.at_least));
        let overtaken = by.seen.is_some_and(|seen| writing.is_overtaken(&keys, seen, true));
        // No answer is under way that would replace the cookie of a session ended by force.
        let arrived = Arrived {
            now: self.prunes_by(now),
            since: Timestamp::default(),
            told: Told::All,
            room: true,
        };
        let sequence = self.apply(&mut writing, HOME, &facts, &arrived)?;
        Ok(Cut { facts, sequence, overtaken })
    }

    /// Puts facts about sessions in force, all or none, and returns the sequence number they share.
    /// A generation that is not above those of before is a conflict.
    pub(crate) fn append(&self, facts: &[Revocation], now: Timestamp) -> Result<u64, Error> {
        let mut writing = self.lock();
        let tables = self.home();
        if facts.iter().any(|fact| tables.has_reached(fact)) {
            let detail = "the session was renewed or ended meanwhile";
            return Err(Error::with_detail(ErrorKind::Conflict, detail));
        }
        let now_here = self.prunes_by(now);
        let arrived = Arrived { now: now_here, since: now, told: Told::All, room: true };
        self.apply(&mut writing, HOME, facts, &arrived)
    }

    /// Takes in what came from a log. A list that is full takes it all the same: to leave it out would
    /// be to forget. `echo`: facts of this list's own, that no sign-in has to hear of twice.
    pub(super) fn take_in(&self, log: usize, facts: &[Revocation], times: &Times<'_>) {
        let Times { now, since, known } = *times;
        let told = known.map_or(Told::New, Told::AllBut);
        let arrived = Arrived { now: Some(now), since, told, room: false };
        // In parts, so that verbs and their memory wait for a part only. An empty one may prune, too.
        let mut rest = facts;
        loop {
            let (part, others) = rest.split_at(rest.len().min(PART));
            // Without a limit nothing is refused.
            let _ = self.apply(&mut self.lock(), log, part, &arrived);
            if others.is_empty() {
                return;
            }
            rest = others;
        }
    }

    /// Takes a whole log in at once, as the first reading gave it.
    pub(super) fn take_over(&self, log: usize, mut read: Tables) {
        let mut writing = self.lock();
        let Some(tables) = self.tables.get(log) else { return };
        for fact in tables.load().facts() {
            read.insert(&fact, Timestamp::default());
        }
        tables.store(Arc::new(read));
        let sequence = self.sequence().saturating_add(1);
        writing.forget(sequence);
        self.sequence.store(sequence, Ordering::Release);
    }

    /// The facts of one log as they are now.
    pub(super) fn facts_of(&self, log: usize) -> Arc<Tables> {
        self.tables.get(log).map(ArcSwap::load_full).unwrap_or_default()
    }

    /// The same, each for as long as it has to be kept by what is known now.
    pub(super) fn facts_to_keep(&self, log: usize) -> Vec<Revocation> {
        // Another region's own instances know how long sessions live there.
        let longest = if log == HOME { self.longest() } else { Duration::ZERO };
        self.facts_of(log).facts().map(|fact| fact.kept_for(longest)).collect()
    }

    fn prunes_by(&self, now: Timestamp) -> Option<Timestamp> {
        self.alone.then_some(now)
    }

    fn home(&self) -> Arc<Tables> {
        self.facts_of(HOME)
    }

    fn latest_cut(&self, keys: &[[u8; 16]]) -> Option<Timestamp> {
        let latest = |tables: &ArcSwap<Tables>| {
            let tables = tables.load();
            keys.iter().filter_map(|key| tables.latest_cut(key)).max()
        };
        self.tables.iter().filter_map(latest).max()
    }

    fn apply(
        &self,
        writing: &mut Writing,
        log: usize,
        facts: &[Revocation],
        arrived: &Arrived<'_>,
    ) -> Result<u64, Error> {
        let Some(slot) = self.tables.get(log) else { return Ok(self.sequence()) };
        let sequence = self.sequence().saturating_add(1);
        let before = slot.load_full();
        let horizon = arrived.now.and_then(|now| Some((writing.horizon(log, now)?, now)));
        let mut tables = match horizon {
            Some((horizon, now)) if before.can_be_pruned(horizon) => {
                // Kept even where the new facts are refused: the next pruning is an hour away.
                let pruned = before.pruned(horizon, self.longest(), now);
                slot.store(Arc::new(pruned.clone()));
                pruned
            }
            _ => (*before).clone(),
        };
        let mut told = Vec::new();
        let mut changed = false;
        for fact in facts.iter().filter(|fact| !arrived.told.is_echo(fact)) {
            let entries = tables.entries();
            let new = tables.insert(fact, arrived.since);
            changed |= new || arrived.since != Timestamp::default();
            if arrived.room && tables.entries() > entries {
                self.check_room(&tables, fact)?;
            }
            if new || !matches!(arrived.told, Told::New) {
                told.extend(key_of(fact));
            }
        }
        if changed {
            slot.store(Arc::new(tables));
        }
        writing.remember(sequence, told);
        self.sequence.store(sequence, Ordering::Release);
        Ok(sequence)
    }

    /// Single sessions leave a tenth of the list to facts that end many.
    fn check_room(&self, tables: &Tables, fact: &Revocation) -> Result<(), Error> {
        let max = self.max_entries();
        let limit = match fact.fact {
            Fact::Session { .. } => max.saturating_sub(max / 10),
            Fact::Issued { .. } | Fact::Longest { .. } | Fact::Whole { .. } => max,
        };
        let others = self.tables.iter().skip(1).map(|tables| tables.load().entries());
        if others.sum::<usize>().saturating_add(tables.entries()) <= limit {
            return Ok(());
        }
        Err(Error::with_detail(ErrorKind::Full, format!("{limit} entries; raise max_entries")))
    }

    /// The writers' lock. The tables are swapped whole, so a panic cannot have left them half-written.
    fn lock(&self) -> MutexGuard<'_, Writing> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a fact about more than one session stands under.
fn key_of(fact: &Revocation) -> Option<[u8; 16]> {
    match fact.fact {
        Fact::Issued { key, .. } => Some(key),
        Fact::Session { .. } | Fact::Longest { .. } | Fact::Whole { .. } => None,
    }
}

/// What [`Replica::cut`] put in force.
pub(crate) struct Cut {
    pub(crate) facts: Vec<Revocation>,
    pub(crate) sequence: u64,
    /// Whether somebody else's fact under the same key has overtaken the request.
    pub(crate) overtaken: bool,
}

/// When facts came from a log, and which of them were this list's own.
pub(super) struct Times<'a> {
    /// By the clock that decides what can be forgotten.
    pub(super) now: Timestamp,
    /// By the clock of requests: since then they have been in force here.
    pub(super) since: Timestamp,
    /// None where the log is read anew: then only what is new here is news.
    pub(super) known: Option<&'a Heard>,
}

struct Arrived<'a> {
    /// By the clock that decides what can be forgotten; None where only a log knows what time it is.
    now: Option<Timestamp>,
    since: Timestamp,
    told: Told<'a>,
    room: bool,
}

/// Which facts a sign-in that is under way has to hear of.
enum Told<'a> {
    /// Also what says nothing new of sessions there are: it was asked for just now.
    All,
    AllBut(&'a Heard),
    New,
}

impl Told<'_> {
    fn is_echo(&self, fact: &Revocation) -> bool {
        matches!(self, Self::AllBut(known) if known.contains(fact))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::policy::Times;
    use crate::revocation::fact::{ALL, Spared};
    use crate::revocation::order::PRUNE_MARGIN;
    use crate::revocation::table::MAX_DELTA;
    use crate::token::SessionId;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(seconds.saturating_mul(1000))
    }

    fn id(n: u8) -> SessionId {
        SessionId::from_bytes([n; 16])
    }

    fn session(n: u8, issued_at: u64, generation: u16) -> Presented<'static> {
        let times = Times { issued_at: at(issued_at), refreshed: 0, lifetime: 1, idle: 0 };
        Presented { id: id(n), times, generation, subject: "alice", tags: &[] }
    }

    /// Facts about four sessions, of which number `n` was issued at second `10 * n`.
    fn fact() -> impl Strategy<Value = Revocation> {
        let realm = Realm::new("shop");
        let keys = [realm.everyone, realm.subject("alice"), realm.subject("bob")];
        let spared = (1_u8..5, any::<bool>()).prop_map(|(n, known)| Spared {
            id: id(n),
            issued_at: known.then(|| at(10 * u64::from(n))),
        });
        let issued = (0_usize..3, 0_u64..50, prop::option::of(spared)).prop_map(
            move |(key, before, except)| Fact::Issued {
                key: keys[key],
                before: at(before),
                except,
            },
        );
        let ended = (1_u8..5, prop_oneof![1_u32..4, Just(ALL)])
            .prop_map(|(n, below)| Fact::Session { id: id(n), below });
        (prop_oneof![issued, ended], 100_u64..110)
            .prop_map(|(fact, until)| Revocation { fact, until: at(until) })
    }

    /// What a list says that keeps every fact and asks one after the other.
    fn naive(facts: &[Revocation], session: &Presented<'_>) -> bool {
        let realm = Realm::new("shop");
        facts.iter().any(|fact| match fact.fact {
            Fact::Session { id, below } => {
                id == session.id && u32::from(session.generation) < below
            }
            Fact::Issued { key, before, except } => {
                (key == realm.everyone || key == realm.subject(session.subject))
                    && session.times.issued_at <= before
                    && except.is_none_or(|spared| spared.id != session.id)
            }
            Fact::Longest { .. } | Fact::Whole { .. } => false,
        })
    }

    proptest! {
        #[test]
        fn a_replica_says_what_its_facts_say_one_by_one(
            facts in prop::collection::vec(fact(), 0..30),
            fold in any::<bool>(),
        ) {
            let replica = Replica::new(0);
            let mut kept = Vec::new();
            for fact in facts {
                match replica.append(&[fact], at(50)) {
                    Ok(_) => kept.push(fact),
                    Err(error) => prop_assert_eq!(error.kind(), ErrorKind::Conflict),
                }
            }
            if fold {
                let others = (0..MAX_DELTA).map(|n| {
                    let mut bytes = [0xff; 16];
                    bytes[..8].copy_from_slice(&n.to_le_bytes());
                    Revocation::session(SessionId::from_bytes(bytes), at(100))
                });
                replica.append(&others.collect::<Vec<_>>(), at(50)).unwrap();
            }

            for (n, generation) in (1..5).flat_map(|n| (0..5).map(move |g| (n, g))) {
                let session = session(n, 10 * u64::from(n), generation);
                let verdict = replica.check(&Realm::new("shop"), &session, at(50));
                prop_assert_eq!(verdict != Verdict::Clear, naive(&kept, &session));
            }
            let stranger = session(9, 0, 0);
            let verdict = replica.check(&Realm::new("forum"), &stranger, at(50));
            prop_assert_eq!(verdict, Verdict::Clear);
        }
    }

    #[test]
    fn pruning_forgets_what_was_over_an_hour_ago_and_nothing_else() {
        let hour = PRUNE_MARGIN.as_secs();
        let replica = Replica::new(0);
        let facts = [(1, 100), (2, 200)].map(|(n, until)| Revocation::session(id(n), at(until)));
        replica.append(&facts, at(50)).unwrap();
        let entries = |now: u64| {
            replica.append(&[], at(now)).unwrap();
            replica.entries()
        };

        assert_eq!(entries(101 + hour), 2, "nothing was over at 50");
        assert_eq!(entries(100 + 2 * hour), 2, "that was less than an hour ago");
        assert_eq!(entries(101 + 2 * hour), 0, "both were over at an hour and 101");
    }

    #[test]
    fn a_clock_that_jumps_ahead_and_back_forgets_nothing() {
        let day = 24 * PRUNE_MARGIN.as_secs();
        let replica = Replica::new(0);
        replica.append(&[Revocation::session(id(1), at(100))], at(50)).unwrap();

        for now in [51 + day, 52 + day, 53, 54 + 2 * day, 55] {
            replica.append(&[], at(now)).unwrap();
            assert_eq!(replica.entries(), 1);
        }
    }

    #[test]
    fn a_generation_is_reached_once() {
        let replica = Replica::new(0);
        let below = |generation| Revocation::generations_below(id(1), generation, at(100));

        replica.append(&[below(2)], at(50)).unwrap();

        for generation in [1, 2] {
            let error = replica.append(&[below(generation)], at(50)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Conflict);
        }
        replica.append(&[below(3)], at(50)).unwrap();
    }

    #[test]
    fn one_subject_that_signs_in_and_ends_the_others_takes_one_entry() {
        let replica = Replica::new(0);
        let key = Realm::new("shop").subject("alice");
        for n in 1..100 {
            let spared = Spared { id: id(n), issued_at: Some(at(u64::from(n))) };
            let before = at(u64::from(n));
            let fact = Fact::Issued { key, before, except: Some(spared) };
            replica.append(&[Revocation { fact, until: at(1_000 + u64::from(n)) }], at(0)).unwrap();
        }

        // Each spares a session that the one before it, a second older, did not speak of.
        assert_eq!(replica.entries(), 1);
    }
}
