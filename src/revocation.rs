//! Sessions that are ended before their limits: by sign-out, or by force.
//!
//! A [`RevocationList`] holds facts that only ever add up and that end by themselves, once the last
//! session they speak of has reached its limits. It is asked on every request, so it answers from
//! memory. What this module leaves to others: which sessions a verb ends (`session`), and how
//! facts travel between instances (back ends, behind the same type).

mod facts;
mod replica;
mod table;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::clock::{Clock, Timestamp};
use crate::error::{Error, ErrorKind};
use crate::event::Scope;
use crate::key;
use crate::policy::Times;
use crate::token::{Facts, Record, SessionId, Tag, tag_of};

use replica::Replica;

/// The sessions that were ended early, as the session manager asks it.
///
/// Clones share one list. Several session managers may, too: facts of different realms do not
/// meet.
#[derive(Clone)]
pub struct RevocationList {
    replica: Arc<Replica>,
}

impl RevocationList {
    /// A list in this process, for an application of one process.
    ///
    /// A revocation is in force as soon as the call returns. The list prunes itself; it holds up to
    /// 1,000,000 entries of about 60 bytes. **It is forgotten when the process ends**: with keys
    /// that are kept, a copy of a cookie that was signed out before a restart lives again until
    /// its limits. An application that cannot accept that, or that runs several processes, needs a
    /// shared list.
    pub fn in_process() -> Self {
        Self { replica: Arc::new(Replica::new()) }
    }

    /// Sets how many entries the list may hold, 1,000,000 by default.
    ///
    /// A full list refuses revocations with [`ErrorKind::Full`] and forgets nothing. Single
    /// sessions can fill nine tenths of it; the last tenth is kept for subjects, tags and everyone.
    #[must_use]
    pub fn max_entries(self, max_entries: usize) -> Self {
        self.replica.set_max_entries(max_entries);
        self
    }

    /// The number of entries the list holds, expired ones that were not pruned yet included.
    pub fn entries(&self) -> usize {
        self.replica.entries()
    }

    /// What the list says of a session.
    #[allow(clippy::unnecessary_wraps, reason = "a list behind a backend can be too old to answer")]
    pub(crate) fn check(
        &self,
        realm: &Realm,
        session: &Presented<'_>,
        now: Timestamp,
    ) -> Result<Verdict, Error> {
        Ok(self.replica.check(realm, session, now))
    }

    /// Where the list stands now: facts that come later are newer than this mark.
    pub(crate) fn mark(&self) -> Mark {
        Mark(self.replica.sequence())
    }

    /// Gives a new session its `issued_at`: the earliest with which it is not dead at birth.
    ///
    /// Facts known at `seen.at` are stepped over, and so are the request's own. A newer one means
    /// that a revocation overtook the sign-in, perhaps a password check that began before it.
    pub(crate) fn issue(
        &self,
        realm: &Realm,
        new: &NewSession<'_>,
        seen: &Seen,
        wall: &Wall<'_>,
    ) -> Result<Timestamp, Error> {
        let keys = || {
            let mut keys = vec![realm.everyone, realm.subject(new.subject)];
            keys.extend(new.tags);
            keys
        };
        self.replica.issue(&keys, seen, wall)
    }

    /// Ends the sessions that were issued until now.
    pub(crate) fn cut(
        &self,
        realm: &Realm,
        target: &Target<'_>,
        by: &Revoker<'_>,
        wall: &Wall<'_>,
    ) -> Result<Appended, Error> {
        let fact = |before: Timestamp| {
            let until = before.plus(self.replica.longest()).plus(wall.slack);
            target.fact(realm, before, until)
        };
        let (sequence, overtaken) = self.replica.cut(&fact, by, wall)?;
        let mark = (!overtaken).then_some(Mark(sequence));
        Ok(Appended { receipt: Receipt::done(true), mark })
    }

    /// Puts facts about single sessions in force here, and says when they are so everywhere.
    ///
    /// [`ErrorKind::Conflict`] for a generation that the session has reached already: a copy from
    /// before a `renew` must not renew itself back to life.
    pub(crate) fn append(&self, facts: &[Revocation], now: Timestamp) -> Result<Appended, Error> {
        let sequence = self.replica.append(facts, now)?;
        Ok(Appended { receipt: Receipt::done(true), mark: Some(Mark(sequence)) })
    }

    /// Learns that sealed lifetimes reach this far; facts are kept for as long.
    pub(crate) fn raise_longest(&self, lifetime: Duration) {
        self.replica.raise_longest(lifetime);
    }
}

impl fmt::Debug for RevocationList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RevocationList").field("entries", &self.entries()).finish_non_exhaustive()
    }
}

/// Which sessions to end, for [`SessionManager::revoke`](crate::SessionManager::revoke).
///
/// All but [`session`](Self::session) mean those issued up to now; who signs in afterwards is not
/// touched.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    what: What<'a>,
    except: Option<Spared>,
}

#[derive(Clone, Copy)]
enum What<'a> {
    Session(SessionId),
    Subject(&'a str),
    Tag(&'a str),
    Everyone,
}

impl<'a> Target<'a> {
    /// One session, by its id.
    pub const fn session(id: SessionId) -> Self {
        Self { what: What::Session(id), except: None }
    }

    /// Every session of a subject, compared byte for byte.
    pub const fn subject(subject: &'a str) -> Self {
        Self { what: What::Subject(subject), except: None }
    }

    /// Every session that was given this tag at sign-in.
    pub const fn tag(tag: &'a str) -> Self {
        Self { what: What::Tag(tag), except: None }
    }

    /// Every session of the realm, anonymous ones included.
    pub const fn everyone() -> Self {
        Self { what: What::Everyone, except: None }
    }

    /// Spares one session, from this revocation only. Where a visitor ends his own other sessions,
    /// [`sign_out_others`](crate::Session::sign_out_others) does the same with fewer entries.
    #[must_use]
    pub const fn except(mut self, id: SessionId) -> Self {
        self.except = Some(Spared { id, issued_at: None });
        self
    }

    /// Spares a session that was issued at a known instant.
    #[must_use]
    pub(crate) const fn sparing(mut self, id: SessionId, issued_at: Timestamp) -> Self {
        self.except = Some(Spared { id, issued_at: Some(issued_at) });
        self
    }

    pub(crate) const fn scope(&self) -> Scope {
        match self.what {
            What::Session(_) => Scope::Session,
            What::Subject(_) => Scope::Subject,
            What::Tag(_) => Scope::Tag,
            What::Everyone => Scope::Everyone,
        }
    }

    pub(crate) const fn id(&self) -> Option<SessionId> {
        match self.what {
            What::Session(id) => Some(id),
            _ => None,
        }
    }

    /// Refuses a target that means nobody.
    pub(crate) fn validate(&self) -> Result<(), Error> {
        match self.what {
            What::Subject("") => Err(Error::new(ErrorKind::Subject)),
            _ => Ok(()),
        }
    }

    /// The fact that ends these sessions; it can be forgotten at `until`.
    pub(crate) fn fact(&self, realm: &Realm, before: Timestamp, until: Timestamp) -> Revocation {
        let key = match self.what {
            What::Session(id) if self.except.is_some_and(|spared| spared.id == id) => {
                return Revocation::nothing(id);
            }
            What::Session(id) => return Revocation::session(id, until),
            What::Subject(subject) => realm.subject(subject),
            What::Tag(tag) => realm.tag(tag),
            What::Everyone => realm.everyone,
        };
        Revocation { fact: Fact::Issued { key, before, except: self.except }, until }
    }
}

/// Shows how many it reaches, not whom: subjects and tags may name people.
impl fmt::Debug for Target<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("scope", &self.scope())
            .field("id", &self.id())
            .field("except", &self.except.map(|spared| spared.id))
            .finish()
    }
}

/// A fact: some sessions are dead, whatever their tokens say.
///
/// It names them by hashes, holds nothing else, and ends by itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Revocation {
    fact: Fact,
    /// When the last session it speaks of has ended anyway.
    until: Timestamp,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Fact {
    /// The session's generations below this one; 65536 is all.
    Session { id: SessionId, below: u32 },
    /// Sessions with this subject, tag or realm, issued at or before an instant, except one.
    Issued { key: [u8; 16], before: Timestamp, except: Option<Spared> },
}

/// The session that a fact spares.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Spared {
    id: SessionId,
    /// Where it is known: facts about sessions issued before it do not speak of it anyway.
    issued_at: Option<Timestamp>,
}

/// Above every generation.
const ALL: u32 = 1 << 16;

impl Revocation {
    pub(crate) const fn session(id: SessionId, until: Timestamp) -> Self {
        Self { fact: Fact::Session { id, below: ALL }, until }
    }

    pub(crate) fn generations_below(id: SessionId, generation: u16, until: Timestamp) -> Self {
        Self { fact: Fact::Session { id, below: u32::from(generation) }, until }
    }

    /// The session that this ends, if it is one.
    pub(crate) const fn session_id(&self) -> Option<SessionId> {
        match self.fact {
            Fact::Session { id, .. } => Some(id),
            Fact::Issued { .. } => None,
        }
    }

    /// What is left of "this session, except itself".
    fn nothing(id: SessionId) -> Self {
        Self { fact: Fact::Session { id, below: 0 }, until: Timestamp::default() }
    }
}

/// The application or tenant, and the keys that facts about it have.
pub(crate) struct Realm {
    name: Box<str>,
    everyone: [u8; 16],
}

impl Realm {
    pub(crate) fn new(name: &str) -> Self {
        let everyone = key::digest16("sealed-session v1 realm", &[name.as_bytes()]);
        Self { name: name.into(), everyone }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn tag(&self, tag: &str) -> Tag {
        tag_of(&self.name, tag)
    }

    fn subject(&self, subject: &str) -> [u8; 16] {
        let parts = [self.name.as_bytes(), subject.as_bytes()];
        key::digest16("sealed-session v1 subject", &parts)
    }
}

/// A session as the list is asked about it.
pub(crate) struct Presented<'a> {
    pub(crate) id: SessionId,
    pub(crate) times: Times,
    pub(crate) generation: u16,
    pub(crate) subject: &'a str,
    pub(crate) tags: &'a [Tag],
}

impl<'a> From<&'a Record> for Presented<'a> {
    fn from(record: &'a Record) -> Self {
        let Facts { id, times, generation, .. } = record.facts;
        Self { id, times, generation, subject: record.subject(), tags: record.tags() }
    }
}

/// A session that is about to be issued.
pub(crate) struct NewSession<'a> {
    pub(crate) subject: &'a str,
    pub(crate) tags: &'a [Tag],
}

/// What a list says of one session.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Verdict {
    Clear,
    Revoked,
    /// Revoked so lately that the answer which replaced it may still be under way.
    JustEnded,
    /// An older generation of a session that lives on; `lately` as in `JustEnded`.
    Outdated {
        lately: bool,
    },
}

/// A place in the order in which facts came to this list.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Mark(u64);

/// What a request knew of the list: all up to a mark, and what it added itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) at: Mark,
    pub(crate) own: Vec<Mark>,
}

impl Seen {
    /// All there is and will be: for a session that speaks for nobody, and so can always begin anew.
    pub(crate) const fn everything() -> Self {
        Self { at: Mark(u64::MAX), own: Vec::new() }
    }

    /// Whether a fact came since, from somebody else.
    fn is_overtaken_by(&self, sequence: u64) -> bool {
        sequence > self.at.0 && !self.own.contains(&Mark(sequence))
    }
}

/// The clock, read only once the list's own lock is held.
pub(crate) struct Wall<'a> {
    pub(crate) clock: &'a dyn Clock,
    /// How far ahead of it a session may have been issued.
    pub(crate) slack: Duration,
}

impl Wall<'_> {
    fn now(&self) -> Timestamp {
        Timestamp::from_system(self.clock.now())
    }
}

/// On whose behalf sessions are ended.
pub(crate) struct Revoker<'a> {
    /// Sessions issued until then are meant in any case.
    pub(crate) at_least: Timestamp,
    /// Set where a request ends its own subject's sessions. Its own fact is no conflict for a
    /// sign-in that follows in it, unless it replaced somebody else's that is.
    pub(crate) seen: Option<&'a Seen>,
}

/// The outcome of [`RevocationList::append`].
#[derive(Clone)]
pub(crate) struct Appended {
    pub(crate) receipt: Receipt,
    pub(crate) mark: Option<Mark>,
}

impl Appended {
    /// There was nothing to append, or no list to append it to.
    pub(crate) const fn nothing(reaches_copies: bool) -> Self {
        Self { receipt: Receipt::done(reaches_copies), mark: None }
    }
}

/// Tells when a revocation is in force everywhere.
///
/// Where it was called for, it is in force already. Awaiting a receipt, or [`wait`](Self::wait),
/// gives `Ok` once a shared list has it durably; it need not be awaited, and the layers of this
/// crate do so by themselves before they send the headers.
#[derive(Clone, Debug)]
pub struct Receipt {
    outcome: Result<(), Error>,
    reaches_copies: bool,
}

impl Receipt {
    pub(crate) const fn done(reaches_copies: bool) -> Self {
        Self { outcome: Ok(()), reaches_copies }
    }

    /// Whether copies of the ended sessions are refused from now on. False without a revocation
    /// list: then only this visitor's cookie was changed, and copies live until their limits.
    pub const fn reaches_copies(&self) -> bool {
        self.reaches_copies
    }

    /// Blocks until the outcome is known, at most 2 s.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Backend`] when a shared list did not confirm. The revocation stays in force here
    /// and is retried.
    pub fn wait(&self) -> Result<(), Error> {
        self.outcome.clone()
    }
}

impl Future for Receipt {
    type Output = Result<(), Error>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(self.outcome.clone())
    }
}
