//! Protection against cross-site requests: a token bound to the session, and the decision that
//! browsers' own headers allow.
//!
//! Use both: [`FetchMetadata`] refuses what a browser itself calls cross-site, and the token
//! decides where a browser sends no such headers. `SameSite` cookies are a third line, never the
//! only one (RFC 6265bis 8.8.1).

use crate::base64url;
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind};
use crate::key::{KeyId, KeyRing};
use crate::random;

const RANDOM: usize = 16;
const LENGTH: usize = 4 + RANDOM + 32;

/// What a token is bound to besides its own random bytes.
pub(crate) struct Binding<'a> {
    pub(crate) realm: &'a str,
    pub(crate) name: &'a str,
    /// The session id, or a hash of the tokens that could not be judged.
    pub(crate) to: &'a [u8],
}

impl Binding<'_> {
    /// A fresh token: key id ‖ random ‖ MAC, in base64url, 70 characters. Its own randomness keeps
    /// it safe in compressed pages.
    pub(crate) fn token(&self, ring: &KeyRing, now: Timestamp) -> Result<String, Error> {
        let key = ring.seal_key(now)?;
        let random: [u8; RANDOM] = random::bytes()?;
        let mut bytes = Vec::with_capacity(LENGTH);
        bytes.extend_from_slice(key.id().as_bytes());
        bytes.extend_from_slice(&random);
        bytes.extend_from_slice(&key.csrf_mac(&self.parts(&random)));
        Ok(base64url::encode(&bytes))
    }

    pub(crate) fn verify(&self, token: &str, ring: &KeyRing, now: Timestamp) -> Result<(), Error> {
        if self.matches(token, ring, now) { Ok(()) } else { Err(Error::new(ErrorKind::Csrf)) }
    }

    fn matches(&self, token: &str, ring: &KeyRing, now: Timestamp) -> bool {
        let Some(bytes) = base64url::decode_array::<LENGTH>(token.as_bytes()) else { return false };
        let Some((id, rest)) = bytes.split_first_chunk::<4>() else { return false };
        let Some((random, mac)) = rest.split_first_chunk::<RANDOM>() else { return false };
        ring.open_key(KeyId::from_bytes(*id), now)
            .is_ok_and(|key| key.csrf_verify(&self.parts(random), mac))
    }

    fn parts<'b>(&'b self, random: &'b [u8]) -> [&'b [u8]; 4] {
        [self.realm.as_bytes(), self.name.as_bytes(), self.to, random]
    }
}

/// What browsers say about where a request came from.
///
/// ```
/// # use sealed_session::csrf::{FetchMetadata, Verdict};
/// let request = FetchMetadata::new("POST").sec_fetch_site("cross-site");
/// assert_eq!(request.verdict(&[]), Verdict::CrossSite);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct FetchMetadata<'a> {
    method: &'a str,
    sec_fetch_site: Option<&'a str>,
    origin: Option<&'a str>,
    host: Option<&'a str>,
}

/// The decision of [`FetchMetadata::verdict`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Verdict {
    /// A safe method, or a request from the application's own pages or the visitor's own hand.
    Allowed,
    /// A request that another site, or a sibling host, made the browser send: answer 403.
    CrossSite,
    /// No browser's word on it: let the CSRF token decide.
    Undecided,
}

impl<'a> FetchMetadata<'a> {
    /// A request with this method and none of the headers.
    pub const fn new(method: &'a str) -> Self {
        Self { method, sec_fetch_site: None, origin: None, host: None }
    }

    /// Adds the value of `Sec-Fetch-Site`.
    #[must_use]
    pub const fn sec_fetch_site(mut self, value: &'a str) -> Self {
        self.sec_fetch_site = Some(value);
        self
    }

    /// Adds the value of `Origin`.
    #[must_use]
    pub const fn origin(mut self, value: &'a str) -> Self {
        self.origin = Some(value);
        self
    }

    /// Adds the host the visitor asked for: `Host`, or HTTP/2's `:authority`.
    #[must_use]
    pub const fn host(mut self, value: &'a str) -> Self {
        self.host = Some(value);
        self
    }

    /// Decides, where `trusted` lists further origins that may send requests, such as
    /// `https://pay.example.org`.
    ///
    /// In this order: GET, HEAD and OPTIONS are allowed, since they must not change anything. An
    /// `Origin` in `trusted` is allowed. `Sec-Fetch-Site` of `same-origin` or `none` is allowed,
    /// any other value, `same-site` included, is cross-site. Without it an `Origin` whose host and
    /// port are those of `Host` is undecided, because the scheme cannot be compared; any other
    /// `Origin`, `null` included, is cross-site. With neither header it is undecided.
    ///
    /// A page under `Referrer-Policy: no-referrer` sends its forms with `Origin: null`; a browser
    /// that leaves out `Sec-Fetch-Site`, as all do on plain http, is then refused. Use
    /// `same-origin` as the policy.
    pub fn verdict(&self, trusted: &[&str]) -> Verdict {
        if matches!(self.method, "GET" | "HEAD" | "OPTIONS") {
            return Verdict::Allowed;
        }
        if self.origin.is_some_and(|origin| trusted.contains(&origin)) {
            return Verdict::Allowed;
        }
        match (self.sec_fetch_site, self.origin) {
            (Some("same-origin" | "none"), _) => Verdict::Allowed,
            (None, None) => Verdict::Undecided,
            (None, Some(origin)) if self.is_own(origin) => Verdict::Undecided,
            (Some(_), _) | (None, Some(_)) => Verdict::CrossSite,
        }
    }

    /// Whether an origin names the host that was asked for; a default port may be left out.
    fn is_own(&self, origin: &str) -> bool {
        let Some(host) = self.host else { return false };
        ["https://", "http://"].iter().zip([":443", ":80"]).any(|(scheme, port)| {
            origin.strip_prefix(scheme).is_some_and(|authority| {
                let plain =
                    |text: &'_ str| text.strip_suffix(port).unwrap_or(text).to_ascii_lowercase();
                plain(authority) == plain(host)
            })
        })
    }
}
