//! The session as a request holds it.
//!
//! A request opens its session, its handler reads and changes it, and closing it yields the
//! `Set-Cookie` to answer with, often none. Tokens without cookies are in `bearer`.

mod arrival;
mod bearer;
mod change;
mod closing;
mod data;
mod draft;
mod flash;
mod forms;
mod map;
mod open;
mod sign_in;

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind};
use crate::event::{Event, Scope};
use crate::key::KeyId;
use crate::manager::SessionManager;
use crate::policy::{Kind, Policy, Times};
use crate::revocation::{Appended, Receipt, Revocation, Seen, Target, Verdict};
use crate::token::{Facts, SessionId};

use arrival::Arrival;
use change::Changing;
use draft::Draft;

pub use bearer::{Bearer, Opened};
pub use closing::Closing;
pub use data::{Map, SessionData};
pub use flash::Flash;
pub use sign_in::SignIn;

/// The session of one request, of data `T`: a handle that is cheap to clone and share.
///
/// Reading never fails. Changes are made through the methods that return a `Result`; they take
/// effect at once for every clone, and reach the visitor when the session is [closed](Self::close),
/// which layers do by themselves. Once the response has begun, every change is
/// [`ErrorKind::Closed`].
///
/// Session data is *the visitor's copy*: it cannot be read or forged, but an older copy can be sent
/// again until its limits. So keep no counters, quotas or one-time secrets in it. Of two changes
/// at the same time, in two tabs, the later answer wins.
pub struct Session<T = Map> {
    shared: Arc<Shared<T>>,
}

struct Shared<T> {
    manager: SessionManager,
    arrival: Arrival,
    state: Mutex<State<T>>,
    /// Signalled when `changing` falls back to None.
    changed: Condvar,
}

struct State<T> {
    draft: Draft<T>,
    seen: Seen,
    /// Who is changing the session right now. The lock is not held meanwhile, so that no user code
    /// ever runs under it.
    changing: Option<Changing>,
    /// Whether a layer opened it and will close it.
    layered: bool,
    closed: bool,
    /// The key of the answer's cookie, once it is sealed.
    sealed_under: Option<KeyId>,
    asked: Asked,
    receipts: Vec<Receipt>,
}

/// What the request asked for besides changes.
#[derive(Clone, Copy, Default)]
struct Asked {
    /// That it does not count as activity.
    passive: bool,
    /// A CSRF token, so there must be a session for it to be bound to.
    csrf: bool,
}

impl<T: SessionData> Session<T> {
    /// The data as this request sees it, the default for a new session.
    pub fn data(&self) -> Arc<T> {
        Arc::clone(&self.state().draft.data)
    }

    /// Who is signed in, or None for an anonymous session.
    pub fn subject(&self) -> Option<Arc<str>> {
        self.state().draft.subject.clone()
    }

    /// The session's identity, None while nothing was ever written.
    pub fn id(&self) -> Option<SessionId> {
        self.state().draft.facts.map(|facts| facts.id)
    }

    /// When the session was issued: at sign-in, or at the first write of an anonymous one.
    pub fn issued_at(&self) -> Option<SystemTime> {
        self.state().draft.facts.map(|facts| facts.times.issued_at.to_system())
    }

    /// The absolute limit: the last instant of the session, whatever the activity.
    pub fn expires_at(&self) -> Option<SystemTime> {
        self.limit(|policy, kind, times| Some(policy.expires_at(kind, times)))
    }

    /// The last instant of the session if nothing more happens. None without an idle limit.
    pub fn idle_expires_at(&self) -> Option<SystemTime> {
        self.limit(Policy::idle_expires_at)
    }

    /// Whether someone is signed in, and did so at most `ago` ago: for steps that ask for the
    /// password again, which is a new [`sign_in`](Self::sign_in) of the same subject.
    pub fn signed_in_within(&self, ago: Duration) -> bool {
        let now = self.shared.manager.now();
        let signed_in = self.state().draft.signed_in();
        signed_in.is_ok_and(|(_, facts)| now.since(facts.times.issued_at) <= ago)
    }

    /// Marks this request as no activity: it does not push the idle limit back. For polling and
    /// other requests that no visitor made.
    pub fn passive(&self) -> &Self {
        self.state().asked.passive = true;
        self
    }

    /// Judges the session anew, as the next request with this cookie would be: for web sockets and
    /// long streams. Stricter only in this: once the key that the request came under is revoked, it
    /// fails though the answer's cookie is sealed under another one.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::SignedOut`] when there is no session, [`ErrorKind::KeyRevoked`],
    /// [`ErrorKind::KeyUnknown`] when the key's line is gone since,
    /// [`ErrorKind::Expired`], [`ErrorKind::Idle`], [`ErrorKind::Revoked`], [`ErrorKind::Backend`].
    pub fn recheck(&self) -> Result<(), Error> {
        let manager = &self.shared.manager;
        let (draft, sealed_under) = {
            let state = self.state();
            (state.draft.clone(), state.sealed_under)
        };
        let facts = draft.facts.ok_or(Error::new(ErrorKind::SignedOut))?;
        let now = manager.now();
        let arrived = self.shared.arrived(&draft).map(|opened| opened.key);
        for key in arrived.into_iter().chain(sealed_under) {
            manager.ring().check_revoked(key).map_err(Error::new)?;
        }
        manager.policy().verdict(draft.kind(), &facts.times, now).map_err(Error::new)?;
        match manager.check(&draft.presented(&facts), now)? {
            Verdict::Clear => Ok(()),
            _ => Err(Error::new(ErrorKind::Revoked)),
        }
    }

    /// Changes the data.
    ///
    /// The closure works on a copy, with no lock held. If the copy serializes to the same JSON as
    /// before, nothing is sent to the visitor. Another thread's change waits for this one.
    ///
    /// To take a privilege away, call [`renew`](Self::renew) as well: older copies of the cookie still
    /// hold it. A role kept in a session is as old as its sign-in; where that matters, look it up by
    /// [`subject`](Self::subject).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::TooLarge`] when the cookie would be over 4096 octets, with size and limit in the
    /// message; [`ErrorKind::Serialize`], also for data that would not decode again;
    /// [`ErrorKind::Closed`]; [`ErrorKind::Busy`] inside another
    /// change; [`ErrorKind::Random`]. In each case the session is unchanged.
    pub fn update<R>(&self, change: impl FnOnce(&mut T) -> R) -> Result<R, Error> {
        self.try_update(|data| Ok(change(data)))
    }

    /// Changes the data, or not: an `Err` from the closure is returned and leaves the session as
    /// it was.
    ///
    /// # Errors
    ///
    /// The closure's, and those of [`update`](Self::update).
    pub fn try_update<R, E: From<Error>>(
        &self,
        change: impl FnOnce(&mut T) -> Result<R, E>,
    ) -> Result<R, E> {
        let mut work = self.begin_change()?;
        let mut data = T::clone(&work.draft.data);
        let before = data::to_json(&data)?;
        let result = work.run(|| change(&mut data))?;
        let after = data::to_json(&data)?;
        let changed = before != after;
        work.draft.set_data(data, before, after);
        if changed {
            work.begin_session()?;
            work.check()?;
        }
        work.finish(None)?;
        Ok(result)
    }

    /// Signs someone in: a new session, with a new id, of this subject.
    ///
    /// The visitor's session of before is revoked, so that no copy of it leads to the new one.
    /// Its data is kept if it was anonymous, **then treat it as untrusted input**, or of the same
    /// subject; another subject starts from `T::default()`. Where kept data leaves no room for the
    /// subject, sign in again with less of it: [`SignIn::data`]. Signing in the same subject again is
    /// how to re-authenticate: [`signed_in_within`](Self::signed_in_within) starts over.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Subject`], [`ErrorKind::Config`] for limits under a second,
    /// [`ErrorKind::Conflict`] when the subject's sessions were revoked since the request began,
    /// [`ErrorKind::Full`], and those of [`update`](Self::update). In each case nothing is changed.
    pub fn sign_in(&self, sign_in: impl Into<SignIn<T>>) -> Result<Receipt, Error> {
        let sign_in = sign_in.into();
        let manager = &self.shared.manager;
        let mut work = self.begin_change()?;
        let next = sign_in.resolve(manager, &work.draft)?;
        let issued_at = manager.issue_at(&next.subject, &next.tags, &work.seen)?;
        work.forget_if_revoked();
        work.draft.start(next, issued_at)?;
        work.check()?;
        let ended = self.shared.arrival.ended_by_sign_in(manager);
        let appended = manager.append(&ended)?;
        self.tell_ended(&ended);
        work.finish(Some(appended))
    }

    /// Signs out: drops the data, makes the session anonymous, removes the cookie, and revokes the
    /// session, so that copies of the cookie are dead as well.
    ///
    /// Without a revocation list copies live until their limits; the receipt says so. An anonymous
    /// session is dropped without an entry in the list: it speaks for nobody.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Full`], [`ErrorKind::Backend`]: the revocation failed, but this visitor is signed
    /// out and the cookie is removed. [`ErrorKind::Closed`]: it is too late to remove the cookie, but
    /// the session is revoked. [`ErrorKind::Busy`] inside a change.
    #[doc(alias = "flush")]
    #[doc(alias = "purge")]
    #[doc(alias = "logout")]
    pub fn sign_out(&self) -> Result<Receipt, Error> {
        let manager = &self.shared.manager;
        let mut ended = self.shared.arrival.ended_by_sign_out(manager);
        let work = match self.begin_change() {
            Err(error) if error.kind() == ErrorKind::Busy => return Err(error),
            Err(error) => {
                // The response has begun, perhaps with the cookie of a sign-in in this request.
                let own = self.state().draft.end(manager).filter(|own| !ended.contains(own));
                ended.extend(own);
                Err(error)
            }
            Ok(work) => Ok(work),
        };
        let appended = manager.append(&ended);
        if appended.is_ok() {
            self.tell_ended(&ended);
        }
        let mut work = work?;
        let Arrival { presented, just_ended, .. } = self.shared.arrival;
        if work.draft.sign_out(presented) && ended.is_empty() && !just_ended {
            manager.emit(&Event::Withheld { signed_out: true });
        }
        let receipt = work.finish(appended.as_ref().ok().cloned())?;
        appended.map(|_| receipt)
    }

    /// Ends every session of the subject that is signed in, this one included, and removes the
    /// cookie.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::SignedOut`], also when the session was ended since the request began: who was
    /// thrown out must not throw out others. [`ErrorKind::Unsupported`] without a revocation list,
    /// [`ErrorKind::Full`], [`ErrorKind::Closed`], [`ErrorKind::Busy`]. In each case nothing is changed.
    pub fn sign_out_everywhere(&self) -> Result<Receipt, Error> {
        let manager = &self.shared.manager;
        let mut work = self.begin_change()?;
        let (subject, facts) = work.alive()?;
        let target = Target::subject(&subject);
        let issued_at = facts.times.issued_at;
        let appended = manager.revoke_until(&[target], issued_at, Some(&work.seen))?;
        // Dead already, and by this as a session whose visitor may sign in again at once: a late
        // request of another tab must not overwrite that. A list without room for it is no harm.
        let _ = manager.append(work.draft.end(manager).as_slice());
        work.draft.sign_out(self.shared.arrival.presented);
        work.finish(Some(appended))
    }

    /// Ends every other session of the subject that is signed in, its bearer tokens included.
    ///
    /// # Errors
    ///
    /// Those of [`sign_out_everywhere`](Self::sign_out_everywhere).
    pub fn sign_out_others(&self) -> Result<Receipt, Error> {
        let work = self.begin_change()?;
        let (subject, facts) = work.alive()?;
        let target = Target::subject(&subject).sparing(facts.id, facts.times.issued_at);
        let at_least = Timestamp::default();
        let appended = self.shared.manager.revoke_until(&[target], at_least, Some(&work.seen))?;
        work.finish(Some(appended))
    }

    /// Starts a new generation of this session, for when it gains or loses privileges: id, times
    /// and limits stay, older copies are dead.
    ///
    /// The id stays; for a new id, [sign in](Self::sign_in) again. Without a revocation list older
    /// copies live on, and the receipt says so. Nothing happens to a session that was not sealed
    /// before this request: it has no copies.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] at generation 65535: sign in again. [`ErrorKind::Conflict`] when
    /// another request has renewed or ended the session meanwhile. [`ErrorKind::Full`],
    /// [`ErrorKind::Closed`], [`ErrorKind::Busy`]. In each case nothing is changed.
    #[doc(alias = "cycle_id")]
    #[doc(alias = "regenerate")]
    pub fn renew(&self) -> Result<Receipt, Error> {
        let manager = &self.shared.manager;
        let mut work = self.begin_change()?;
        let arrived = self.shared.arrival.session.as_ref().map(|session| session.record.facts.id);
        let Some(facts) = work.draft.facts.as_mut().filter(|facts| Some(facts.id) == arrived)
        else {
            return work.finish(Some(Appended::nothing(manager.list().is_some())));
        };
        facts.generation = facts.generation.checked_add(1).ok_or_else(|| {
            Error::with_detail(
                ErrorKind::Unsupported,
                "generation 65535 is the last: sign in again",
            )
        })?;
        let Facts { id, generation, times, .. } = *facts;
        let until = arrival::end_of(&times, manager);
        let fact = Revocation::generations_below(id, generation, until);
        let appended = manager.append(&[fact])?;
        manager.emit(&Event::Renewed { id, generation });
        work.finish(Some(appended))
    }

    fn limit(
        &self,
        of: impl FnOnce(&Policy, Kind, &Times) -> Option<Timestamp>,
    ) -> Option<SystemTime> {
        let state = self.state();
        let facts = state.draft.facts?;
        of(self.shared.manager.policy(), state.draft.kind(), &facts.times).map(Timestamp::to_system)
    }

    fn tell_ended(&self, ended: &[Revocation]) {
        let manager = &self.shared.manager;
        for id in
            ended.iter().filter_map(Revocation::session_id).filter(|_| manager.list().is_some())
        {
            manager.emit(&Event::Revoked { scope: Scope::Session, id: Some(id) });
        }
    }
}

impl<T> Session<T> {
    /// The state. A panic cannot leave it half-changed: no user code runs under the lock.
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Clone for Session<T> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

/// Shows whether someone is signed in, and nothing of the data.
impl<T> fmt::Debug for Session<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("Session")
            .field("id", &state.draft.facts.map(|facts| facts.id))
            .field("signed_in", &state.draft.subject.is_some())
            .finish_non_exhaustive()
    }
}
