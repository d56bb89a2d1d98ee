//! The list as an application holds it, and as the session manager asks it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::asked::{Mark, NewSession, Presented, Realm, Revoker, Seen, Verdict, Wall};
use super::builder::{OnStale, RevocationListBuilder};
use super::catch_up::CatchUp;
use super::fact::{LONGEST, Revocation};
use super::log::RevocationLog;
use super::news::Listener;
use super::receipt::Receipt;
use super::replica::Replica;
use super::shared::Shared;
use super::target::Target;
use super::writer::BATCH;
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind};

/// The sessions that were ended early, as the session manager asks it.
///
/// Clones share one list. Several session managers may, too: facts of different realms do not
/// meet. Which kind of list an application needs, and what happens when its backend is away, stands
/// in the module [`revocation`](crate::revocation).
#[derive(Clone)]
pub struct RevocationList {
    replica: Arc<Replica>,
    /// None for a list in this process.
    followed: Option<Arc<Followed>>,
}

/// Ends the threads when the last handle of a list goes.
struct Followed(Arc<Shared>);

impl Drop for Followed {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl RevocationList {
    /// A list in this process, for an application of one process.
    ///
    /// A revocation is in force as soon as the call returns. The list prunes itself; it holds up to
    /// 1,000,000 entries of about 60 bytes. **It is forgotten when the process ends**: with keys
    /// that are kept, a copy of a cookie that was signed out before a restart lives again until
    /// its limits. An application that cannot accept that, or that runs several processes, needs a
    /// [shared list](Self::builder).
    pub fn in_process() -> Self {
        Self { replica: Arc::new(Replica::new(0)), followed: None }
    }

    /// A list that follows a log, which other instances of the application follow as well.
    ///
    /// ```
    /// # use sealed_session::revocation::MemoryLog;
    /// # use sealed_session::{Error, KeyRing, Keys, RevocationList, SessionManager, Target};
    /// let log = MemoryLog::new()?; // in place of a SqliteLog, a RedisLog, a PostgresLog
    /// let keys = Keys::from(KeyRing::for_tests()?);
    /// let instance = || {
    ///     let list = RevocationList::builder(log.clone()).build()?;
    ///     SessionManager::builder("shop", keys.clone()).revocations(list).build()
    /// };
    /// let (one, other) = (instance()?, instance()?);
    ///
    /// let token = one.bearer::<()>().issue("alice")?;
    /// one.revoke(Target::subject("alice"))?.wait()?; // durable in the log
    /// // Milliseconds later the other would know by itself.
    /// other.revocations().map_or(Ok(()), |list| list.catch_up().wait())?;
    /// assert!(other.bearer::<()>().open(&token).is_err());
    /// # Ok::<(), Error>(())
    /// ```
    pub fn builder(log: impl RevocationLog) -> RevocationListBuilder {
        RevocationListBuilder::new(log)
    }

    pub(super) fn following(shared: Arc<Shared>) -> Self {
        let replica = Arc::clone(&shared.replica);
        Self { replica, followed: Some(Arc::new(Followed(shared))) }
    }

    /// Sets how many entries the list may hold, 1,000,000 by default.
    ///
    /// A full list refuses revocations with [`ErrorKind::Full`] and forgets nothing. Single
    /// sessions can fill nine tenths of it; the last tenth is kept for subjects, tags and everyone.
    /// What other instances revoke is taken in even so: to leave it out would be to forget it.
    #[must_use]
    pub fn max_entries(self, max_entries: usize) -> Self {
        self.replica.set_max_entries(max_entries);
        self
    }

    /// The number of entries the list holds, expired ones that were not pruned yet included.
    pub fn entries(&self) -> usize {
        self.replica.entries()
    }

    /// Whether the list can answer for sessions that it does not know: it was read, and lately. What
    /// a readiness probe asks. A list in this process always is.
    pub fn is_fresh(&self) -> bool {
        self.shared().is_none_or(|shared| shared.freshness.is_fresh(shared.now().wall))
    }

    /// Reads what is new now, instead of some milliseconds later by itself: for steps where even
    /// those count. It costs a round trip to the backend, which those who ask at the same time share.
    ///
    /// When it is done, the list holds every revocation whose receipt was `Ok` before this call.
    /// [`SessionManager::open_strict`](crate::SessionManager::open_strict) and, for axum, `Strict` do
    /// this for a whole request.
    pub fn catch_up(&self) -> CatchUp {
        self.shared().map_or(CatchUp::done(), CatchUp::ask)
    }

    /// How the list is doing, for an operator's page.
    pub fn status(&self) -> ListStatus {
        let mut status = ListStatus { entries: self.entries(), ..ListStatus::default() };
        let Some(shared) = self.shared() else { return status };
        let counters = &shared.counters;
        status.logs = shared.sources.iter().map(|source| source.name.clone()).collect();
        status.age = shared.freshness.age(shared.now());
        status.unsaved = shared.unsaved();
        status.reconciles = counters.reconciles.load(Ordering::Relaxed);
        status.given_back = counters.given_back.load(Ordering::Relaxed);
        status.refused_as_stale = counters.refused.load(Ordering::Relaxed);
        status.accepted_as_stale = counters.accepted.load(Ordering::Relaxed);
        status.last_error = shared.error();
        status
    }

    /// What the list says of a session.
    pub(crate) fn check(
        &self,
        realm: &Realm,
        session: &Presented<'_>,
        now: Timestamp,
    ) -> Result<Answer, Error> {
        // First: what becomes fresh in between came too late for what was looked at.
        let fresh = self.shared().is_none_or(|shared| shared.freshness.is_fresh(now));
        let verdict = self.replica.check(realm, session, now);
        let Some(shared) = self.shared() else { return Ok(Answer::fresh(verdict)) };
        // That it is known here is right however long ago it was learnt.
        if verdict != Verdict::Clear || fresh {
            return Ok(Answer::fresh(verdict));
        }
        match shared.settings.on_stale {
            OnStale::Accept => {
                shared.counters.accepted.fetch_add(1, Ordering::Relaxed);
                Ok(Answer { verdict, stale: true })
            }
            OnStale::Refuse => {
                shared.counters.refused.fetch_add(1, Ordering::Relaxed);
                Err(stale(shared))
            }
        }
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
        if let Some(shared) = self.shared()
            && shared.settings.on_stale == OnStale::Refuse
            && !shared.freshness.were_complete()
        {
            return Err(stale(shared));
        }
        self.replica.issue(realm, new, seen, wall)
    }

    /// The longest life that may be sealed now, while other instances do not know of a longer one.
    pub(crate) fn longest_to_seal(&self) -> Option<Duration> {
        self.shared().and_then(|shared| shared.lifetimes.limit())
    }

    /// Ends the sessions that were issued until now, by the clock of the log: an instance whose clock
    /// is behind must not miss those of one that is ahead.
    pub(crate) fn cut(
        &self,
        realm: &Realm,
        targets: &[Target<'_>],
        by: &Revoker<'_>,
        wall: &Wall<'_>,
    ) -> Result<Appended, Error> {
        let now = wall.now();
        let facts = |before: Timestamp| -> Vec<Revocation> {
            let unread = self.shared().is_some_and(|shared| !shared.freshness.is_fresh(now));
            // Whoever cannot read does not know how long others seal by now.
            let longest = if unread { LONGEST } else { self.replica.longest() };
            let until = before.plus(longest).plus(wall.slack);
            targets.iter().map(|target| target.fact(realm, before, until)).collect()
        };
        let at = |now: Timestamp| {
            self.shared().map_or(now, |shared| shared.backend_now().plus(wall.skew))
        };
        self.check_unsaved()?;
        let cut = self.replica.cut(&facts, by, wall, &at)?;
        let mark = (!cut.overtaken).then_some(Mark(cut.sequence));
        Ok(Appended { receipt: self.save(cut.facts), mark })
    }

    /// Puts facts about single sessions in force here, and says when they are so everywhere.
    ///
    /// [`ErrorKind::Conflict`] for a generation that the session has reached already: a copy from
    /// before a `renew` must not renew itself back to life.
    pub(crate) fn append(&self, facts: &[Revocation], now: Timestamp) -> Result<Appended, Error> {
        self.check_unsaved()?;
        let sequence = self.replica.append(facts, now)?;
        Ok(Appended { receipt: self.save(facts.to_vec()), mark: Some(Mark(sequence)) })
    }

    /// Learns how long sessions live and how far clocks may be off where it is asked from now on.
    pub(crate) fn attach(&self, longest: Duration, skew: Duration) -> Result<(), Error> {
        if let Some(shared) = self.shared()
            && shared.settings.clock_skew != skew
        {
            let [own, other] = [shared.settings.clock_skew, skew].map(|skew| skew.as_secs());
            return Err(Error::config(format!(
                "clock_skew: {other} s in the policy and {own} s in the revocation list: give both the \
                 same"
            )));
        }
        self.replica.raise_longest(longest);
        if let Some(shared) = self.shared() {
            shared.settle_lifetimes();
        }
        Ok(())
    }

    /// Tells `listener` how things stand, and from then on what happens.
    pub(crate) fn listen(&self, listener: &Listener) {
        if let Some(shared) = self.shared() {
            shared.listen(listener);
        }
    }

    /// While a log cannot be written, what waits for it must not grow without end: it may say the same
    /// over and over.
    fn check_unsaved(&self) -> Result<(), Error> {
        let limit = self.replica.max_entries().max(BATCH);
        match self.shared().map(Shared::unsaved) {
            Some(unsaved) if unsaved >= limit => {
                let detail = format!("{unsaved} facts wait for a log that cannot be written");
                Err(Error::with_detail(ErrorKind::Full, detail))
            }
            _ => Ok(()),
        }
    }

    fn save(&self, facts: Vec<Revocation>) -> Receipt {
        let facts: Vec<Revocation> = facts.into_iter().filter(Revocation::says_anything).collect();
        let receipt = self.shared().filter(|_| !facts.is_empty());
        receipt.and_then(|shared| shared.save(facts)).unwrap_or(Receipt::done(true))
    }

    fn shared(&self) -> Option<&Shared> {
        self.followed.as_deref().map(|followed| &*followed.0)
    }
}

impl fmt::Debug for RevocationList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RevocationList")
            .field("entries", &self.entries())
            .field("logs", &self.shared())
            .finish_non_exhaustive()
    }
}

fn stale(shared: &Shared) -> Error {
    let why = match shared.error() {
        Some(error) => format!("the revocation list is too old to answer; {error}"),
        None => "the revocation list is too old to answer".to_owned(),
    };
    Error::with_detail(ErrorKind::Backend, why)
}

/// How a list is doing. See [`RevocationList::status`].
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ListStatus {
    /// The entries it holds.
    pub entries: usize,
    /// The logs it follows, none for a list in this process.
    pub logs: Vec<String>,
    /// How long ago it was as complete as its logs; None if it never was, or follows none.
    pub age: Option<Duration>,
    /// Facts that are in force here and not in the log yet.
    pub unsaved: usize,
    /// How often all of a log was compared with what is known here.
    pub reconciles: u64,
    /// Facts that a log had lost and got back from here.
    pub given_back: u64,
    /// Requests that were refused because the list was too old.
    pub refused_as_stale: u64,
    /// Requests that were let in though the list was too old.
    pub accepted_as_stale: u64,
    /// Why a log cannot be read or written, as long as that is so.
    pub last_error: Option<Error>,
}

/// What a list says, and whether it was too old to say so.
pub(crate) struct Answer {
    pub(crate) verdict: Verdict,
    pub(crate) stale: bool,
}

impl Answer {
    const fn fresh(verdict: Verdict) -> Self {
        Self { verdict, stale: false }
    }
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
