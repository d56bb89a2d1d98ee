//! A ring while a rotation changes it.

use std::time::{Duration, SystemTime};

use super::ring::{Entry, refused};
use super::rotate::{HEAD_START, RingChange, Rotated, Rotation};
use super::text::{LAST_DATE, MAX_KEYS};
use super::{Key, KeyId, KeyRing};
use crate::clock::Timestamp;
use crate::error::Error;

const SECOND: Duration = Duration::from_secs(1);

/// A ring while it is changed: it need not be coherent before the end.
pub(super) struct Draft<'a> {
    rotation: &'a Rotation,
    pub(super) now: Timestamp,
    entries: Vec<Entry>,
    pub(super) changes: Vec<RingChange>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(ring: &KeyRing, rotation: &'a Rotation, now: SystemTime) -> Self {
        let now = Timestamp::from_system(now);
        Self { rotation, now, entries: ring.entries().to_vec(), changes: Vec::new() }
    }

    pub(super) fn has_pending(&self) -> bool {
        self.entries.iter().any(|entry| !entry.revoked && entry.seal_from > Some(self.now))
    }

    /// Whether some key has begun on every server, be its clock behind or this one ahead.
    pub(super) fn begins_in_time(&self) -> bool {
        let sure = self.now.minus(HEAD_START).whole_second();
        self.entries.iter().any(|entry| !entry.revoked && entry.seal_from <= Some(sure))
    }

    /// Adds a key that takes over at `seal_from`, also from keys that have begun.
    pub(super) fn add(&mut self, key: Key, mut seal_from: Timestamp) {
        let begun = |entry: &&Entry| !entry.revoked && entry.seal_from <= Some(self.now);
        if let Some(last) = self.entries.iter().filter(begun).filter_map(|e| e.seal_from).max() {
            seal_from = seal_from.max(last.plus(SECOND));
        }
        self.insert(key, seal_from);
    }

    /// Adds a key that begins at `seal_from`, or within seconds: equal dates would leave it open
    /// which key seals.
    pub(super) fn insert(&mut self, key: Key, seal_from: Timestamp) {
        let mut seal_from = dated(seal_from);
        let taken = |at| self.entries.iter().any(|e| !e.revoked && e.seal_from == Some(at));
        while taken(seal_from) {
            seal_from = seal_from.plus(SECOND);
        }
        self.changes.push(RingChange::Added(key.id()));
        let (open_until, revoked) = (None, false);
        self.entries.push(Entry { key, line: 0, seal_from: Some(seal_from), open_until, revoked });
    }

    pub(super) fn revoke(&mut self, id: KeyId) -> Result<(), Error> {
        let Some(entry) = self.entries.iter_mut().find(|entry| entry.key.id() == id) else {
            let ids: Vec<_> = self.entries.iter().map(|entry| entry.key.id().to_string()).collect();
            return Err(refused(&format!("it holds no key {id}, only {}", ids.join(", "))));
        };
        if !std::mem::replace(&mut entry.revoked, true) {
            self.changes.push(RingChange::Revoked(id));
        }
        Ok(())
    }

    pub(super) fn drop_unneeded(&mut self) {
        let (gone, kept) =
            self.entries.clone().into_iter().partition(|entry| self.is_unneeded(entry));
        self.entries = kept;
        let gone: Vec<Entry> = gone;
        self.changes.extend(gone.iter().map(|entry| RingChange::Dropped(entry.key.id())));
    }

    /// Takes out the oldest keys that open nowhere, where there are too many; those of `spared` last.
    pub(super) fn make_room(&mut self, spared: &[KeyId]) {
        while self.entries.len() > MAX_KEYS {
            let over = self.entries.iter().filter(|entry| self.is_over(entry));
            let last = |entry: &&Entry| (spared.contains(&entry.key.id()), entry.seal_from);
            let Some(id) = over.min_by_key(last).map(|entry| entry.key.id()) else {
                return;
            };
            self.entries.retain(|entry| entry.key.id() != id);
            self.changes.retain(|change| *change != RingChange::Revoked(id));
            self.changes.push(RingChange::Dropped(id));
        }
    }

    /// Whether this key no longer opens on any server, which then lets it be taken out. Not so a key
    /// that was only just revoked: a server that missed that would take the ring for an older one.
    fn is_over(&self, entry: &Entry) -> bool {
        let Rotation { reload_lag, clock_slack, .. } = *self.rotation;
        entry.is_past(self.now.minus(reload_lag.saturating_add(clock_slack)))
    }

    /// Whether no session under this key can be alive, on any server.
    pub(super) fn is_unneeded(&self, entry: &Entry) -> bool {
        let Some(successor) = successor(&self.entries, entry) else { return false };
        let Rotation { reload_lag, clock_slack, longest, .. } = *self.rotation;
        let last_seal = successor.seal_from.map(|from| from.plus(reload_lag).plus(clock_slack));
        self.is_over(entry) && last_seal.is_some_and(|at| at.plus(longest) <= self.now)
    }

    /// Gives each key the end that follows from its successor, and a revoked one the end it had.
    fn set_ends(&mut self) {
        for at in 0..self.entries.len() {
            let Some(entry) = self.entries.get(at) else { continue };
            let open_until = self.end(entry);
            if open_until != entry.open_until {
                let id = entry.key.id();
                // Of a key that was added or revoked it goes without saying.
                let said = [RingChange::Added(id), RingChange::Revoked(id)];
                if !said.iter().any(|change| self.changes.contains(change)) {
                    self.changes.push(RingChange::OpenUntil(id));
                }
                self.entries.iter_mut().skip(at).take(1).for_each(|e| e.open_until = open_until);
            }
        }
    }

    fn end(&self, entry: &Entry) -> Option<Timestamp> {
        if entry.revoked {
            // When it was revoked, or found to be: from then on counts how long it stays listed.
            let now = dated(self.now);
            return Some(entry.open_until.map_or(now, |until| until.min(now)));
        }
        // The key that was to follow was revoked: this one has to go on.
        let from = successor(&self.entries, entry)?.seal_from?;
        let needed = dated(from.plus(self.rotation.overlap()));
        let Rotation { reload_lag, clock_slack, .. } = *self.rotation;
        Some(match entry.open_until {
            // It opens now, so servers would not let it be taken out before they knew of its end.
            None => needed.max(dated(self.now.plus(reload_lag).plus(clock_slack).plus(SECOND))),
            // It is over, and stays over. A key between may have gone, and no gap may be left.
            Some(until) if until <= self.now => until.max(from),
            Some(until) => until.max(needed),
        })
    }

    pub(super) fn finish(mut self, old: &KeyRing, most: usize) -> Result<Rotated, Error> {
        self.set_ends();
        let Self { entries, changes, .. } = self;
        if entries.len() > most && changes.iter().any(|c| matches!(c, RingChange::Added(_))) {
            return Err(refused(&format!(
                "{} keys, none of which may go yet: rotate less often",
                old.entries().len()
            )));
        }
        Ok(Rotated { ring: KeyRing::rotated(&entries)?, changes })
    }
}

/// The same instant, or the next one that a date in a ring can have.
pub(super) fn dated(at: Timestamp) -> Timestamp {
    at.whole_second().min(LAST_DATE)
}

/// The key that takes over from this one.
pub(super) fn successor<'a>(entries: &'a [Entry], entry: &Entry) -> Option<&'a Entry> {
    let later = |other: &&Entry| !other.revoked && other.seal_from > entry.seal_from;
    entries.iter().filter(later).min_by_key(|other| other.seal_from)
}
