//! Where keys, policy, clock, revocation list, cookie and events meet.

mod judged;

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
use crate::key::{CurrentRing, KeyNews, Keys, RingFinding, Rotation};
use crate::policy::{Kind, Limits, Policy};
use crate::revocation::{
    Appended, ListListener, ListNews, NewSession, Presented, Realm, Receipt, Revocation,
    RevocationList, Revoker, Seen, Target, Verdict, Wall, WhenMissing,
};
use crate::token::{self, Context, Facts, Tag};

pub(crate) use judged::{Dead, Opened, Refusal};

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

    /// The revocation list that it was built with.
    pub fn revocations(&self) -> Option<&RevocationList> {
        self.shared.list.as_ref()
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
        self.revoke_all(&[target])
    }

    /// Ends sessions by force, of many at once: all targets or, on an error, none.
    ///
    /// # Errors
    ///
    /// Those of [`revoke`](Self::revoke).
    pub fn revoke_all(&self, targets: &[Target<'_>]) -> Result<Receipt, Error> {
        self.revoke_until(targets, Timestamp::default(), None).map(|appended| appended.receipt)
    }

    /// Ends sessions issued up to now, or up to `at_least` if that is later; `seen` where it is a
    /// request's own subject that ends them.
    pub(crate) fn revoke_until(
        &self,
        targets: &[Target<'_>],
        at_least: Timestamp,
        seen: Option<&Seen>,
    ) -> Result<Appended, Error> {
        let Some(list) = self.list() else {
            let advice = "give the builder a RevocationList to end sessions early";
            return Err(Error::with_detail(ErrorKind::Unsupported, advice));
        };
        targets.iter().try_for_each(Target::validate)?;
        let by = Revoker { at_least, seen };
        let appended = self.tell_full(list.cut(self.realm(), targets, &by, &self.wall()))?;
        for target in targets {
            self.emit(&Event::Revoked { scope: target.scope(), id: target.id() });
        }
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

    /// Passes on what the threads of the list have met.
    fn tell_list(&self, news: &ListNews) {
        match news {
            ListNews::Fresh { entries, added, delay } => {
                let (entries, added, delay) = (*entries, *added, *delay);
                self.emit(&Event::ListFresh { entries, added, delay });
            }
            ListNews::Reconciled { entries, given_back } => {
                let (entries, given_back) = (*entries, *given_back);
                self.emit(&Event::ListReconciled { entries, given_back });
            }
            ListNews::Missing { decision } => {
                let decision = match decision {
                    WhenMissing::SignOutEveryone => "everyone was signed out",
                    WhenMissing::StartEmpty => "started empty",
                    WhenMissing::Refuse => "refused",
                };
                self.emit(&Event::ListMissing { decision });
            }
            ListNews::Unsaved { facts } => self.emit(&Event::ListUnsaved { facts: *facts }),
            ListNews::Failed(error) => self.emit(&Event::ListFailed { error }),
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
                let answer = list.check(self.realm(), session, now);
                let answer = answer.inspect_err(|_| self.emit(&Event::ListStale))?;
                if answer.stale {
                    self.emit(&Event::ListAcceptedStale);
                }
                Ok(answer.verdict)
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
        let policy = self.policy();
        Wall { clock: &*self.shared.clock, skew: policy.skew(), slack: policy.slack() }
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

    /// The limits to seal into a session of this kind, where `wish` may only shorten: absolute and
    /// idle, in seconds.
    pub(crate) fn limits(&self, kind: Kind, wish: Option<Limits>) -> Result<(u32, u32), Error> {
        let (lifetime, idle) = self.policy().limits(kind, wish)?;
        let longest = self.list().and_then(RevocationList::longest_to_seal);
        let longest =
            longest.map_or(u32::MAX, |it| u32::try_from(it.as_secs()).unwrap_or(u32::MAX));
        Ok((lifetime.min(longest), idle))
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
    /// other, a cookie that browsers would refuse, two migrations for one type, or a revocation list
    /// with another `clock_skew`.
    /// [`ErrorKind::KeyRing`] when no key of the ring is active now.
    pub fn build(self) -> Result<SessionManager, Error> {
        self.policy.validate()?;
        self.cookie.validate()?;
        if self.migrated_twice {
            return Err(Error::config("migrate: there may be one migration for each type"));
        }
        self.keys.current().seal_key(Timestamp::from_system(self.clock.now()))?;
        if let Some(list) = &self.list {
            list.attach(self.policy.longest(), self.policy.skew())?;
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
        if let Some(list) = manager.list() {
            let listener = Arc::downgrade(&manager.shared);
            let listener: ListListener = Arc::new(move |news| {
                let shared = listener.upgrade();
                shared.map(|shared| SessionManager { shared }.tell_list(news)).is_some()
            });
            list.listen(&listener);
        }
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
