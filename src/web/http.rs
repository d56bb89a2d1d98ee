//! The two twins on `http` 1 types: a session from request headers, and the answer's headers.

use http::header::{COOKIE, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN, SET_COOKIE, VARY};
use http::{Method, Uri};

use super::caching;
use crate::csrf::FetchMetadata;
use crate::error::Error;
use crate::event::Event;
use crate::manager::SessionManager;
use crate::session::{Closing, Session, SessionData};

impl SessionManager {
    /// Opens the session of a request: [`open`](Self::open) on the request's headers.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Self::open).
    pub fn open_headers<T: SessionData>(&self, headers: &HeaderMap) -> Result<Session<T>, Error> {
        self.open(headers.get_all(COOKIE))
    }
}

impl Closing {
    /// Writes the answer's headers.
    ///
    /// The session cookie is added beside the cookies of others, in place of an earlier one of the
    /// same name (RFC 6265bis 4.1.1). With it, `Cache-Control` becomes `no-store` unless it says
    /// `no-store` or `private` already, and `CDN-Cache-Control` and `Surrogate-Control` go: a cache
    /// must not hand one visitor's session to the next. A mere refresh is left out instead where
    /// the handler made its answer public. `Vary` names `Cookie`, since the session was looked at.
    pub fn apply(self, headers: &mut HeaderMap) {
        vary_by_cookie(headers);
        let Self { manager, set_cookie, .. } = self;
        let Some(set_cookie) = set_cookie else { return };
        if let Some(note) = set_cookie.refreshed {
            if caching::is_public(headers) {
                manager.emit(&Event::RefreshSkipped { id: note.id });
                return;
            }
            note.tell(&manager);
        }
        // A token, a name and attributes that were checked are always a header value.
        let Ok(mut value) = HeaderValue::try_from(set_cookie.text) else { return };
        value.set_sensitive(true);
        remove_own(headers, manager.cookie().name());
        headers.append(SET_COOKIE, value);
        for header in caching::keep_private(headers) {
            manager.emit(&Event::CacheHeaderChanged { header });
        }
    }
}

impl<'a> FetchMetadata<'a> {
    /// The facts of a request: its method, `Sec-Fetch-Site`, `Origin`, and its authority or `Host`.
    pub fn of(method: &'a Method, uri: &'a Uri, headers: &'a HeaderMap) -> Self {
        let text = |name: HeaderName| {
            // A value that is no text is somebody's attempt: no site has that name.
            headers.get(name).map(|value| value.to_str().unwrap_or("?"))
        };
        let mut facts = Self::new(method.as_str());
        if let Some(site) = text(HeaderName::from_static("sec-fetch-site")) {
            facts = facts.sec_fetch_site(site);
        }
        if let Some(origin) = text(ORIGIN) {
            facts = facts.origin(origin);
        }
        match text(HOST).or_else(|| uri.authority().map(http::uri::Authority::as_str)) {
            Some(host) => facts.host(host),
            None => facts,
        }
    }
}

fn vary_by_cookie(headers: &mut HeaderMap) {
    let named = headers.get_all(VARY).iter().any(|value| {
        value.as_bytes().split(|byte| *byte == b',').any(|field| {
            let field = field.trim_ascii();
            field == b"*" || field.eq_ignore_ascii_case(b"cookie")
        })
    });
    if !named {
        headers.append(VARY, HeaderValue::from_static("Cookie"));
    }
}

/// Removes an earlier cookie of our name, which the handler may have set by other means.
fn remove_own(headers: &mut HeaderMap, name: &str) {
    let is_own = |value: &HeaderValue| {
        value.as_bytes().strip_prefix(name.as_bytes()).is_some_and(|rest| rest.starts_with(b"="))
    };
    if headers.get_all(SET_COOKIE).iter().any(is_own) {
        let others: Vec<HeaderValue> =
            headers.get_all(SET_COOKIE).iter().filter(|value| !is_own(value)).cloned().collect();
        headers.remove(SET_COOKIE);
        for other in others {
            headers.append(SET_COOKIE, other);
        }
    }
}
