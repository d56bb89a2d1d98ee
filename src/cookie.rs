//! The session cookie: its attributes, `Cookie` header bytes in, `Set-Cookie` values out.
//!
//! Nothing here knows what a token is. Names of the kind CK-7 are rows of the standards table in
//! SECURITY.md.

mod check;
mod read;
mod write;

#[cfg(test)]
mod browser;

pub(crate) use read::{Candidates, candidates};

/// The attributes of the session cookie: everything but its value.
///
/// The default is `__Host-Http-id; Path=/; Secure; HttpOnly; SameSite=Lax`, and most applications
/// need no other. `HttpOnly` and `SameSite` are always written and cannot be left out.
///
/// What browsers would drop, or store otherwise than asked for, is refused when the session
/// manager is built, as [`ErrorKind::Config`](crate::ErrorKind::Config): a name that is not an
/// RFC 9110 token of 1 to 128 bytes, a name prefix in the wrong letter case or without what it
/// promises, `SameSite=None` or `Partitioned` without `Secure`, a path or domain that no browser
/// takes as it stands. Tokens are bound to the cookie's name. Change the name whenever you change
/// path or domain: browsers keep the old cookie beside the new one.
///
/// # Name prefixes
///
/// Browsers let a cookie whose name has one of these prefixes be set only with the attributes that
/// go with it, so that a sibling host or a script cannot plant one.
///
/// | prefix | the cookie must have |
/// |---|---|
/// | `__Host-Http-` | `Secure`, `HttpOnly`, `Path=/`, no `Domain` |
/// | `__Host-` | `Secure`, `Path=/`, no `Domain` |
/// | `__Http-` | `Secure`, `HttpOnly` |
/// | `__Secure-` | `Secure` |
///
/// Browsers older than `__Http-` ignore it. They still read `__Host-Http-` as `__Host-`, so the
/// default name is nowhere weaker than a `__Host-` name.
///
/// ```
/// use sealed_session::{Cookie, SameSite};
///
/// let shared = Cookie::new("__Secure-id").domain("example.com").same_site(SameSite::Strict);
///
/// assert_ne!(shared, Cookie::default());
/// assert_eq!(Cookie::new("__Host-Http-id"), Cookie::default());
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Cookie {
    name: String,
    path: String,
    domain: Option<String>,
    secure: bool,
    same_site: SameSite,
    partitioned: bool,
}

impl Cookie {
    /// A cookie with the default attributes under another name.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            path: "/".to_owned(),
            domain: None,
            secure: true,
            same_site: SameSite::Lax,
            partitioned: false,
        }
    }

    /// A cookie named `id` without `Secure`, for development hosts that are reached over plain
    /// http. Anyone on the network can read and replace it.
    ///
    /// `http://localhost` does not need it in Chromium and Firefox, which treat that host as
    /// secure and store the default cookie there. Safari has refused `Secure` cookies on
    /// `http://localhost`.
    ///
    /// ```
    /// # use sealed_session::Cookie;
    /// let cookie = Cookie::insecure_http_cookie().path("/shop");
    /// assert_ne!(cookie, Cookie::new("id").path("/shop"));
    /// ```
    pub fn insecure_http_cookie() -> Self {
        Self { secure: false, ..Self::new("id") }
    }

    /// Restricts the cookie to paths below `path`. The default is `/`.
    ///
    /// A path separates applications, it does not protect them from each other. `/shop` covers
    /// `/shop` and `/shop/cart`, not `/shopping`.
    #[must_use]
    pub fn path(self, path: impl Into<String>) -> Self {
        Self { path: path.into(), ..self }
    }

    /// Sends the cookie to `domain` and to every host below it. The default is none: the cookie
    /// goes to the host that set it alone.
    ///
    /// Every one of those hosts can then read and replace the session. A `Secure` cookie with a
    /// domain must be named `__Secure-…` or `__Http-…`. Write the domain in lower case, without a
    /// leading dot. Browsers also refuse public suffixes such as `co.uk`; of these, only those of
    /// one label are found out here.
    #[must_use]
    pub fn domain(self, domain: impl Into<String>) -> Self {
        Self { domain: Some(domain.into()), ..self }
    }

    /// Sets which cross-site requests carry the cookie. The default is [`SameSite::Lax`].
    #[must_use]
    pub fn same_site(self, same_site: SameSite) -> Self {
        Self { same_site, ..self }
    }

    /// Keeps one cookie per top-level site (`Partitioned`, CHIPS), for pages in a frame of another
    /// site. Such pages need [`SameSite::None`] too.
    #[must_use]
    pub fn partitioned(self) -> Self {
        Self { partitioned: true, ..self }
    }

    /// The same cookie under another name.
    pub(crate) fn named(self, name: impl Into<String>) -> Self {
        Self { name: name.into(), ..self }
    }

    /// Whether a browser may have kept this cookie back from a request that another site caused: its
    /// absence then does not mean that the visitor has none (RFC 6265bis 5.6.7.1).
    #[cfg(feature = "tower")]
    pub(crate) fn may_be_held_back(&self, method: &str, sec_fetch_site: Option<&[u8]>) -> bool {
        sec_fetch_site == Some(b"cross-site")
            && match self.same_site {
                SameSite::Strict => true,
                SameSite::Lax => !matches!(method, "GET" | "HEAD" | "OPTIONS" | "TRACE"),
                SameSite::None => false,
            }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

impl Default for Cookie {
    /// `__Host-Http-id; Path=/; Secure; HttpOnly; SameSite=Lax`.
    fn default() -> Self {
        Self::new("__Host-Http-id")
    }
}

/// Which cross-site requests carry the cookie.
///
/// `Strict` and `Lax` cookies cannot be set either by the answer to a cross-site subresource
/// request, such as an image, a script or a `fetch`.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum SameSite {
    /// None of them, not even a followed link: who comes from another site seems signed out at
    /// first. Breaks the redirect back from an identity provider.
    Strict,
    /// Followed links and redirects by a safe method, such as GET. Breaks callbacks that an
    /// identity provider sends by POST (`response_mode=form_post`): keep the state of such a
    /// sign-in in a cookie of its own, `SameSite=None; Secure` and a few minutes long.
    Lax,
    /// All of them. Only over https, and only together with CSRF tokens.
    None,
}
