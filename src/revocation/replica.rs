//! The facts in memory: what every request asks, without waiting for anybody.
//!
//! Readers load one pointer and look at two tables: a large `base`, and a small `delta` of what
//! came since. A writer copies only the delta; now and then it folds the delta into a new base,
//! leaving out what has ended.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;

use super::{Fact, Presented, Realm, Revocation, Spared, Verdict};
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind};

const DEFAULT_MAX_ENTRIES: usize = 1_000_000;
/// A delta of this size is folded into the base.
const MAX_DELTA: usize = 1024;
/// Facts stay this much longer than they must, so that a clock that was set wrong for a while and
/// then right again has forgotten nothing.
const PRUNE_MARGIN: Duration = Duration::from_secs(3_600);

pub(crate) struct Replica {
    tables: ArcSwap<Tables>,
    /// Held by the one who changes the tables.
    writing: Mutex<()>,
    sequence: AtomicU64,
    longest_ms: AtomicU64,
    /// The latest `issued_at` that was given to a session.
    latest_issue_ms: AtomicU64,
    max_entries: AtomicUsize,
}

#[derive(Clone, Default)]
struct Tables {
    sessions: Layered<Ended>,
    cuts: Layered<Arc<[Cut]>>,
    /// The earliest `until` in the tables: nothing can be pruned before.
    first_until: Option<Timestamp>,
}

/// One session, its generations below `below`.
#[derive(Clone, Copy)]
struct Ended {
    below: u32,
    until: Timestamp,
}

/// Sessions issued at or before an instant.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut {
    pub(crate) before: Timestamp,
    except: Option<Spared>,
    until: Timestamp,
    pub(crate) sequence: u64,
}

impl Cut {
    fn hits(&self, session: &Presented<'_>) -> bool {
        session.times.issued_at <= self.before
            && self.except.is_none_or(|spared| spared.id != session.id)
    }

    /// Whether `other` adds nothing to this fact: it speaks of no other sessions, and not of the
    /// one that this fact spares. Without the latter, whoever signs in and ends the other sessions
    /// over and over would fill the list.
    fn covers(&self, other: &Self) -> bool {
        let spares_more = self.except.is_some_and(|spared| {
            other.except.is_none_or(|others| others.id != spared.id)
                && spared.issued_at.is_none_or(|issued_at| issued_at <= other.before)
        });
        self.before >= other.before && self.until >= other.until && !spares_more
    }
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

    pub(crate) fn note_issue(&self, at: Timestamp) {
        self.latest_issue_ms.fetch_max(at.as_millis(), Ordering::AcqRel);
    }

    pub(crate) fn latest_issue(&self) -> Timestamp {
        Timestamp::from_millis(self.latest_issue_ms.load(Ordering::Acquire))
    }

    /// Every fact is judged by itself: a session is dead if any of them hits it.
    pub(crate) fn check(&self, realm: &Realm, session: &Presented<'_>) -> Verdict {
        let tables = self.tables.load();
        if let Some(ended) = tables.sessions.get(session.id.as_bytes()) {
            match u32::from(session.generation) < ended.below {
                true if ended.below == super::ALL => return Verdict::Revoked,
                true => return Verdict::Outdated,
                false => {}
            }
        }
        if tables.cuts.is_empty() {
            return Verdict::Clear;
        }
        // The subject is hashed last: it is the only part that costs anything.
        let hit = |key: &[u8; 16]| {
            tables.cuts.get(key).is_some_and(|cuts| cuts.iter().any(|cut| cut.hits(session)))
        };
        if hit(&realm.everyone)
            || session.tags.iter().any(hit)
            || (!session.subject.is_empty() && hit(&realm.subject(session.subject)))
        {
            return Verdict::Revoked;
        }
        Verdict::Clear
    }

    /// Whether there is any fact about a subject, tag or realm.
    pub(crate) fn has_cuts(&self) -> bool {
        !self.tables.load().cuts.is_empty()
    }

    /// The facts about a subject, tag or realm.
    pub(crate) fn cuts(&self, key: &[u8; 16]) -> Vec<Cut> {
        self.tables.load().cuts.get(key).map(|cuts| cuts.to_vec()).unwrap_or_default()
    }

    /// Puts facts in force, all or none, and returns the sequence number they share.
    pub(crate) fn apply(&self, facts: &[Revocation], now: Timestamp) -> Result<u64, Error> {
        // The tables are swapped whole, so a panic elsewhere cannot have left them half-written.
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let sequence = self.sequence().saturating_add(1);
        let before = self.tables.load_full();
        let mut tables = if before.prunable(now) { before.pruned(now) } else { (*before).clone() };
        for fact in facts {
            let entries = tables.entries();
            tables.insert(fact, sequence);
            if tables.entries() > entries {
                self.check_room(&tables, fact)?;
            }
        }
        tables.fold_if_large();
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
}

impl Tables {
    fn entries(&self) -> usize {
        self.sessions.len.saturating_add(self.cuts.len)
    }

    fn insert(&mut self, fact: &Revocation, sequence: u64) {
        let until = fact.until;
        match fact.fact {
            Fact::Session { below: 0, .. } => return,
            Fact::Session { id, below } => {
                let old = self.sessions.get(id.as_bytes()).copied();
                let ended = old.map_or(Ended { below, until }, |old| Ended {
                    below: old.below.max(below),
                    until: old.until.max(until),
                });
                self.sessions.put(*id.as_bytes(), ended, usize::from(old.is_none()), 0);
            }
            Fact::Issued { key, before, except } => {
                let cut = Cut { before, except, until, sequence };
                self.insert_cut(key, cut);
            }
        }
        self.first_until = Some(self.first_until.map_or(until, |first| first.min(until)));
    }

    fn insert_cut(&mut self, key: [u8; 16], cut: Cut) {
        let old = self.cuts.get(&key).cloned().unwrap_or_default();
        if old.iter().any(|old| old.covers(&cut)) {
            return;
        }
        let mut cuts: Vec<Cut> = old.iter().copied().filter(|old| !cut.covers(old)).collect();
        cuts.push(cut);
        self.cuts.put(key, cuts.as_slice().into(), cuts.len(), old.len());
    }

    fn prunable(&self, now: Timestamp) -> bool {
        self.first_until.is_some_and(|first| over(first, now))
    }

    /// The same facts without those that ended.
    fn pruned(&self, now: Timestamp) -> Self {
        let mut kept = Self::default();
        let mut first = None::<Timestamp>;
        let mut live = |until: Timestamp| {
            let keep = !over(until, now);
            if keep {
                first = Some(first.map_or(until, |first| first.min(until)));
            }
            keep
        };
        let sessions: Ids<Ended> = self
            .sessions
            .iter()
            .filter(|(_, ended)| live(ended.until))
            .map(|(k, v)| (*k, *v))
            .collect();
        let mut count = 0_usize;
        let cuts: Ids<Arc<[Cut]>> = self
            .cuts
            .iter()
            .filter_map(|(key, cuts)| {
                let cuts: Arc<[Cut]> = cuts.iter().copied().filter(|cut| live(cut.until)).collect();
                count = count.saturating_add(cuts.len());
                (!cuts.is_empty()).then_some((*key, cuts))
            })
            .collect();
        kept.sessions = Layered::from_base(sessions.len(), sessions);
        kept.cuts = Layered::from_base(count, cuts);
        kept.first_until = first;
        kept
    }

    fn fold_if_large(&mut self) {
        self.sessions.fold_if_large();
        self.cuts.fold_if_large();
    }
}

/// Whether a fact that can be forgotten at `until` may be forgotten at `now`.
fn over(until: Timestamp, now: Timestamp) -> bool {
    until.plus(PRUNE_MARGIN) < now
}

type Ids<V> = HashMap<[u8; 16], V, BuildHasherDefault<IdHasher>>;

/// A table in two layers; what stands in `delta` counts.
#[derive(Clone)]
struct Layered<V> {
    base: Arc<Ids<V>>,
    delta: Arc<Ids<V>>,
    /// Facts in both, each counted once.
    len: usize,
}

impl<V> Default for Layered<V> {
    fn default() -> Self {
        Self { base: Arc::default(), delta: Arc::default(), len: 0 }
    }
}

impl<V: Clone> Layered<V> {
    fn from_base(len: usize, base: Ids<V>) -> Self {
        Self { base: Arc::new(base), delta: Arc::default(), len }
    }

    const fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn get(&self, key: &[u8; 16]) -> Option<&V> {
        if self.is_empty() {
            return None;
        }
        self.delta.get(key).or_else(|| self.base.get(key))
    }

    fn put(&mut self, key: [u8; 16], value: V, adds: usize, removes: usize) {
        Arc::make_mut(&mut self.delta).insert(key, value);
        self.len = self.len.saturating_add(adds).saturating_sub(removes);
    }

    fn iter(&self) -> impl Iterator<Item = (&[u8; 16], &V)> {
        let older = self.base.iter().filter(|(key, _)| !self.delta.contains_key(*key));
        self.delta.iter().chain(older)
    }

    fn fold_if_large(&mut self) {
        if self.delta.len() < MAX_DELTA {
            return;
        }
        let base = Arc::make_mut(&mut self.base);
        base.extend(self.delta.iter().map(|(key, value)| (*key, value.clone())));
        self.delta = Arc::default();
    }
}

/// Keys are random or already hashed, and are looked up only for authentic tokens, so nobody can
/// aim collisions at a table: eight of their bytes are the hash.
#[derive(Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk() {
            self.0 = u64::from_le_bytes(*first);
        }
    }

    // The length that an array's `Hash` writes first says nothing.
    fn write_usize(&mut self, _: usize) {}
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::policy::Times;
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
            for fact in &facts {
                replica.apply(&[*fact], at(50)).unwrap();
            }
            if fold {
                let others = (0..MAX_DELTA).map(|n| {
                    let mut bytes = [0xff; 16];
                    bytes[..8].copy_from_slice(&n.to_le_bytes());
                    Revocation::session(SessionId::from_bytes(bytes), at(100))
                });
                replica.apply(&others.collect::<Vec<_>>(), at(50)).unwrap();
            }

            for (n, generation) in (1..5).flat_map(|n| (0..5).map(move |g| (n, g))) {
                let session = session(n, 10 * u64::from(n), generation);
                let verdict = replica.check(&Realm::new("shop"), &session);
                prop_assert_eq!(verdict != Verdict::Clear, naive(&facts, &session));
            }
            prop_assert_eq!(replica.check(&Realm::new("forum"), &session(9, 0, 0)), Verdict::Clear);
        }
    }

    #[test]
    fn pruning_forgets_what_ended_and_nothing_else() {
        let replica = Replica::new();
        let facts = [(1, 100), (2, 200)].map(|(n, until)| Revocation::session(id(n), at(until)));
        replica.apply(&facts, at(50)).unwrap();
        let prune = |now: u64| {
            replica.apply(&[], at(now)).unwrap();
            replica.entries()
        };
        let margin = PRUNE_MARGIN.as_secs();

        assert_eq!(prune(100 + margin), 2);
        assert_eq!(prune(101 + margin), 1);
        assert_eq!(replica.check(&Realm::new("shop"), &session(2, 0, 0)), Verdict::Revoked);
        assert_eq!(prune(201 + margin), 0);
    }

    #[test]
    fn one_subject_that_signs_in_and_ends_the_others_takes_one_entry() {
        let replica = Replica::new();
        let key = Realm::new("shop").subject("alice");
        for n in 1..100 {
            let spared = Spared { id: id(n), issued_at: Some(at(u64::from(n))) };
            let before = at(u64::from(n));
            let fact = Fact::Issued { key, before, except: Some(spared) };
            replica.apply(&[Revocation { fact, until: at(1_000 + u64::from(n)) }], at(0)).unwrap();
        }

        // Each spares a session that the one before it, a second older, did not speak of.
        assert_eq!(replica.entries(), 1);
    }
}
