//! Where keys, policy, clock, revocation list, cookie and events meet.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::clock::{Clock, SystemClock, Timestamp};
use crate::cookie::Cookie;
use crate::error::{Error, ErrorKind};
use crate::event::{Event, Observer};
use crate::key::{CurrentRing, KeyId, KeyNews, Keys, RingFinding, Rotation};
use crate::policy::{Policy, Times};
use crate::revocation::{
    Appended, NewSession, Presented, Realm, Receipt, Revocation, RevocationList, Revoker, Seen,
    Target, Verdict, Wall,
};
use crate::token::{self, Context, Facts, Record, Tag};

/// Opens and seals the sessions of one application.
///
/// Clones share everything; one manager serves all threads. How requests become sessions is told at
/// [`open`](Self::open).
///
/// ```
/// # use sealed_session::{Error, KeyRing, Map, RevocationList, Session, SessionManager};
/// let sessions = SessionManager::builder("shop", KeyRing::for_tests()?)
///     .revocations(RevocationList::in_process())
///     .build()?;
///
/// let session: Session = sessions.open(None::<&str>)?;
/// session.sign_in("alice")?;
/// for set_cookie in session.close()? {
///     assert!(set_cookie.starts_with("__Host-Http-id="));
/// }
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone)]
pub struct SessionManager {
    shared: Arc<Shared>,
}

struct Shared {
    realm: Realm,
    keys: Keys,
    policy: Policy,
    list: Option<RevocationList>,
    clock: Box<dyn Clock>,
    observers: Vec<Box<dyn Observer>>,
    cookie: Cookie,
    cookie_context: Context,
    bearer_context: Context,
    migrations: HashMap<TypeId, Migration>,
}

/// A `fn(Value) -> Option<T>`, for the `T` it stands under.
type Migration = Box<dyn Any + Send + Sync>;

impl SessionManager {
    /// Starts a session manager for the application or tenant `realm`.
    ///
    /// What is sealed in one realm does not open in another, even under the same keys. Renaming the
    /// realm signs everybody out.
    pub fn builder(realm: impl Into<String>, keys: impl Into<Keys>) -> SessionManagerBuilder {
        SessionManagerBuilder {
            realm: realm.into(),
            keys: keys.into(),
            policy: Policy::default(),
            list: None,
            clock: Box::new(SystemClock),
            observers: Vec::new(),
            cookie: Cookie::default(),
            migrations: HashMap::new(),
            migrated_twice: false,
        }
    }

    /// The keys that it was built with.
    ///
    /// ```
    /// # use sealed_session::{Error, SessionManager};
    /// # fn at_a_signal(sessions: &SessionManager) -> Result<(), Error> {
    /// if let Some(keys) = sessions.keys().watched() {
    ///     keys.reload_now()?; // reads the source, so not on a thread that serves visitors
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn keys(&self) -> &Keys {
        &self.shared.keys
    }

    /// Ends sessions by force: of one id, of a subject, with a tag, or all.
    ///
    /// In force here when the call returns; the receipt tells when it is so everywhere. A sign-in
    /// that was under way and is among those meant fails with [`ErrorKind::Conflict`]. So, inside
    /// one request, sign in first and end the other sessions afterwards, with
    /// [`sign_out_others`](crate::Session::sign_out_others).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] without a revocation list, [`ErrorKind::Full`] when it has no room,
    /// [`ErrorKind::Subject`] for an empty subject.
    pub fn revoke(&self, target: Target<'_>) -> Result<Receipt, Error> {
        self.revoke_until(&target, Timestamp::default(), None).map(|appended| appended.receipt)
    }

    /// Ends sessions issued up to now, or up to `at_least` if that is later; `seen` where it is a
    /// request's own subject that ends them.
    pub(crate) fn revoke_until(
        &self,
        target: &Target<'_>,
        at_least: Timestamp,
        seen: Option<&Seen>,
    ) -> Result<Appended, Error> {
        let Some(list) = self.list() else {
            let advice = "give the builder a RevocationList to end sessions early";
            return Err(Error::with_detail(ErrorKind::Unsupported, advice));
        };
        target.validate()?;
        let by = Revoker { at_least, seen };
        let appended = self.tell_full(list.cut(self.realm(), target, &by, &self.wall()))?;
        self.emit(&Event::Revoked { scope: target.scope(), id: target.id() });
        Ok(appended)
    }

    /// Hands facts to the list, if there is one.
    pub(crate) fn append(&self, facts: &[Revocation]) -> Result<Appended, Error> {
        match self.list() {
            Some(list) if !facts.is_empty() => self.tell_full(list.append(facts, self.now())),
            list => Ok(Appended::nothing(list.is_some())),
        }
    }

    fn tell_full(&self, appended: Result<Appended, Error>) -> Result<Appended, Error> {
        appended.inspect_err(|error| {
            if error.kind() == ErrorKind::Full {
                self.emit(&Event::ListFull);
            }
        })
    }

    /// Opens one token: authenticates it, and judges limits and revocation. The order of the checks
    /// is the one in which [`ErrorKind`] lists the rejections.
    pub(crate) fn authenticate(
        &self,
        token: &[u8],
        context: &Context,
        now: Timestamp,
    ) -> Result<Opened, Refusal> {
        let opened = self.judge(token, context, now);
        match &opened {
            Err(Refusal::Rejected(kind)) => {
                if *kind == ErrorKind::KeyUnknown {
                    self.ask_for_key_of(token);
                }
                self.emit(&Event::Rejected { kind: *kind, id: None });
            }
            Err(Refusal::Dead(dead)) => {
                let Facts { id, generation, .. } = dead.record.facts;
                if matches!(dead.verdict, Some(Verdict::Outdated { .. })) {
                    self.emit(&Event::Reuse { id, generation });
                }
                self.emit(&Event::Rejected { kind: dead.kind, id: Some(id) });
            }
            Err(Refusal::Backend(_)) | Ok(_) => {}
        }
        opened
    }

    /// Perhaps there is a newer ring.
    fn ask_for_key_of(&self, token: &[u8]) {
        if let Some(key) = token::key_id(token) {
            self.keys().ask_for(key);
            self.emit(&Event::KeyUnknown { key });
        }
    }

    /// Passes on what a reading of the key source brought.
    fn tell_keys(&self, news: &KeyNews<'_>) {
        match *news {
            KeyNews::Loaded { ring, changed, recovered } => {
                let (now, fingerprint) = (self.shared.clock.now(), ring.fingerprint());
                let keys = &*ring.status(now);
                let fingerprint = &*fingerprint;
                self.emit(&Event::KeyRingLoaded { fingerprint, keys, changed, recovered });
                // What this server needs of a ring, however it is rotated.
                let own = Rotation::new(self.policy()).reload_lag(Duration::ZERO);
                let findings = if changed { ring.check(&own, now) } else { vec![] };
                for finding in findings {
                    if let RingFinding::EndsEarly { key, needed } = finding {
                        self.emit(&Event::KeyEndsEarly { key, needed });
                    }
                }
            }
            KeyNews::Warning(warning) => self.emit(&Event::KeySourceWarning { warning }),
            KeyNews::Failed(error) => self.emit(&Event::KeyRingFailed { error }),
        }
    }

    fn judge(&self, token: &[u8], context: &Context, now: Timestamp) -> Result<Opened, Refusal> {
        let ring = self.ring();
        let sealed = token::parse(token, &ring, now)?;
        let key = sealed.key_id();
        let record = sealed.open(context)?;
        let dead = |kind, record, verdict| Refusal::Dead(Box::new(Dead { kind, record, verdict }));
        if let Err(kind) = self.policy().verdict(record.kind(), &record.facts.times, now) {
            return Err(dead(kind, record, None));
        }
        match self.check(&Presented::from(&record), now).map_err(Refusal::Backend)? {
            Verdict::Clear => Ok(Opened { record, key }),
            verdict => Err(dead(ErrorKind::Revoked, record, Some(verdict))),
        }
    }

    pub(crate) fn check(&self, session: &Presented<'_>, now: Timestamp) -> Result<Verdict, Error> {
        match self.list() {
            Some(list) => {
                list.check(self.realm(), session, now).inspect_err(|_| self.emit(&Event::ListStale))
            }
            None => Ok(Verdict::Clear),
        }
    }

    /// What the list knows now, for a request that begins.
    pub(crate) fn seen(&self) -> Seen {
        Seen { at: self.list().map(RevocationList::mark).unwrap_or_default(), own: Vec::new() }
    }

    /// Gives a new session its `issued_at`.
    pub(crate) fn issue_at(
        &self,
        subject: &str,
        tags: &[Tag],
        seen: &Seen,
    ) -> Result<Timestamp, Error> {
        let new = NewSession { subject, tags };
        match self.list() {
            Some(list) => list.issue(self.realm(), &new, seen, &self.wall()),
            None => Ok(self.now()),
        }
    }

    /// The migration for `T`, if one was given to the builder.
    pub(crate) fn migration<T: 'static>(&self) -> Option<fn(Value) -> Option<T>> {
        self.shared.migrations.get(&TypeId::of::<T>())?.downcast_ref().copied()
    }

    pub(crate) fn emit(&self, event: &Event<'_>) {
        self.shared.observers.iter().for_each(|observer| observer.observe(event));
    }

    fn wall(&self) -> Wall<'_> {
        Wall { clock: &*self.shared.clock, slack: self.policy().slack() }
    }

    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::from_system(self.shared.clock.now())
    }

    pub(crate) fn ring(&self) -> CurrentRing {
        self.keys().current()
    }

    pub(crate) fn realm(&self) -> &Realm {
        &self.shared.realm
    }

    pub(crate) fn policy(&self) -> &Policy {
        &self.shared.policy
    }

    pub(crate) fn list(&self) -> Option<&RevocationList> {
        self.shared.list.as_ref()
    }

    pub(crate) fn cookie(&self) -> &Cookie {
        &self.shared.cookie
    }

    pub(crate) fn cookie_context(&self) -> &Context {
        &self.shared.cookie_context
    }

    pub(crate) fn bearer_context(&self) -> &Context {
        &self.shared.bearer_context
    }

    /// Whether both are clones of one manager.
    #[cfg(feature = "tower")]
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }
}

/// A session as it arrived: alive, and under which key.
#[derive(Clone)]
pub(crate) struct Opened {
    pub(crate) record: Record,
    pub(crate) key: KeyId,
}

/// Why a token did not open.
pub(crate) enum Refusal {
    /// Because of the client, and nothing in it can be trusted.
    Rejected(ErrorKind),
    /// It is authentic, but not alive.
    Dead(Box<Dead>),
    /// Because the revocation list cannot answer.
    Backend(Error),
}

/// Clocks of a fleet that lie further apart are not expected to meet soon.
const MAX_CLOCK_ERROR: Duration = Duration::from_secs(3_600);

/// An authentic session that a token does not open any more.
pub(crate) struct Dead {
    kind: ErrorKind,
    pub(crate) record: Record,
    /// What the list says of it, where the limits said nothing.
    verdict: Option<Verdict>,
}

impl Dead {
    /// Whether a better copy may be alive: one that was used more lately, that went through a
    /// `renew`, or that other limits or another clock spare.
    pub(crate) fn may_live_on(&self, now: Timestamp) -> bool {
        let Times { issued_at, lifetime, .. } = self.record.facts.times;
        let sealed = Duration::from_secs(u64::from(lifetime));
        matches!(self.verdict, None | Some(Verdict::Outdated { .. }))
            && now.since(issued_at) <= sealed
    }

    /// Whether a sign-in or sign-out ended it a moment ago.
    pub(crate) fn was_just_ended(&self) -> bool {
        self.verdict == Some(Verdict::JustEnded)
    }

    /// Whether the visitor may well have a better cookie by now, which a write would overwrite.
    pub(crate) fn is_overtaken(&self, now: Timestamp) -> bool {
        let times = &self.record.facts.times;
        let ahead = times.issued_at.max(times.refreshed_at()).since(now);
        matches!(self.verdict, Some(Verdict::Outdated { lately: true } | Verdict::JustEnded))
            // Further ahead it was made by a clock that was wrong, and nothing better will come.
            || (self.kind == ErrorKind::NotYet && ahead <= MAX_CLOCK_ERROR)
    }
}

impl From<ErrorKind> for Refusal {
    fn from(kind: ErrorKind) -> Self {
        Self::Rejected(kind)
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Rejected(kind) => Self::new(kind),
            Refusal::Dead(dead) => Self::new(dead.kind),
            Refusal::Backend(error) => error,
        }
    }
}

/// Gathers the settings of a [`SessionManager`].
#[must_use]
pub struct SessionManagerBuilder {
    realm: String,
    keys: Keys,
    policy: Policy,
    list: Option<RevocationList>,
    clock: Box<dyn Clock>,
    observers: Vec<Box<dyn Observer>>,
    cookie: Cookie,
    migrations: HashMap<TypeId, Migration>,
    migrated_twice: bool,
}

impl SessionManagerBuilder {
    /// Sets the limits of sessions.
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Sets the list that ends sessions early. Without one, a copy of a cookie outlives sign-out,
    /// until its limits.
    ///
    /// A list keeps a revocation for as long as the longest policy it knows of. So build all managers
    /// that share one before the first revocation.
    pub fn revocations(mut self, list: RevocationList) -> Self {
        self.list = Some(list);
        self
    }

    /// Sets the cookie's name and attributes.
    pub fn cookie(mut self, cookie: Cookie) -> Self {
        self.cookie = cookie;
        self
    }

    /// Adds an observer; every one gets every event.
    pub fn observer(mut self, observer: impl Observer) -> Self {
        self.observers.push(Box::new(observer));
        self
    }

    /// Sets the clock, for tests.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Box::new(clock);
        self
    }

    /// Sets how to rescue data that no longer decodes as `T`: from the JSON of an older release,
    /// to today's type, or None to give it up. One for each type.
    pub fn migrate<T: 'static>(mut self, migration: fn(Value) -> Option<T>) -> Self {
        let old = self.migrations.insert(TypeId::of::<T>(), Box::new(migration));
        self.migrated_twice |= old.is_some();
        self
    }

    /// Finishes the manager.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] for a realm that is empty or over 128 bytes, limits that contradict each
    /// other, a cookie that browsers would refuse, or two migrations for one type.
    /// [`ErrorKind::KeyRing`] when no key of the ring is active now.
    pub fn build(self) -> Result<SessionManager, Error> {
        self.policy.validate()?;
        self.cookie.validate()?;
        if self.migrated_twice {
            return Err(Error::config("migrate: there may be one migration for each type"));
        }
        self.keys.current().seal_key(Timestamp::from_system(self.clock.now()))?;
        if let Some(list) = &self.list {
            list.raise_longest(self.policy.longest());
        }
        let shared = Shared {
            cookie_context: Context::cookie(&self.realm, self.cookie.name())?,
            bearer_context: Context::bearer(&self.realm)?,
            realm: Realm::new(&self.realm),
            keys: self.keys,
            policy: self.policy,
            list: self.list,
            clock: self.clock,
            observers: self.observers,
            cookie: self.cookie,
            migrations: self.migrations,
        };
        let manager = SessionManager { shared: Arc::new(shared) };
        let listener = Arc::downgrade(&manager.shared);
        manager.keys().listen(Box::new(move |news| {
            let shared = listener.upgrade();
            shared.map(|shared| SessionManager { shared }.tell_keys(news)).is_some()
        }));
        Ok(manager)
    }
}

impl fmt::Debug for SessionManagerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionManagerBuilder").field("realm", &self.realm).finish_non_exhaustive()
    }
}

impl fmt::Debug for SessionManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionManager")
            .field("realm", &self.realm().name())
            .field("cookie", &self.cookie().name())
            .finish_non_exhaustive()
    }
}
