//! The facts in memory: what they say of a session, and which of them say nothing new.
//!
//! Values are packed, since there may be a million of them: instants that only decide when a fact
//! is forgotten are kept in seconds.

use std::sync::Arc;
use std::time::Duration;

use super::asked::{Presented, Realm, Verdict};
use super::fact::{ALL, EVERY_REALM, Fact, Revocation, Spared};
use super::table::Table;
use crate::clock::Timestamp;

/// How long the answer that ended a session may be on its way to the browser.
const JUST_ENDED: u16 = 60;

#[derive(Clone, Default)]
pub(super) struct Tables {
    sessions: Table<Ended>,
    /// Sessions issued at or before an instant, by subject, tag or realm.
    cuts: Table<Cut>,
    /// The same but for one session each.
    sparing: Table<Arc<[Sparing]>>,
    /// The earliest `until` in the tables: nothing can be pruned before.
    first_until: Option<Until>,
    /// The latest instant up to which sessions of any subject or tag are ended.
    latest_cut: Option<Timestamp>,
    /// The same for everyone in every realm: the one fact that most lists hold.
    every_realm: Option<Timestamp>,
}

/// One session, its generations below `below`.
#[derive(Clone, Copy)]
struct Ended {
    until: Until,
    /// 0 is all.
    below: u16,
    since: Since,
}

/// Sessions issued at or before an instant.
///
/// That instant in 44 bits, which last until 2527, and in 20 how long after it the fact can be
/// forgotten, in steps of ten minutes: apart, they would take half as much again.
#[derive(Clone, Copy)]
struct Cut(u64);

/// Sessions issued at or before an instant, but for one.
#[derive(Clone, Copy)]
struct Sparing {
    before: Timestamp,
    spared: Spared,
    until: Until,
}

impl Ended {
    fn verdict(self, session: &Presented<'_>, now: Timestamp) -> Option<Verdict> {
        if self.below != 0 && session.generation >= self.below {
            return None;
        }
        let lately = self.since.is_lately(now);
        Some(match self.below {
            0 if lately => Verdict::JustEnded,
            0 => Verdict::Revoked,
            _ => Verdict::Outdated { lately },
        })
    }

    /// Whether it ends these generations, too.
    const fn reaches(self, below: u16) -> bool {
        self.below == 0 || (below != 0 && self.below >= below)
    }
}

impl Cut {
    fn new(before: Timestamp, until: Until) -> Self {
        let steps = until.to_timestamp().since(before).as_secs().div_ceil(STEP);
        Self((before.as_millis().min(LAST) << 20) | steps.min(NEVER))
    }

    const fn before(self) -> Timestamp {
        Timestamp::from_millis(self.0 >> 20)
    }

    fn until(self) -> Until {
        match self.0 & NEVER {
            NEVER => Until(u32::MAX),
            steps => Until::of(self.before().plus(Duration::from_secs(steps.saturating_mul(STEP)))),
        }
    }

    fn covers(self, before: Timestamp, until: Until) -> bool {
        self.before() >= before && self.until() >= until
    }
}

/// Seconds.
const STEP: u64 = 600;
const NEVER: u64 = (1 << 20) - 1;
/// The last instant that a cut-off can have.
const LAST: u64 = (1 << 44) - 1;

impl Sparing {
    fn hits(&self, session: &Presented<'_>) -> bool {
        session.times.issued_at <= self.before && self.spared.id != session.id
    }

    /// Whether `other` adds nothing to this fact: it speaks of no other sessions, and not of the
    /// one that this fact spares. Without the latter, whoever signs in and ends the other sessions
    /// over and over would fill the list.
    fn covers(&self, other: &Self) -> bool {
        let Spared { id, issued_at } = self.spared;
        let spares_more =
            id != other.spared.id && issued_at.is_none_or(|issued_at| issued_at <= other.before);
        self.before >= other.before && self.until >= other.until && !spares_more
    }
}

impl Tables {
    /// What the facts say of a session.
    pub(super) fn judge(&self, realm: &Realm, session: &Presented<'_>, now: Timestamp) -> Verdict {
        let ended = self.sessions.get(session.id.as_bytes());
        if let Some(verdict) = ended.and_then(|ended| ended.verdict(session, now)) {
            return verdict;
        }
        let was_before = |before: Timestamp| session.times.issued_at <= before;
        if self.every_realm.is_some_and(was_before) {
            return Verdict::Revoked;
        }
        if !self.latest_cut.is_some_and(was_before) {
            return Verdict::Clear;
        }
        let hit = |key: &[u8; 16]| self.is_cut(key, session);
        // The subject is hashed last: it is the only part that costs anything.
        if self.is_cut_but_for_one(&EVERY_REALM, session)
            || hit(&realm.everyone)
            || session.tags.iter().any(hit)
            || (!session.subject.is_empty() && hit(&realm.subject(session.subject)))
        {
            return Verdict::Revoked;
        }
        Verdict::Clear
    }

    pub(super) fn entries(&self) -> usize {
        let cuts = self.cuts.len().saturating_add(self.sparing.len());
        self.sessions.len().saturating_add(cuts)
    }

    /// Whether any fact is about more than one session.
    pub(super) const fn has_cuts(&self) -> bool {
        !self.cuts.is_empty() || !self.sparing.is_empty()
    }

    /// Whether a fact under this key ends the session.
    fn is_cut(&self, key: &[u8; 16], session: &Presented<'_>) -> bool {
        let hit = |cut: &Cut| session.times.issued_at <= cut.before();
        self.cuts.get(key).is_some_and(hit) || self.is_cut_but_for_one(key, session)
    }

    fn is_cut_but_for_one(&self, key: &[u8; 16], session: &Presented<'_>) -> bool {
        let hit = |facts: &Arc<[Sparing]>| facts.iter().any(|sparing| sparing.hits(session));
        self.sparing.get(key).is_some_and(hit)
    }

    /// The latest instant up to which sessions under this key are ended.
    pub(super) fn latest_cut(&self, key: &[u8; 16]) -> Option<Timestamp> {
        let plain = self.cuts.get(key).map(|cut| cut.before());
        let sparing = self.sparing.get(key);
        let sparing = sparing.and_then(|facts| facts.iter().map(|sparing| sparing.before).max());
        plain.max(sparing)
    }

    /// Whether a fact gives a session a generation that it has, or had, already.
    pub(super) fn has_reached(&self, fact: &Revocation) -> bool {
        match fact.fact {
            Fact::Session { id, below } if below != ALL => {
                let below = packed(below);
                self.sessions.get(id.as_bytes()).is_some_and(|ended| ended.reaches(below))
            }
            _ => false,
        }
    }

    /// Whether a fact says nothing that is not here.
    pub(super) fn covers(&self, fact: &Revocation) -> bool {
        let until = Until::of(fact.until);
        match fact.fact {
            Fact::Session { below: 0, .. } | Fact::Longest { .. } | Fact::Whole { .. } => true,
            Fact::Session { id, below } => {
                let ended = self.sessions.get(id.as_bytes());
                ended.is_some_and(|ended| ended.reaches(packed(below)) && ended.until >= until)
            }
            Fact::Issued { key, before, except } => {
                self.cuts.get(&key).is_some_and(|cut| cut.covers(before, until))
                    || except.is_some_and(|spared| {
                        let fact = Sparing { before, spared, until };
                        let old = self.sparing.get(&key);
                        old.is_some_and(|old| old.iter().any(|old| old.covers(&fact)))
                    })
            }
        }
    }

    /// Takes a fact in, which came at `since`, and tells whether it says anything new.
    pub(super) fn insert(&mut self, fact: &Revocation, since: Timestamp) -> bool {
        if self.covers(fact) {
            self.ended_again(fact, since);
            return false;
        }
        let until = Until::of(fact.until);
        match fact.fact {
            Fact::Session { id, below } => {
                let (below, since) = (packed(below), Since::of(since));
                let old = self.sessions.get(id.as_bytes()).copied();
                let ended = match old {
                    Some(old) if old.reaches(below) => Ended { until: old.until.max(until), ..old },
                    old => {
                        let until = old.map_or(until, |old| old.until.max(until));
                        Ended { until, below, since }
                    }
                };
                self.sessions.put(*id.as_bytes(), ended, usize::from(old.is_none()), 0);
            }
            Fact::Issued { key, before, except: None } => {
                let old = self.cuts.get(&key).copied();
                // Each says what the other says and more, in time: nobody lives that either ends.
                let cut = old.map_or(Cut::new(before, until), |old| {
                    Cut::new(old.before().max(before), old.until().max(until))
                });
                self.cuts.put(key, cut, usize::from(old.is_none()), 0);
                self.keep_sparing(key, |old| !cut.covers(old.before, old.until), None);
            }
            Fact::Issued { key, before, except: Some(spared) } => {
                let fact = Sparing { before, spared, until };
                self.keep_sparing(key, |old| !fact.covers(old), Some(fact));
            }
            Fact::Longest { .. } | Fact::Whole { .. } => {}
        }
        match fact.fact {
            Fact::Issued { key: EVERY_REALM, before, except: None } => {
                self.every_realm = self.every_realm.max(Some(before));
            }
            Fact::Issued { before, .. } => self.latest_cut = self.latest_cut.max(Some(before)),
            Fact::Session { .. } | Fact::Longest { .. } | Fact::Whole { .. } => {}
        }
        self.first_until = Some(self.first_until.map_or(until, |first| first.min(until)));
        true
    }

    /// Notes that a session which was ended long ago, or by force, was ended just now as well: by a
    /// sign-in whose answer is under way.
    fn ended_again(&mut self, fact: &Revocation, since: Timestamp) {
        let (Fact::Session { id, .. }, Since(1..)) = (fact.fact, Since::of(since)) else { return };
        if let Some(old) = self.sessions.get(id.as_bytes()).copied()
            && !old.since.is_lately(since)
        {
            self.sessions.put(*id.as_bytes(), Ended { since: Since::of(since), ..old }, 0, 0);
        }
    }

    /// Leaves out those of a key that say nothing any more, and adds one.
    fn keep_sparing(
        &mut self,
        key: [u8; 16],
        stays: impl Fn(&Sparing) -> bool,
        added: Option<Sparing>,
    ) {
        let old = self.sparing.get(&key).cloned().unwrap_or_default();
        let kept: Arc<[Sparing]> = old.iter().copied().filter(stays).chain(added).collect();
        if kept.len() != old.len() || added.is_some() {
            self.sparing.put(key, Arc::clone(&kept), kept.len(), old.len());
        }
    }

    /// Every fact, as it can be given back to a log.
    pub(super) fn facts(&self) -> impl Iterator<Item = Revocation> {
        let sessions = self.sessions.iter().map(|(id, ended)| {
            let id = crate::token::SessionId::from_bytes(*id);
            let below = if ended.below == 0 { ALL } else { u32::from(ended.below) };
            Revocation { fact: Fact::Session { id, below }, until: ended.until.to_timestamp() }
        });
        let cuts = self.cuts.iter().map(|(key, cut)| {
            let fact = Fact::Issued { key: *key, before: cut.before(), except: None };
            Revocation { fact, until: cut.until().to_timestamp() }
        });
        let sparing = self.sparing.iter().flat_map(|(key, facts)| {
            facts.iter().map(|Sparing { before, spared, until }| {
                let fact = Fact::Issued { key: *key, before: *before, except: Some(*spared) };
                Revocation { fact, until: until.to_timestamp() }
            })
        });
        sessions.chain(cuts).chain(sparing)
    }

    /// Whether anything can be over before `horizon`.
    pub(super) fn can_be_pruned(&self, horizon: Timestamp) -> bool {
        self.first_until.is_some_and(|first| first.is_over(horizon))
    }

    /// The same facts without those that were over before `horizon`. A cut stays at least for as long
    /// as sessions may live by now, if whoever made it knew of shorter ones.
    pub(super) fn pruned(&self, horizon: Timestamp, longest: Duration, now: Timestamp) -> Self {
        let Self { latest_cut, every_realm, .. } = *self;
        let mut kept = Self { latest_cut, every_realm, ..Self::default() };
        let first = &mut kept.first_until;
        let mut live = |until: Until| {
            let stays = !until.is_over(horizon);
            if stays {
                *first = Some(first.map_or(until, |first| first.min(until)));
            }
            stays
        };
        for (id, ended) in self.sessions.iter().filter(|(_, ended)| live(ended.until)) {
            let since = ended.since.or_long_ago(now);
            kept.sessions.put(*id, Ended { since, ..*ended }, 1, 0);
        }
        let at_least = |until: Until, before: Timestamp| until.max(Until::of(before.plus(longest)));
        for (key, cut) in self.cuts.iter() {
            if live(at_least(cut.until(), cut.before())) {
                kept.cuts.put(*key, *cut, 1, 0);
            }
        }
        for (key, facts) in self.sparing.iter() {
            let stays = |fact: &Sparing| live(at_least(fact.until, fact.before));
            let facts: Arc<[Sparing]> = facts.iter().copied().filter(stays).collect();
            if !facts.is_empty() {
                let count = facts.len();
                kept.sparing.put(*key, facts, count, 0);
            }
        }
        kept
    }
}

/// When a fact can be forgotten: in whole seconds, never too early.
#[derive(Clone, Copy, Eq, Ord, PartialEq, PartialOrd)]
struct Until(u32);

impl Until {
    fn of(instant: Timestamp) -> Self {
        // Later than 2106 is never.
        Self(u32::try_from(instant.as_millis().div_ceil(1000)).unwrap_or(u32::MAX))
    }

    fn is_over(self, horizon: Timestamp) -> bool {
        self.0 != u32::MAX && self.to_timestamp() < horizon
    }

    fn to_timestamp(self) -> Timestamp {
        match self.0 {
            u32::MAX => Timestamp::MAX,
            seconds => Timestamp::from_millis(u64::from(seconds).saturating_mul(1000)),
        }
    }
}

/// When a fact came, as far as it matters whether that was within the last minute.
///
/// Seconds that start over every 18 hours; 0 is long ago, and pruning, every hour, makes old ones so.
/// Were one mistaken all the same, a dead session would be taken for one that was ended just now,
/// and some writes of its visitor be withheld for a minute.
#[derive(Clone, Copy, Eq, PartialEq)]
struct Since(u16);

impl Since {
    fn of(instant: Timestamp) -> Self {
        match instant.as_millis() / 1000 {
            0 => Self(0),
            seconds => Self(u16::try_from(seconds & 0xffff).unwrap_or(0).max(1)),
        }
    }

    /// Both ways: whoever asks may have read the clock first.
    fn is_lately(self, now: Timestamp) -> bool {
        let now = Self::of(now).0;
        let apart = now.wrapping_sub(self.0).min(self.0.wrapping_sub(now));
        self.0 != 0 && apart <= JUST_ENDED
    }

    fn or_long_ago(self, now: Timestamp) -> Self {
        if self.is_lately(now) { self } else { Self(0) }
    }
}

/// A number of generations in 16 bits, 0 for all of them.
fn packed(below: u32) -> u16 {
    u16::try_from(below).unwrap_or(0)
}
