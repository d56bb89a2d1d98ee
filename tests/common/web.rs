//! What the tests of the layer share: a service made of a closure, and a response at once.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]
#![allow(clippy::panic, clippy::unwrap_used, reason = "helpers of tests")]

use std::convert::Infallible;
use std::future::{self, Future};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use http::header::{COOKIE, HeaderMap, SET_COOKIE};
use http::{Request, Response};
use sealed_session::{Error, Session, SessionData};
use tower::util::ServiceExt as _;
use tower::{Service, service_fn};

/// Drives a future that waits for nobody but itself.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let (mut future, mut cx) = (pin!(future), Context::from_waker(Waker::noop()));
    for _ in 0..1_000 {
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return output;
        }
    }
    panic!("the future waits for something that does not come");
}

/// A service that answers with what `handler` makes of the request.
pub fn handler<B>(
    handler: impl Fn(&Request<()>) -> Response<B> + Clone,
) -> impl Service<Request<()>, Response = Response<B>, Error = Infallible, Future: Send> + Clone
where
    B: Send,
{
    service_fn(move |request: Request<()>| future::ready(Ok(handler(&request))))
}

/// One request to a service.
pub fn call<S, B>(service: S, request: Request<()>) -> Response<B>
where
    S: Service<Request<()>, Response = Response<B>, Error = Infallible>,
{
    let Ok(response) = block_on(service.oneshot(request));
    response
}

/// A request with these `Cookie` fields.
pub fn request<'a>(cookies: impl IntoIterator<Item = &'a str>) -> Request<()> {
    cookies
        .into_iter()
        .fold(Request::builder(), |request, cookie| request.header(COOKIE, cookie))
        .body(())
        .unwrap()
}

/// The session that a handler gets.
pub fn session<T: SessionData>(request: &Request<()>) -> Session<T> {
    opened(request).unwrap()
}

pub fn opened<T: SessionData>(request: &Request<()>) -> Result<Session<T>, Error> {
    Session::from_extensions(request.extensions())
}

pub fn ok() -> Response<&'static str> {
    Response::new("body")
}

/// All values of `Set-Cookie`, in order.
pub fn set_cookies(headers: &HeaderMap) -> Vec<&str> {
    headers.get_all(SET_COOKIE).iter().map(|value| value.to_str().unwrap()).collect()
}

/// The names of the cookies that a response sets, in order.
pub fn names<B>(response: &Response<B>) -> Vec<&str> {
    set_cookies(response.headers())
        .into_iter()
        .map(|value| value.split_once('=').unwrap().0)
        .collect()
}

/// What a browser sends back of the cookies that a response sets.
pub fn cookie_of<B>(response: &Response<B>) -> String {
    let pair = |value: &str| value.split(';').next().unwrap().to_owned();
    set_cookies(response.headers()).into_iter().map(pair).collect::<Vec<_>>().join("; ")
}
