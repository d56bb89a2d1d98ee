//! The facts themselves: what they say of a session, and which of them say nothing new.

use std::sync::Arc;
use std::time::Duration;

use super::table::{Ids, Table};
use super::{ALL, Fact, Presented, Revocation, Spared, Verdict};
use crate::clock::Timestamp;

/// How long the answer that ended a session may be on its way to the browser.
const JUST_ENDED: Duration = Duration::from_secs(60);

#[derive(Clone, Default)]
pub(super) struct Tables {
    pub(super) sessions: Table<Ended>,
    pub(super) cuts: Table<Arc<[Cut]>>,
    /// The earliest `until` in the tables: nothing can be pruned before.
    pub(super) first_until: Option<Timestamp>,
}

/// One session, its generations below `below`.
#[derive(Clone, Copy)]
pub(super) struct Ended {
    below: u32,
    since: Timestamp,
    until: Timestamp,
}

/// Sessions issued at or before an instant.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    pub(super) before: Timestamp,
    except: Option<Spared>,
    until: Timestamp,
    pub(super) sequence: u64,
}

impl Cut {
    pub(super) fn hits(&self, session: &Presented<'_>) -> bool {
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

impl Ended {
    pub(super) fn verdict(&self, session: &Presented<'_>, now: Timestamp) -> Option<Verdict> {
        if u32::from(session.generation) >= self.below {
            return None;
        }
        // Both ways: whoever asks may have read the clock first, but a clock set back is no answer
        // under way.
        let apart = now.since(self.since).max(self.since.since(now));
        let lately = apart <= JUST_ENDED;
        Some(match self.below {
            ALL if lately => Verdict::JustEnded,
            ALL => Verdict::Revoked,
            _ => Verdict::Outdated { lately },
        })
    }
}

impl Tables {
    pub(super) fn entries(&self) -> usize {
        self.sessions.len().saturating_add(self.cuts.len())
    }

    /// Whether a fact gives a session a generation that it has, or had, already.
    pub(super) fn has_reached(&self, fact: &Revocation) -> bool {
        match fact.fact {
            Fact::Session { id, below } if below != ALL => {
                self.sessions.get(id.as_bytes()).is_some_and(|ended| ended.below >= below)
            }
            _ => false,
        }
    }

    pub(super) fn insert(&mut self, fact: &Revocation, sequence: u64, since: Timestamp) {
        let until = fact.until;
        match fact.fact {
            Fact::Session { below: 0, .. } => return,
            Fact::Session { id, below } => {
                let old = self.sessions.get(id.as_bytes()).copied();
                let ended = old.map_or(Ended { below, since, until }, |old| Ended {
                    below: old.below.max(below),
                    since: if below > old.below { since } else { old.since.max(since) },
                    until: old.until.max(until),
                });
                self.sessions.put(*id.as_bytes(), ended, usize::from(old.is_none()), 0);
            }
            Fact::Issued { key, before, except } => {
                self.insert_cut(key, Cut { before, except, until, sequence });
            }
        }
        self.first_until = Some(self.first_until.map_or(until, |first| first.min(until)));
    }

    fn insert_cut(&mut self, key: [u8; 16], cut: Cut) {
        let old = self.cuts.get(&key).cloned().unwrap_or_default();
        if old.iter().any(|old| old.covers(&cut)) {
            // It says nothing new of sessions there are, but overtakes sign-ins that are under way.
            let sequence = cut.sequence;
            let told = |old: &Cut| if old.covers(&cut) { Cut { sequence, ..*old } } else { *old };
            self.cuts.put(key, old.iter().map(told).collect(), 0, 0);
            return;
        }
        let mut cuts: Vec<Cut> = old.iter().copied().filter(|old| !cut.covers(old)).collect();
        cuts.push(cut);
        self.cuts.put(key, cuts.as_slice().into(), cuts.len(), old.len());
    }

    /// The same facts without those that ended before `horizon`.
    pub(super) fn pruned(&self, horizon: Timestamp) -> Self {
        let mut first = None::<Timestamp>;
        let mut live = |until: Timestamp| {
            let keep = until >= horizon;
            if keep {
                first = Some(first.map_or(until, |first| first.min(until)));
            }
            keep
        };
        let sessions = self.sessions.iter().filter(|(_, ended)| live(ended.until));
        let sessions: Ids<Ended> = sessions.map(|(key, ended)| (*key, *ended)).collect();
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
        Self {
            sessions: Table::from_base(sessions.len(), sessions),
            cuts: Table::from_base(count, cuts),
            first_until: first,
        }
    }
}
