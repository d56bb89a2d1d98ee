//! A log as somebody sees it who follows nothing: the operator's command beside the servers.
//!
//! It reads all there is, and can make one fact of its own. Whether the log is whole, and what happens
//! to one that is new, stays for the servers to decide.

use std::time::{Duration, Instant, SystemTime};

use super::fact::{ALL, EVERY_REALM, Fact};
use super::{Cursor, Lineage, Page, Realm, Revocation, Target};
use crate::clock::{Timestamp, monotonic};
use crate::error::Error;
use crate::policy::Policy;
use crate::token::SessionId;

/// All of a log, as it was at one moment.
pub(crate) struct Reading {
    pub(crate) facts: Vec<Revocation>,
    pub(crate) lineage: Lineage,
    pub(crate) cursor: Cursor,
    /// Why a fact could not be read, which is not among the others.
    pub(crate) unreadable: Option<Error>,
    /// When the last page was asked for, and how long that took.
    asked: Instant,
    pub(crate) took: Duration,
}

impl Reading {
    /// Reads page after page, each through `read`.
    pub(crate) fn of<E: From<Error>>(
        mut read: impl FnMut(Option<Cursor>) -> Result<Page, E>,
    ) -> Result<Self, E> {
        let (mut facts, mut unreadable) = (Vec::new(), None);
        let mut last: Option<(Cursor, [u8; 16])> = None;
        loop {
            let asked = monotonic();
            let page = read(last.as_ref().map(|(cursor, _)| cursor.clone()))?;
            let took = monotonic().saturating_duration_since(asked);
            if let Some((cursor, lineage)) = &last {
                if *lineage != page.lineage.id {
                    return Err(Error::backend("it was replaced while it was read").into());
                }
                if page.more && *cursor == page.cursor {
                    let fault = "it says that there is more, and gives nothing";
                    return Err(Error::backend(fault).into());
                }
            }
            facts.extend(page.facts);
            unreadable = unreadable.or(page.unreadable);
            let (lineage, cursor) = (page.lineage, page.cursor);
            if !page.more {
                return Ok(Self { facts, lineage, cursor, unreadable, asked, took });
            }
            last = Some((cursor, lineage.id));
        }
    }

    /// The time at the log, rather late than early: what was issued until then must not be missed.
    pub(crate) fn now(&self) -> Timestamp {
        self.lineage.now.plus(monotonic().saturating_duration_since(self.asked))
    }

    /// The log's clock against that of this machine, `now` when the last page had come; right to half
    /// of [`took`](Self::took).
    pub(crate) fn offset(&self, now: SystemTime) -> (Duration, Ahead) {
        let middle = self.took.checked_div(2).unwrap_or_default();
        let ours = Timestamp::from_system(now).minus(middle);
        if self.lineage.now >= ours {
            (self.lineage.now.since(ours), Ahead::Log)
        } else {
            (ours.since(self.lineage.now), Ahead::Here)
        }
    }

    /// How long sessions of this log may live, as the servers have told it.
    pub(crate) fn longest(&self) -> Option<Duration> {
        let lifetimes = self.facts.iter().filter_map(|fact| match fact.fact {
            Fact::Longest { lifetime } => Some(lifetime),
            _ => None,
        });
        lifetimes.max()
    }

    /// Whether a server has said that nothing known is missing from this log.
    pub(crate) fn is_whole(&self) -> bool {
        let whole = Revocation::whole(self.lineage.id);
        self.facts.contains(&whole)
    }

    /// The fact that ends the sessions of `target` issued until now, as a list would make it.
    pub(crate) fn cut(&self, realm: &Realm, target: &Target<'_>, policy: &Policy) -> Revocation {
        let at = self.now().plus(policy.skew());
        let asked = target.fact(realm, at, at);
        // A session that signed in since has stepped over what is known.
        let known = self.facts.iter().filter(|fact| fact.concerns(&asked, realm));
        let latest = known.filter_map(Revocation::before).max().unwrap_or_default();
        let stepped = latest.plus(Duration::from_millis(1)).min(at.plus(policy.slack()));
        let before = stepped.max(at);
        let longest = self.longest().unwrap_or_default().max(policy.longest());
        target.fact(realm, before, before.plus(longest).plus(policy.slack()))
    }
}

/// Whose clock is ahead.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Ahead {
    Log,
    Here,
}

/// What a fact says, for those who look at it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Says {
    Session(SessionId),
    /// The session's generations below this one.
    Generations(SessionId, u32),
    /// A subject or a tag of this realm, or anything of another one.
    Hash([u8; 16]),
    Everyone,
    EveryRealm,
    /// How long sessions live.
    Lifetime(Duration),
    Whole([u8; 16]),
}

impl Revocation {
    pub(crate) fn says(&self, realm: &Realm) -> Says {
        match self.fact {
            Fact::Session { id, below: ALL } => Says::Session(id),
            Fact::Session { id, below } => Says::Generations(id, below),
            Fact::Issued { key: EVERY_REALM, .. } => Says::EveryRealm,
            Fact::Issued { key, .. } if key == realm.everyone => Says::Everyone,
            Fact::Issued { key, .. } => Says::Hash(key),
            Fact::Longest { lifetime } => Says::Lifetime(lifetime),
            Fact::Whole { lineage } => Says::Whole(lineage),
        }
    }

    /// Sessions issued until then are meant; None where that does not matter.
    pub(crate) const fn before(&self) -> Option<Timestamp> {
        match self.fact {
            Fact::Issued { before, .. } => Some(before),
            _ => None,
        }
    }

    /// The session that it spares.
    pub(crate) fn except(&self) -> Option<SessionId> {
        match self.fact {
            Fact::Issued { except, .. } => except.map(|spared| spared.id),
            _ => None,
        }
    }

    /// Whether it may end sessions that `asked`, a fact of this realm, means.
    pub(crate) fn concerns(&self, asked: &Self, realm: &Realm) -> bool {
        match (self.fact, asked.fact) {
            (Fact::Session { id, .. }, Fact::Session { id: asked, .. }) => id == asked,
            (Fact::Issued { key, except, .. }, asked) => {
                let same = matches!(asked, Fact::Issued { key: asked, .. } if key == asked);
                let spared = matches!((except, asked), (Some(spared), Fact::Session { id, .. })
                    if spared.id == id);
                (same || key == realm.everyone || key == EVERY_REALM) && !spared
            }
            _ => false,
        }
    }
}

impl Page {
    /// Why a fact of it could not be read.
    pub(crate) const fn unreadable(&self) -> Option<&Error> {
        self.unreadable.as_ref()
    }
}
