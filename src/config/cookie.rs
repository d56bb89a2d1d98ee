//! The table `cookie`: the attributes of the session cookie.

use serde::Deserialize;

use crate::cookie::{Cookie, SameSite};
use crate::error::Error;

#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub(super) struct CookieTable {
    name: Option<String>,
    path: Option<String>,
    domain: Option<String>,
    same_site: Option<Site>,
    partitioned: bool,
    insecure_http: bool,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Site {
    Strict,
    Lax,
    None,
}

impl CookieTable {
    /// Judges the cookie after each field, so that a refusal names the one that does not fit.
    pub(super) fn cookie(&self) -> Result<Cookie, Error> {
        let mut cookie = fitting("insecure_http", self.insecure()?)?;
        if let Some(name) = &self.name {
            cookie = fitting("name", cookie.named(name))?;
        }
        if let Some(path) = &self.path {
            cookie = fitting("path", cookie.path(path))?;
        }
        if let Some(domain) = &self.domain {
            cookie = fitting("domain", cookie.domain(domain))?;
        }
        if let Some(site) = self.same_site {
            cookie = fitting("same_site", cookie.same_site(site.into()))?;
        }
        if self.partitioned {
            cookie = fitting("partitioned", cookie.partitioned())?;
        }
        Ok(cookie)
    }

    fn insecure(&self) -> Result<Cookie, Error> {
        if !self.insecure_http {
            return Ok(Cookie::default());
        }
        let refuse = |field: &str, advice: &str| {
            Err(Error::config(format!("cookie.{field}: {advice}, or leave out insecure_http")))
        };
        if self.name.as_ref().is_some_and(|name| name.starts_with("__")) {
            return refuse("name", "over plain http it must not start with `__`: leave it out");
        }
        if self.domain.is_some() {
            return refuse("domain", "over plain http there is no sharing of hosts: leave it out");
        }
        Ok(Cookie::insecure_http_cookie())
    }
}

impl From<Site> for SameSite {
    fn from(site: Site) -> Self {
        match site {
            Site::Strict => Self::Strict,
            Site::Lax => Self::Lax,
            Site::None => Self::None,
        }
    }
}

fn fitting(field: &str, cookie: Cookie) -> Result<Cookie, Error> {
    cookie.validate().map_err(|error| error.at(&format!("cookie.{field}")))?;
    Ok(cookie)
}
