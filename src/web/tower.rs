//! The layer for tower services on `http` 1 requests.
//!
//! The layer puts a closed envelope into the request's extensions; who looks at the session opens
//! it. A request whose handler does not look costs a few allocations and no cryptography. The layer
//! never answers by itself, and it adds its headers to every response, errors included.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use http::header::{COOKIE, HeaderValue};
use http::{Extensions, Request, Response};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::error::{Error, ErrorKind};
use crate::event::Event;
use crate::manager::SessionManager;
use crate::revocation::Seen;
use crate::session::{Closing, Map, Session, SessionData};

/// Adds the session of data `T` to every request that passes.
///
/// Layers of different `T` stack; each needs a manager with a cookie name of its own. Of the same
/// layer twice the inner one does nothing.
pub struct SessionLayer<T = Map> {
    manager: SessionManager,
    data: PhantomData<fn() -> T>,
}

impl<T: SessionData> SessionLayer<T> {
    /// A layer of this manager's sessions.
    pub const fn new(manager: SessionManager) -> Self {
        Self { manager, data: PhantomData }
    }
}

impl<S, T: SessionData> Layer<S> for SessionLayer<T> {
    type Service = SessionService<S, T>;

    fn layer(&self, inner: S) -> Self::Service {
        SessionService { inner, layer: self.clone() }
    }
}

impl<T> Clone for SessionLayer<T> {
    fn clone(&self) -> Self {
        Self { manager: self.manager.clone(), data: PhantomData }
    }
}

impl<T> fmt::Debug for SessionLayer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionLayer").field("manager", &self.manager).finish()
    }
}

/// The service that [`SessionLayer`] makes.
pub struct SessionService<S, T = Map> {
    inner: S,
    layer: SessionLayer<T>,
}

impl<S: Clone, T> Clone for SessionService<S, T> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), layer: self.layer.clone() }
    }
}

impl<S: fmt::Debug, T> fmt::Debug for SessionService<S, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { inner, layer } = self;
        f.debug_struct("SessionService").field("inner", inner).field("layer", layer).finish()
    }
}

impl<S, T, Q, A> Service<Request<Q>> for SessionService<S, T>
where
    S: Service<Request<Q>, Response = Response<A>>,
    T: SessionData,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, T, A>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Q>) -> Self::Future {
        let sent = Envelope::seal_into(&mut request, &self.layer.manager).map(Sent);
        ResponseFuture { inner: self.inner.call(request), sent, answer: None }
    }
}

pin_project! {
    /// The future of [`SessionService`].
    pub struct ResponseFuture<F, T, A> {
        #[pin]
        inner: F,
        sent: Option<Sent<T>>,
        // The inner answer, while revocations of this request are on their way to a backend.
        answer: Option<(Response<A>, Closing)>,
    }
}

/// The layer's end of an envelope. Dropping it, after the answer or because the request was
/// cancelled or failed, ends all changes: whoever still holds the session must not think that they
/// reach the visitor.
struct Sent<T>(Envelope<T>);

impl<T> Drop for Sent<T> {
    fn drop(&mut self) {
        if let Slot::Lazy(lazy) = &*self.0.slot
            && let Some(Ok(session)) = lazy.opened.get_or_init(|| None)
        {
            session.refuse_changes();
        }
    }
}

impl<F, T, A, E> Future for ResponseFuture<F, T, A>
where
    F: Future<Output = Result<Response<A>, E>>,
    T: SessionData,
{
    type Output = Result<Response<A>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if this.answer.is_none() {
            let response = ready!(this.inner.as_mut().poll(cx))?;
            match this.sent.as_ref().and_then(|sent| sent.0.close()) {
                Some(closing) => *this.answer = Some((response, closing)),
                None => return Poll::Ready(Ok(response)),
            }
        }
        for receipt in this.answer.iter_mut().flat_map(|(_, closing)| &mut closing.receipts) {
            // An error was an event, and the revocation is in force here and retried.
            let _ = ready!(Pin::new(receipt).poll(cx));
        }
        match this.answer.take() {
            Some((mut response, closing)) => {
                closing.apply(response.headers_mut());
                Poll::Ready(Ok(response))
            }
            None => Poll::Pending,
        }
    }
}

/// A session in a request's extensions, not opened yet.
struct Envelope<T> {
    slot: Arc<Slot<T>>,
}

enum Slot<T> {
    /// What it takes to open the session on the first look.
    Lazy(Lazy<T>),
    /// Another layer above has a cookie of the same name.
    Clash { name: String },
}

struct Lazy<T> {
    manager: SessionManager,
    cookies: Vec<HeaderValue>,
    /// Whether the browser may have kept our cookie back from this request.
    held_back: bool,
    seen: Seen,
    /// None where the response began before anyone had looked.
    opened: OnceLock<Option<Result<Session<T>, Error>>>,
    /// For those who look only then, and can change nothing.
    late: OnceLock<Result<Session<T>, Error>>,
}

impl<T> Clone for Envelope<T> {
    fn clone(&self) -> Self {
        Self { slot: Arc::clone(&self.slot) }
    }
}

impl<T: SessionData> Envelope<T> {
    /// Puts an envelope into a request. None where the same layer above has done so.
    fn seal_into<Q>(request: &mut Request<Q>, manager: &SessionManager) -> Option<Self> {
        let above = request.extensions().get::<Self>();
        if above.is_some_and(|above| above.is_of(manager)) {
            return None;
        }
        let name = manager.cookie().name();
        let mut names = request.extensions().get::<CookieNames>().cloned().unwrap_or_default();
        let slot = if names.0.iter().any(|above| above == name) {
            Slot::Clash { name: name.to_owned() }
        } else {
            names.0.push(name.to_owned());
            Slot::Lazy(Lazy {
                manager: manager.clone(),
                cookies: request.headers().get_all(COOKIE).iter().cloned().collect(),
                held_back: manager.cookie().may_be_held_back(
                    request.method().as_str(),
                    request.headers().get("sec-fetch-site").map(HeaderValue::as_bytes),
                ),
                seen: manager.seen(),
                opened: OnceLock::new(),
                late: OnceLock::new(),
            })
        };
        let envelope = Self { slot: Arc::new(slot) };
        request.extensions_mut().insert(names);
        request.extensions_mut().insert(envelope.clone());
        Some(envelope)
    }

    fn is_of(&self, other: &SessionManager) -> bool {
        match &*self.slot {
            Slot::Lazy(lazy) => lazy.manager.is(other),
            Slot::Clash { .. } => false,
        }
    }

    fn open(&self) -> Result<Session<T>, Error> {
        match &*self.slot {
            Slot::Lazy(lazy) => lazy.open(),
            Slot::Clash { name } => Err(Error::with_detail(
                ErrorKind::NoLayer,
                format!("two session layers share the cookie name {name}: rename one of them"),
            )),
        }
    }

    /// Closes the session, if anyone looked at it.
    fn close(&self) -> Option<Closing> {
        match &*self.slot {
            Slot::Lazy(lazy) => lazy.close(),
            Slot::Clash { .. } => None,
        }
    }
}

impl<T: SessionData> Lazy<T> {
    fn open(&self) -> Result<Session<T>, Error> {
        let open = || {
            let fields = self.cookies.iter().map(HeaderValue::as_bytes);
            self.manager.open_layered(fields, self.seen.clone(), self.held_back)
        };
        // One cell decides which came first: the look, whose session `close` then commits, or the
        // response, after which nobody gets a session that takes changes.
        match self.opened.get_or_init(|| Some(open())) {
            Some(session) => session.clone(),
            None => self.late.get_or_init(|| open().inspect(Session::refuse_changes)).clone(),
        }
    }

    fn close(&self) -> Option<Closing> {
        let session = self.opened.get_or_init(|| None).as_ref()?.as_ref().ok()?;
        let tell = |error: &Error| self.manager.emit(&Event::NotSent { error });
        let closing = session.commit().inspect_err(tell).ok()?;
        closing.failure.iter().for_each(tell);
        Some(closing)
    }
}

/// The cookie names of all session layers that a request has passed.
#[derive(Clone, Default)]
struct CookieNames(Vec<String>);

/// The manager of the layer that a request has passed, if there is one.
#[cfg(feature = "axum")]
pub(super) fn manager_of<T: SessionData>(extensions: &Extensions) -> Option<SessionManager> {
    match &*extensions.get::<Envelope<T>>()?.slot {
        Slot::Lazy(lazy) => Some(lazy.manager.clone()),
        Slot::Clash { .. } => None,
    }
}

impl<T: SessionData> Session<T> {
    /// The session of a request, out of its extensions. The first call opens it, and counts as
    /// activity; all later ones give the same session.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NoLayer`] where no [`SessionLayer`] of this `T` was passed, with a message that
    /// names it; [`ErrorKind::Backend`] when the revocation list cannot answer: 503.
    pub fn from_extensions(extensions: &Extensions) -> Result<Self, Error> {
        match extensions.get::<Envelope<T>>() {
            Some(envelope) => envelope.open(),
            None => Err(Error::with_detail(
                ErrorKind::NoLayer,
                format!(
                    "add SessionLayer::<{}>::new(..), after the routes that need it",
                    std::any::type_name::<T>()
                ),
            )),
        }
    }
}
