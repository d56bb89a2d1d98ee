//! Writes `Set-Cookie` values.

use std::fmt::Write as _;

use super::{Cookie, SameSite};

impl Cookie {
    /// The `Set-Cookie` value that stores `value`, until the browser closes or for `max_age`
    /// seconds, of which browsers honour 400 days (CK-7).
    pub(crate) fn set(&self, value: &str, max_age: Option<u64>) -> String {
        let mut out = String::with_capacity(self.max_len(value));
        out.push_str(&self.name);
        out.push('=');
        out.push_str(value);
        out.push_str("; Path=");
        out.push_str(&self.path);
        if let Some(domain) = &self.domain {
            out.push_str("; Domain=");
            out.push_str(domain);
        }
        if let Some(seconds) = max_age {
            // Writing to a String cannot fail.
            let _ = write!(out, "; Max-Age={}", seconds.min(MAX_AGE));
        }
        if self.secure {
            out.push_str("; Secure");
        }
        out.push_str("; HttpOnly; SameSite=");
        out.push_str(match self.same_site {
            SameSite::Strict => "Strict",
            SameSite::Lax => "Lax",
            SameSite::None => "None",
        });
        if self.partitioned {
            out.push_str("; Partitioned");
        }
        out
    }

    /// The `Set-Cookie` value that removes the cookie: every attribute as at creation, or browsers
    /// would take it for another cookie (CK-26). No `Expires`, since `Max-Age` wins over it (CK-6).
    pub(crate) fn remove(&self) -> String {
        self.set("", Some(0))
    }

    fn max_len(&self, value: &str) -> usize {
        let domain = self.domain.as_ref().map_or(0, String::len);
        [self.name.len(), value.len(), self.path.len(), domain]
            .into_iter()
            .fold(ALL_ATTRIBUTES.len(), usize::saturating_add)
    }
}

/// 400 days in seconds.
const MAX_AGE: u64 = 34_560_000;

/// As long as everything around the name, value, path and domain can get.
const ALL_ATTRIBUTES: &str =
    "=; Path=; Domain=; Max-Age=34560000; Secure; HttpOnly; SameSite=Strict; Partitioned";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::super::browser::{Stored, store};
    use super::*;

    fn cookie() -> impl Strategy<Value = Cookie> {
        let prefix = select(vec!["", "__Host-Http-", "__Host-", "__Http-", "__Secure-", "__host-"]);
        let name = (prefix, "([a-zA-Z0-9!#$%&'*+.^_`|~-]{1,20}|\\PC{0,3})");
        let name = name.prop_map(|(prefix, rest)| format!("{prefix}{rest}"));
        let path = prop_oneof![3 => Just("/".to_owned()), 1 => "/[ -~]{0,8}", 1 => "\\PC{0,4}"];
        let domain = prop_oneof![
            2 => Just(None),
            1 => Just(Some("example.com".to_owned())),
            1 => proptest::option::of("[.a-zA-Z0-9é-]{0,9}"),
        ];
        let same_site = select(vec![SameSite::Strict, SameSite::Lax, SameSite::None]);
        (name, path, domain, any::<bool>(), same_site, any::<bool>()).prop_map(
            |(name, path, domain, secure, same_site, partitioned)| Cookie {
                name,
                path,
                domain,
                secure,
                same_site,
                partitioned,
            },
        )
    }

    /// What we ask a browser to store.
    fn wanted(cookie: &Cookie, value: &str, max_age: Option<i64>) -> Stored {
        Stored {
            name: cookie.name.clone(),
            value: value.to_owned(),
            domain: cookie.domain.clone(),
            path: Some(cookie.path.clone()),
            max_age,
            secure: cookie.secure,
            http_only: true,
            same_site: Some(format!("{:?}", cookie.same_site).to_lowercase()),
            partitioned: cookie.partitioned,
        }
    }

    proptest! {
        #[test]
        fn browsers_store_every_accepted_cookie_as_asked(
            cookie in cookie(),
            value in "[A-Za-z0-9_-]{1,40}",
            max_age in proptest::option::of(0..40_000_000_u64),
        ) {
            if cookie.validate().is_ok() {
                let capped = max_age.map(|seconds| i64::try_from(seconds.min(34_560_000)).unwrap());
                let header = cookie.set(&value, max_age);
                prop_assert_eq!(store(&header), Some(wanted(&cookie, &value, capped)));
                prop_assert!(header.len() <= cookie.max_len(&value));
                prop_assert_eq!(store(&cookie.remove()), Some(wanted(&cookie, "", Some(0))));
            }
        }
    }

    #[test]
    fn max_age_is_capped_at_400_days() {
        let max_age = |seconds| store(&Cookie::default().set("v", Some(seconds))).unwrap().max_age;
        assert_eq!(max_age(34_559_999), Some(34_559_999));
        assert!(Cookie::default().set("v", Some(34_560_001)).contains("; Max-Age=34560000;"));
        assert!(Cookie::default().set("v", Some(u64::MAX)).contains("; Max-Age=34560000;"));
    }

    #[test]
    fn the_longest_cookie_is_allocated_once() {
        let cookie =
            Cookie::new("id").same_site(SameSite::Strict).partitioned().domain("a.example");
        let header = cookie.set("value", Some(u64::MAX));
        assert_eq!(header.len(), cookie.max_len("value"));
        assert_eq!(header.capacity(), header.len());
    }
}
