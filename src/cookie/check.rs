//! What a session cookie must not be: what browsers would refuse or silently change.

use std::fmt::Display;

use super::{Cookie, SameSite};
use crate::error::Error;

impl Cookie {
    /// Refuses what browsers would refuse or silently change.
    ///
    /// # Errors
    ///
    /// `ErrorKind::Config`; the message names the attribute and what to write instead.
    pub(crate) fn validate(&self) -> Result<(), Error> {
        check_name(&self.name)?;
        check_path(&self.path)?;
        self.domain.as_deref().map_or(Ok(()), check_domain)?;
        self.check_prefix()?;
        self.check_secure()
    }

    /// Rows CK-10 and CK-11. Browsers match prefixes in any letter case and then judge the cookie
    /// by them; servers compare names byte by byte. So only one spelling of each is let through.
    /// `HttpOnly`, which two of them ask for, is always there: the algorithm in the layered-cookies
    /// draft that wants it absent contradicts its own prose (CK-12).
    fn check_prefix(&self) -> Result<(), Error> {
        if has_prefix(&self.name, "__HostHttp-") {
            return refuse(
                "no browser enforces the name prefix `__HostHttp-`, write `__Host-Http-`",
            );
        }
        let Some(prefix) = PREFIXES.into_iter().find(|prefix| has_prefix(&self.name, prefix))
        else {
            return Ok(());
        };
        if !self.name.starts_with(prefix) {
            return refuse(format!("spell the prefix of the name exactly `{prefix}`"));
        }
        if !self.secure {
            return refuse(format!("a name with `{prefix}` needs Secure, choose another name"));
        }
        if prefix.starts_with("__Host-") && self.domain.is_some() {
            return refuse(format!(
                "a name with `{prefix}` allows no Domain, leave it out or name the cookie `__Secure-…`"
            ));
        }
        if prefix.starts_with("__Host-") && self.path != "/" {
            return refuse(format!(
                "a name with `{prefix}` needs the Path `/`, leave it so or name the cookie `__Http-…`"
            ));
        }
        Ok(())
    }

    fn check_secure(&self) -> Result<(), Error> {
        if !self.secure && self.same_site == SameSite::None {
            return refuse("SameSite=None needs Secure, over plain http write Lax");
        }
        if !self.secure && self.partitioned {
            return refuse("Partitioned needs Secure, leave it out over plain http");
        }
        let promises_secure = ["__Secure-", "__Http-"].iter().any(|p| self.name.starts_with(p));
        if self.secure && self.domain.is_some() && !promises_secure {
            return refuse("with a Domain, the name must start with `__Secure-` or `__Http-`");
        }
        Ok(())
    }
}

/// Longest first: `__Host-` begins `__Host-Http-`.
const PREFIXES: [&str; 4] = ["__Host-Http-", "__Host-", "__Secure-", "__Http-"];

fn has_prefix(name: &str, prefix: &str) -> bool {
    name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

fn check_name(name: &str) -> Result<(), Error> {
    if name.is_empty() || name.len() > 128 {
        return refuse("the name must have 1 to 128 bytes");
    }
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)) {
        return refuse("the name may hold letters, digits and ! # $ % & ' * + - . ^ _ ` | ~ only");
    }
    Ok(())
}

/// Browsers ignore an attribute over 1024 octets and keep the cookie, under the default path
/// (CK-4). They compare with the path as it stands in the request, where a space is `%20`.
fn check_path(path: &str) -> Result<(), Error> {
    if !path.starts_with('/') {
        return refuse("the Path must start with `/`");
    }
    if path.len() > 1024 {
        return refuse("the Path must have at most 1024 bytes");
    }
    if !path.bytes().all(|b| b.is_ascii_graphic() && b != b';') {
        return refuse("the Path may hold visible ASCII without `;` only, percent-encode the rest");
    }
    Ok(())
}

fn check_domain(domain: &str) -> Result<(), Error> {
    if domain.starts_with('.') {
        return refuse(
            "leave out the leading dot of the Domain, hosts below it are included anyway",
        );
    }
    if is_ip_address(domain) {
        return refuse("the Domain must be no IP address and have no port, leave it out");
    }
    if !domain.is_ascii() {
        return refuse("write the Domain in ASCII, an international name as `xn--…`");
    }
    if domain.bytes().any(|b| b.is_ascii_uppercase()) {
        return refuse("write the Domain in lower case");
    }
    if domain.len() > 253 || !domain.split('.').all(is_label) {
        return refuse(
            "the Domain must be labels of letters, digits and inner hyphens, joined by single dots, \
             at most 63 bytes each and 253 in all",
        );
    }
    if !domain.contains('.') {
        return refuse("the Domain must have two labels or more, leave it out for a single host");
    }
    Ok(())
}

/// Also where only the last label is a number: URLs read every such host as IPv4.
fn is_ip_address(domain: &str) -> bool {
    let last = domain.rsplit('.').next().unwrap_or_default();
    domain.contains(':')
        || (!last.is_empty() && last.bytes().all(|b| b.is_ascii_digit()))
        || last.strip_prefix("0x").is_some_and(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

fn refuse(detail: impl Display) -> Result<(), Error> {
    Err(Error::config(format!("session cookie: {detail}")))
}

#[cfg(test)]
mod tests {
    use super::super::browser;
    use super::*;

    /// RFC 6265bis 5.4: each spelling of a prefix, with some attributes, and whether a browser
    /// stores it when it comes from a secure page.
    const PREFIX_EXAMPLES: [(&str, bool); 16] = [
        ("__Secure-SID=12345; Domain=site.example", false),
        ("__secure-SID=12345; Domain=site.example", false),
        ("__SECURE-SID=12345; Domain=site.example", false),
        ("__Secure-SID=12345; Domain=site.example; Secure", true),
        ("__secure-SID=12345; Domain=site.example; Secure", true),
        ("__SECURE-SID=12345; Domain=site.example; Secure", true),
        ("__Host-SID=12345", false),
        ("__host-SID=12345; Secure", false),
        ("__host-SID=12345; Domain=site.example", false),
        ("__HOST-SID=12345; Domain=site.example; Path=/", false),
        ("__Host-SID=12345; Secure; Domain=site.example; Path=/", false),
        ("__host-SID=12345; Secure; Domain=site.example; Path=/", false),
        ("__HOST-SID=12345; Secure; Domain=site.example; Path=/", false),
        ("__Host-SID=12345; Secure; Path=/", true),
        ("__host-SID=12345; Secure; Path=/", true),
        ("__HOST-SID=12345; Secure; Path=/", true),
    ];

    #[test]
    fn the_prefix_examples_of_the_standard_are_refused_where_a_browser_refuses_them() {
        for (example, stored) in PREFIX_EXAMPLES {
            assert_eq!(browser::store(example).is_some(), stored, "{example}");

            let name = example.split('=').next().unwrap_or_default();
            let exact = name.starts_with("__Host-") || name.starts_with("__Secure-");
            let cookie = Cookie {
                secure: example.contains("Secure;") || example.ends_with("Secure"),
                domain: example.contains("Domain").then(|| "site.example".to_owned()),
                // We always write a path. What takes the place of a missing one is the default.
                path: if example.ends_with("Path=/") { "/" } else { "/default" }.to_owned(),
                ..Cookie::new(name)
            };
            assert_eq!(cookie.validate().is_ok(), stored && exact, "{example}");
        }
    }

    #[test]
    fn prefixes_need_secure() {
        for prefix in PREFIXES {
            let cookie = Cookie::new(format!("{prefix}id"));
            assert!(cookie.validate().is_ok(), "{prefix}");
            assert!(Cookie { secure: false, ..cookie }.validate().is_err(), "{prefix}");
        }
    }
}
