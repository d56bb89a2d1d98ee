//! From a request's cookies to its session.

use std::sync::{Arc, Condvar, Mutex};

use super::{Asked, Session, SessionData, Shared, SignIn, State, arrival};
use crate::cookie;
use crate::error::Error;
#[cfg(doc)]
use crate::error::ErrorKind;
use crate::manager::SessionManager;
#[cfg(feature = "tower")]
use crate::random;
use crate::revocation::Seen;

impl SessionManager {
    /// Opens the session of a request.
    ///
    /// `cookies` are the values of all `Cookie` header fields, as strings or bytes; `Some(value)` or
    /// `None` does for one. Every cookie of our name is tried, eight at most. Without one that is
    /// authentic and alive the session is anonymous: what was wrong goes to the observers, never to
    /// the visitor, and the cookie stays where it is.
    ///
    /// Two *different* live sessions under one name are a sign of a planted cookie: the session is
    /// anonymous, and a sign-in or sign-out ends both. Of one session's copies the latest counts.
    ///
    /// Unlike the layers, this knows nothing of the request but its cookies. On one that another site
    /// caused (`Sec-Fetch-Site: cross-site`) the browser may have kept the visitor's cookie back: do
    /// not write to an anonymous session there, or the answer signs the visitor out.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Backend`], only when the revocation list is too old to answer, which one in this
    /// process never is. Answer with status 503 and leave the cookie alone.
    pub fn open<T: SessionData>(
        &self,
        cookies: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ) -> Result<Session<T>, Error> {
        let seen = self.seen();
        let fields: Vec<_> = cookies.into_iter().collect();
        let fields = fields.iter().map(AsRef::as_ref);
        self.open_fields(fields, seen)
    }

    /// Opens the session of a request whose visitor must not have been ended anywhere: reads what is
    /// new in the revocation log first, for 2 s at most, on this thread. In asynchronous code await
    /// [`RevocationList::catch_up`] instead, and open then.
    ///
    /// Without a list, or with one in this process, it is [`open`](Self::open).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Backend`], also when the list is fresh but its log cannot be read now.
    ///
    /// [`RevocationList::catch_up`]: crate::RevocationList::catch_up
    pub fn open_strict<T: SessionData>(
        &self,
        cookies: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ) -> Result<Session<T>, Error> {
        let seen = self.seen();
        self.list().map_or(Ok(()), |list| list.catch_up().wait())?;
        let fields: Vec<_> = cookies.into_iter().collect();
        self.open_fields(fields.iter().map(AsRef::as_ref), seen)
    }

    /// Opens a session that the caller, a layer, will close. `held_back`: the browser may have kept
    /// our cookie back from this request.
    #[cfg(feature = "tower")]
    pub(crate) fn open_layered<'a, T: SessionData>(
        &self,
        fields: impl Iterator<Item = &'a [u8]>,
        seen: Seen,
        held_back: bool,
    ) -> Result<Session<T>, Error> {
        let session = self.open_fields(fields, seen)?;
        let mut state = session.state();
        state.layered = true;
        if held_back && !session.shared.arrival.presented {
            // A write would overwrite a cookie that the visitor may well have. Nothing can be bound
            // to a session that is not known, so what stands in for its id is never seen again.
            state.draft.withheld = Some(random::bytes()?);
        }
        drop(state);
        Ok(session)
    }

    /// Opens a session for a request that began when `seen` was taken.
    fn open_fields<'a, T: SessionData>(
        &self,
        fields: impl Iterator<Item = &'a [u8]>,
        seen: Seen,
    ) -> Result<Session<T>, Error> {
        let candidates = cookie::candidates(fields, self.cookie().name());
        let (arrival, draft) = arrival::judge(self, &candidates)?;
        let state = State {
            draft,
            seen,
            changing: None,
            layered: false,
            closed: false,
            sealed_under: None,
            asked: Asked::default(),
            receipts: Vec::new(),
        };
        let shared = Shared {
            manager: self.clone(),
            arrival,
            state: Mutex::new(state),
            changed: Condvar::new(),
        };
        Ok(Session { shared: Arc::new(shared) })
    }

    /// The value of a `Cookie` header that signs in, for tests of applications. The session is a
    /// real one: it is issued, and observers hear of it.
    ///
    /// ```
    /// # use sealed_session::{KeyRing, ManualClock, Map, SessionManager, SignIn};
    /// # use std::time::{Duration, SystemTime};
    /// let clock = ManualClock::new(SystemTime::now());
    /// let sessions =
    ///     SessionManager::builder("shop", KeyRing::for_tests()?).clock(clock.clone()).build()?;
    ///
    /// let cookie = sessions.cookie_for(SignIn::<Map>::new("root").remember())?;
    /// let csrf = sessions.open::<Map>([&cookie])?.csrf_token()?; // good for that cookie
    ///
    /// clock.advance(Duration::from_secs(6 * 60));
    /// let session = sessions.open::<Map>([&cookie])?;
    /// assert!(session.verify_csrf(&csrf).is_ok());
    /// assert!(!session.signed_in_within(Duration::from_secs(5 * 60)));
    /// # Ok::<(), sealed_session::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`Session::sign_in`] and [`Session::close`].
    pub fn cookie_for<T: SessionData>(
        &self,
        sign_in: impl Into<SignIn<T>>,
    ) -> Result<String, Error> {
        let session: Session<T> = self.open(None::<&str>)?;
        session.sign_in(sign_in)?;
        let set_cookie = session.close()?.into_iter().next().unwrap_or_default();
        Ok(set_cookie.split(';').next().unwrap_or_default().to_owned())
    }
}
