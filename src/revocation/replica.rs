//! The facts in memory: what every request asks, without waiting for anybody.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;

use super::facts::Tables;
use super::{Fact, Presented, Realm, Revocation, Revoker, Seen, Verdict, Wall};
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind};

const DEFAULT_MAX_ENTRIES: usize = 1_000_000;
/// Facts stay at least this much longer than they must: a clock that was set wrong for less than
/// this and then right again has forgotten nothing.
const PRUNE_MARGIN: Duration = Duration::from_secs(3_600);

pub(crate) struct Replica {
    tables: ArcSwap<Tables>,
    /// Held by the one who changes the tables, or must not miss a change.
    writing: Mutex<Pruning>,
    sequence: AtomicU64,
    longest_ms: AtomicU64,
    /// The latest `issued_at` that was given to a session.
    latest_issue_ms: AtomicU64,
    max_entries: AtomicUsize,
}

impl Replica {
    pub(crate) fn new() -> Self {
        Self {
            tables: ArcSwap::default(),
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

    pub(crate) fn entries(&self) -> usize {
        self.tables.load().entries()
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
        let tables = self.tables.load();
        if let Some(verdict) =
            tables.sessions.get(session.id.as_bytes()).and_then(|ended| ended.verdict(session, now))
        {
            return verdict;
        }
        if tables.cuts.is_empty() {
            return Verdict::Clear;
        }
        let hit = |key: &[u8; 16]| {
            tables.cuts.get(key).is_some_and(|cuts| cuts.iter().any(|cut| cut.hits(session)))
        };
        // The subject is hashed last: it is the only part that costs anything.
        if hit(&realm.everyone)
            || session.tags.iter().any(hit)
            || (!session.subject.is_empty() && hit(&realm.subject(session.subject)))
        {
            return Verdict::Revoked;
        }
        Verdict::Clear
    }

    /// Gives a new session its `issued_at`, later than every fact it is to step over. `keys` are
    /// those of such facts; working them out costs a hash, so it is left out where there are none.
    ///
    /// Under the writers' lock, as [`cut`](Self::cut) is: either this sees the fact, or the fact
    /// means this session.
    pub(crate) fn issue(
        &self,
        keys: &dyn Fn() -> Vec<[u8; 16]>,
        seen: &Seen,
        wall: &Wall<'_>,
    ) -> Result<Timestamp, Error> {
        let _writing = self.lock();
        let tables = self.tables.load();
        let now = wall.now();
        let mut issued_at = now;
        let keys = if tables.cuts.is_empty() { Vec::new() } else { keys() };
        for cut in keys.iter().filter_map(|key| tables.cuts.get(key)).flat_map(|cuts| cuts.iter()) {
            if seen.is_overtaken_by(cut.sequence) {
                return Err(Error::new(ErrorKind::Conflict));
            }
            issued_at = issued_at.max(cut.before.plus(Duration::from_millis(1)));
        }
        // No token would open that is further ahead.
        if issued_at.since(now) > wall.slack {
            let advice = "a revocation lies in the future: set this server's clock right";
            return Err(Error::with_detail(ErrorKind::Backend, advice));
        }
        self.latest_issue_ms.fetch_max(issued_at.as_millis(), Ordering::AcqRel);
        Ok(issued_at)
    }

    /// Puts in force the fact that `fact` makes of a cut-off. The cut-off is now, or later where a
    /// session that stepped over earlier facts was issued ahead of the clock; but by no more than a
    /// token may be ahead, or nobody could sign in again once a clock was set back.
    ///
    /// Returns its sequence number, and whether somebody else's fact under the same key has
    /// overtaken the request.
    pub(crate) fn cut(
        &self,
        fact: &dyn Fn(Timestamp) -> Revocation,
        by: &Revoker<'_>,
        wall: &Wall<'_>,
    ) -> Result<(u64, bool), Error> {
        let mut writing = self.lock();
        let now = wall.now();
        let latest = Timestamp::from_millis(self.latest_issue_ms.load(Ordering::Acquire));
        let fact = fact(latest.min(now.plus(wall.slack)).max(now).max(by.at_least));
        let overtaken = by.seen.is_some_and(|seen| match fact.fact {
            Fact::Issued { key, .. } => {
                let tables = self.tables.load();
                let cuts = tables.cuts.get(&key);
                cuts.is_some_and(|cuts| cuts.iter().any(|cut| seen.is_overtaken_by(cut.sequence)))
            }
            Fact::Session { .. } => false,
        });
        // No answer is under way that would replace the cookie of a session ended by force.
        Ok((self.apply(&mut writing, &[fact], now, Timestamp::default())?, overtaken))
    }

    /// Puts facts in force, all or none, and returns the sequence number they share. A generation
    /// that is not above those of before is a conflict.
    pub(crate) fn append(&self, facts: &[Revocation], now: Timestamp) -> Result<u64, Error> {
        let mut writing = self.lock();
        let tables = self.tables.load();
        if facts.iter().any(|fact| tables.has_reached(fact)) {
            let detail = "the session was renewed or ended meanwhile";
            return Err(Error::with_detail(ErrorKind::Conflict, detail));
        }
        self.apply(&mut writing, facts, now, now)
    }

    fn apply(
        &self,
        pruning: &mut Pruning,
        facts: &[Revocation],
        now: Timestamp,
        since: Timestamp,
    ) -> Result<u64, Error> {
        let sequence = self.sequence().saturating_add(1);
        let before = self.tables.load_full();
        let mut tables = match pruning.horizon(now) {
            Some(horizon) if before.first_until.is_some_and(|first| first < horizon) => {
                // Kept even where the new facts are refused: the next pruning is an hour away.
                let pruned = before.pruned(horizon);
                self.tables.store(Arc::new(pruned.clone()));
                pruned
            }
            _ => (*before).clone(),
        };
        for fact in facts {
            let entries = tables.entries();
            tables.insert(fact, sequence, since);
            if tables.entries() > entries {
                self.check_room(&tables, fact)?;
            }
        }
        tables.sessions.fold_if_large();
        tables.cuts.fold_if_large();
        self.tables.store(Arc::new(tables));
        self.sequence.store(sequence, Ordering::Release);
        Ok(sequence)
    }

    /// Single sessions leave a tenth of the list to facts that end many.
    fn check_room(&self, tables: &Tables, fact: &Revocation) -> Result<(), Error> {
        let max = self.max_entries.load(Ordering::Relaxed);
        let limit = match fact.fact {
            Fact::Session { .. } => max.saturating_sub(max / 10),
            Fact::Issued { .. } => max,
        };
        if tables.entries() <= limit {
            return Ok(());
        }
        Err(Error::with_detail(ErrorKind::Full, format!("{limit} entries; raise max_entries")))
    }

    /// The writers' lock. The tables are swapped whole, so a panic cannot have left them half-written.
    fn lock(&self) -> MutexGuard<'_, Pruning> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Decides what may be forgotten: what was over an hour ago already, by a clock that did not go
/// back since. That also makes it rare, since pruning looks at every entry.
#[derive(Default)]
struct Pruning {
    seen: Timestamp,
}

impl Pruning {
    /// Facts that were over before this instant can go.
    fn horizon(&mut self, now: Timestamp) -> Option<Timestamp> {
        let went_back = now < self.seen;
        if !went_back && now.since(self.seen) < PRUNE_MARGIN {
            return None;
        }
        let horizon = std::mem::replace(&mut self.seen, now);
        (!went_back).then_some(horizon)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::policy::Times;
    use crate::revocation::Spared;
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
        let ended = (1_u8..5, prop_oneof![1_u32..4, Just(super::super::ALL)])
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
        })
    }

    proptest! {
        #[test]
        fn a_replica_says_what_its_facts_say_one_by_one(
            facts in prop::collection::vec(fact(), 0..30),
            fold in any::<bool>(),
        ) {
            let replica = Replica::new();
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
        let replica = Replica::new();
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
        let replica = Replica::new();
        replica.append(&[Revocation::session(id(1), at(100))], at(50)).unwrap();

        for now in [51 + day, 52 + day, 53, 54 + 2 * day, 55] {
            replica.append(&[], at(now)).unwrap();
            assert_eq!(replica.entries(), 1);
        }
    }

    #[test]
    fn a_generation_is_reached_once() {
        let replica = Replica::new();
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
        let replica = Replica::new();
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
