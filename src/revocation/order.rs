//! In which order facts came, and when it was last thought of forgetting some.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use super::Revocation;
use super::asked::Seen;
use crate::clock::Timestamp;

/// Facts stay at least this much longer than they must: a clock that was set wrong for less than
/// this and then right again has forgotten nothing.
pub(super) const PRUNE_MARGIN: Duration = Duration::from_secs(3_600);
/// How many facts about more than one session are remembered in the order in which they came.
const RECENT: usize = 4096;

/// Facts of one log that no sign-in has to hear of any more: this list's own, and what was read
/// already. Two threads read a log, and it may give a fact again, but only once that is news.
#[derive(Default)]
pub(super) struct Heard {
    own: HashSet<Revocation>,
    read: HashSet<Revocation>,
    order: VecDeque<Revocation>,
}

impl Heard {
    pub(super) fn contains(&self, fact: &Revocation) -> bool {
        self.own.contains(fact) || self.read.contains(fact)
    }

    pub(super) fn add_own(&mut self, facts: impl IntoIterator<Item = Revocation>) {
        self.own.extend(facts);
    }

    pub(super) fn add_read(&mut self, fact: &Revocation) {
        self.own.remove(fact);
        if self.read.insert(*fact) {
            self.order.push_back(*fact);
        }
        while self.order.len() > RECENT
            && let Some(oldest) = self.order.pop_front()
        {
            self.read.remove(&oldest);
        }
    }

    /// Own facts that are not waited for any more.
    pub(super) fn forget_own(&mut self, is_there: impl Fn(&Revocation) -> bool) {
        self.own.retain(|fact| !is_there(fact));
    }
}

/// What only a writer needs.
#[derive(Default)]
pub(super) struct Writing {
    /// By log, when pruning was last thought of.
    pruned: Vec<Timestamp>,
    /// The keys of the last facts about more than one session, with their sequence numbers.
    recent: VecDeque<(u64, [u8; 16])>,
    /// The last number that is not in `recent` any more.
    forgotten: u64,
}

impl Writing {
    /// Facts that were over before this instant can go: what was over an hour ago already, by a clock
    /// that did not go back since. That also makes it rare, since pruning looks at every entry.
    pub(super) fn horizon(&mut self, log: usize, now: Timestamp) -> Option<Timestamp> {
        if self.pruned.len() <= log {
            self.pruned.resize(log.saturating_add(1), Timestamp::default());
        }
        let seen = self.pruned.get_mut(log)?;
        let went_back = now < *seen;
        if !went_back && now.since(*seen) < PRUNE_MARGIN {
            return None;
        }
        let horizon = std::mem::replace(seen, now);
        (!went_back).then_some(horizon)
    }

    pub(super) fn remember(&mut self, sequence: u64, keys: Vec<[u8; 16]>) {
        self.recent.extend(keys.into_iter().map(|key| (sequence, key)));
        while self.recent.len() > RECENT
            && let Some((sequence, _)) = self.recent.pop_front()
        {
            self.forgotten = sequence;
        }
    }

    /// So much came at once that nobody can tell what.
    pub(super) fn forget(&mut self, sequence: u64) {
        self.forgotten = sequence;
        self.recent.clear();
    }

    /// Whether a fact under one of these keys came since, from somebody else. Of a request that began
    /// before all that is remembered nobody knows, so it was, if there is any fact that `may_be` it.
    pub(super) fn is_overtaken(&self, keys: &[[u8; 16]], seen: &Seen, may_be: bool) -> bool {
        let since = self.recent.iter().rev().take_while(|(sequence, _)| *sequence > seen.at.0);
        (may_be && seen.is_overtaken_by(self.forgotten))
            || since
                .filter(|(sequence, _)| seen.is_overtaken_by(*sequence))
                .any(|(_, key)| keys.contains(key))
    }
}
