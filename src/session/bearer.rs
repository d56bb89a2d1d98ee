//! Tokens without cookies: for mobile applications and APIs.

use std::fmt;
use std::marker::PhantomData;
use std::time::SystemTime;

use super::closing::Note;
use super::data::{self, SessionData};
use super::draft::Draft;
use super::{Map, SignIn, arrival};
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind};
use crate::event::Event;
use crate::manager::{self, SessionManager};
use crate::revocation::{Presented, Receipt, Revocation, Verdict};
use crate::token::{self, Facts, SessionId};

impl SessionManager {
    /// Tokens of data `T` that travel without a cookie, in an `Authorization` header.
    ///
    /// They do not open as cookies, nor cookies as they. But `T` separates nothing: a token that was
    /// issued for one `T` opens as any other that decodes. A password reset, say, needs a manager
    /// with a realm of its own. Keep tokens in memory on the client, not in
    /// a browser's storage, and never in a URL.
    ///
    /// ```
    /// # use sealed_session::{ErrorKind, KeyRing, Map, RevocationList, SessionManager};
    /// # let sessions = SessionManager::builder("shop", KeyRing::for_tests()?)
    /// #     .revocations(RevocationList::in_process()).build()?;
    /// let token = sessions.bearer::<Map>().issue("alice")?;
    /// let opened = sessions.bearer::<Map>().open(&token)?;
    /// assert_eq!(opened.subject(), "alice");
    ///
    /// opened.revoke()?;
    /// let error = sessions.bearer::<Map>().open(&token).unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::Revoked);
    /// # Ok::<(), sealed_session::Error>(())
    /// ```
    pub fn bearer<T: SessionData>(&self) -> Bearer<T> {
        Bearer { manager: self.clone(), data: PhantomData }
    }
}

/// Issues and opens tokens that travel without a cookie.
pub struct Bearer<T = Map> {
    manager: SessionManager,
    data: PhantomData<fn() -> T>,
}

impl<T: SessionData> Bearer<T> {
    /// Issues a token: a new session, at most 4096 characters.
    ///
    /// It has the policy's limits for browser sessions, or for "remember me" where the sign-in says
    /// so: by default it ends 30 minutes after its last [`refresh`](Opened::refresh), since opening
    /// alone is no activity. A client that cannot take a new token needs a policy without idle limit.
    ///
    /// Unlike [`Session::sign_in`](super::Session::sign_in), it knows of no request that began
    /// earlier: a revocation while the password was being checked does not stop it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Subject`], [`ErrorKind::Config`] for limits under a second,
    /// [`ErrorKind::TooLarge`], [`ErrorKind::Serialize`], [`ErrorKind::Conflict`],
    /// [`ErrorKind::Random`], [`ErrorKind::KeyRing`].
    pub fn issue(&self, sign_in: impl Into<SignIn<T>>) -> Result<String, Error> {
        let manager = &self.manager;
        let mut draft = Draft::default();
        let next = sign_in.into().resolve(manager, &draft)?;
        let issued_at = manager.issue_at(&next.subject, &next.tags, &manager.seen())?;
        draft.start(next, issued_at)?;
        let (subject, facts) = draft.signed_in()?;
        draft.check_readable(manager)?;
        let nothing = arrival::Arrival::default();
        let parts = draft.parts(&nothing)?;
        token::check_size(0, &parts.blocks())
            .inspect_err(|error| manager.emit(&Event::TooLarge { error }))?;
        let ring = manager.ring();
        let key = ring.seal_key(manager.now())?;
        let token = token::seal(key, manager.bearer_context(), &facts, &parts.blocks())?;
        let expires_at = manager.policy().expires_at(draft.kind(), &facts.times);
        manager.emit(&Event::Issued {
            id: facts.id,
            subject: &subject,
            issued_at: facts.times.issued_at.to_system(),
            expires_at: expires_at.to_system(),
            persistent: facts.persistent,
            tags: &draft.tags,
        });
        Ok(token)
    }

    /// Opens a token and returns the session inside.
    ///
    /// The checks run in this order and stop at the first failure: form, key, authentication,
    /// record, absolute limit, idle limit, revocation, data. Nothing in the record is read before
    /// authentication succeeds.
    ///
    /// # Errors
    ///
    /// Every failure a client can cause satisfies [`ErrorKind::is_rejection`]; answer all alike.
    /// [`ErrorKind::Backend`] means that the revocation list cannot answer.
    pub fn open(&self, token: &str) -> Result<Opened<T>, Error> {
        let manager = &self.manager;
        let at = manager.now();
        let opened = self.authenticate(token, at)?;
        let id = opened.record.facts.id;
        let data = data::from_json(opened.record.data(), manager.migration()).ok_or_else(|| {
            manager.emit(&Event::Rejected { kind: ErrorKind::Data, id: Some(id) });
            Error::new(ErrorKind::Data)
        })?;
        manager.emit(&Event::Opened { id, key: opened.key });
        Ok(Opened { manager: manager.clone(), arrived: opened, at, data })
    }

    /// Opens a token and leaves its data alone: for this crate's own measurements.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Self::open), without [`ErrorKind::Data`].
    #[doc(hidden)]
    pub fn open_lazily(&self, token: &str) -> Result<SessionId, Error> {
        self.authenticate(token, self.manager.now()).map(|opened| opened.record.facts.id)
    }

    fn authenticate(&self, token: &str, at: Timestamp) -> Result<manager::Opened, Error> {
        let manager = &self.manager;
        let opened = manager.authenticate(token.as_bytes(), manager.bearer_context(), at);
        opened.map_err(Error::from)
    }
}

impl<T> Clone for Bearer<T> {
    fn clone(&self) -> Self {
        Self { manager: self.manager.clone(), data: PhantomData }
    }
}

impl<T> fmt::Debug for Bearer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bearer").field("manager", &self.manager).finish()
    }
}

/// The session of a token that opened: authentic, in time, not revoked.
pub struct Opened<T = Map> {
    manager: SessionManager,
    arrived: manager::Opened,
    /// When it was opened: the instant of the client's activity.
    at: Timestamp,
    data: T,
}

impl<T> Opened<T> {
    /// The data.
    pub const fn data(&self) -> &T {
        &self.data
    }

    /// Whose session it is.
    pub fn subject(&self) -> &str {
        self.arrived.record.subject()
    }

    /// The session's identity.
    pub const fn id(&self) -> SessionId {
        self.arrived.record.facts.id
    }

    /// When the session was issued.
    pub fn issued_at(&self) -> SystemTime {
        self.facts().times.issued_at.to_system()
    }

    /// When activity was last written down.
    pub fn refreshed_at(&self) -> SystemTime {
        self.facts().times.refreshed_at().to_system()
    }

    /// The absolute limit: the last instant of the session, whatever the activity.
    pub fn expires_at(&self) -> SystemTime {
        let record = &self.arrived.record;
        self.manager.policy().expires_at(record.kind(), &record.facts.times).to_system()
    }

    /// The last instant of the session if nothing more happens. None without an idle limit.
    pub fn idle_expires_at(&self) -> Option<SystemTime> {
        let record = &self.arrived.record;
        let at = self.manager.policy().idle_expires_at(record.kind(), &record.facts.times)?;
        Some(at.to_system())
    }

    /// How often the session was renewed.
    pub const fn generation(&self) -> u16 {
        self.arrived.record.facts.generation
    }

    /// Whether it was asked to be remembered.
    pub const fn is_persistent(&self) -> bool {
        self.arrived.record.facts.persistent
    }

    /// Writes activity down: the token to hand out next, or None while none is due.
    ///
    /// Call it for requests that a person made. The old token stays good until its own limits.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Revoked`], [`ErrorKind::KeyRevoked`], [`ErrorKind::KeyUnknown`],
    /// [`ErrorKind::Expired`], [`ErrorKind::Idle`] when the session ended meanwhile,
    /// [`ErrorKind::Random`], [`ErrorKind::KeyRing`]. A list that cannot answer any more is no error:
    /// None.
    pub fn refresh(&self) -> Result<Option<String>, Error> {
        let manager::Opened { record, key } = &self.arrived;
        let (manager, now) = (&self.manager, self.manager.now());
        let (facts, ring) = (&record.facts, manager.ring());
        // What came under a key that was revoked meanwhile must not go out under another one.
        ring.check_revoked(*key).map_err(Error::new)?;
        let times = facts.times.refreshed_by(self.at);
        manager.policy().verdict(record.kind(), &times, now).map_err(Error::new)?;
        let due = manager.policy().refresh_due(record.kind(), &facts.times, self.at);
        if !due && !ring.is_superseded(*key, now) {
            return Ok(None);
        }
        match manager.check(&Presented::from(record), now) {
            Ok(Verdict::Clear) => {}
            Ok(_) => return Err(Error::new(ErrorKind::Revoked)),
            Err(_) => return Ok(None),
        }
        let facts = Facts { times, ..*facts };
        let to = ring.seal_key(now)?;
        let token = token::seal(to, manager.bearer_context(), &facts, &record.blocks())?;
        Note::new(facts.id, *key, to.id()).tell(manager);
        Ok(Some(token))
    }

    /// Ends the session, this token and every other of it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] without a revocation list: the token would live on.
    /// [`ErrorKind::Full`].
    pub fn revoke(&self) -> Result<Receipt, Error> {
        let manager = &self.manager;
        if manager.list().is_none() {
            return manager.revoke(crate::revocation::Target::session(self.id()));
        }
        let until = arrival::end_of(&self.facts().times, manager);
        let appended = manager.append(&[Revocation::session(self.id(), until)])?;
        manager.emit(&Event::Revoked { scope: crate::event::Scope::Session, id: Some(self.id()) });
        Ok(appended.receipt)
    }

    const fn facts(&self) -> &Facts {
        &self.arrived.record.facts
    }
}

/// Shows the id, and nothing of subject or data.
impl<T> fmt::Debug for Opened<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened").field("id", &self.id()).finish_non_exhaustive()
    }
}
