//! What a browser stores for one `Set-Cookie` value: RFC 6265bis 5.6 and 5.7, and the prefixes of
//! the layered-cookies draft. An oracle for tests, written from the drafts, not from our writer.

/// A cookie as a browser keeps it after an answer from a secure page of `site.example`.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Stored {
    pub(crate) name: String,
    pub(crate) value: String,
    pub(crate) domain: Option<String>,
    /// None where the default path of the request would be taken.
    pub(crate) path: Option<String>,
    pub(crate) max_age: Option<i64>,
    pub(crate) secure: bool,
    pub(crate) http_only: bool,
    pub(crate) same_site: Option<String>,
    pub(crate) partitioned: bool,
}

/// None where the browser ignores the whole header.
pub(crate) fn store(header: &str) -> Option<Stored> {
    if header.bytes().any(|b| (b < 0x20 && b != b'\t') || b == 0x7F) {
        return None;
    }
    let (pair, attributes) = header.split_once(';').unwrap_or((header, ""));
    let (name, value) = pair.split_once('=').unwrap_or(("", pair));
    let (name, value) = (trim(name), trim(value));
    if name.len().saturating_add(value.len()) > 4096 || (name.is_empty() && value.is_empty()) {
        return None;
    }
    let mut cookie = Stored {
        name: name.to_owned(),
        value: value.to_owned(),
        domain: None,
        path: None,
        max_age: None,
        secure: false,
        http_only: false,
        same_site: None,
        partitioned: false,
    };
    // The last of equal attributes counts; one over 1024 octets is ignored.
    for attribute in attributes.split(';') {
        let (key, value) = attribute.split_once('=').unwrap_or((attribute, ""));
        let (key, value) = (trim(key).to_ascii_lowercase(), trim(value));
        if value.len() <= 1024 {
            cookie.attribute(&key, value);
        }
    }
    cookie.is_acceptable().then_some(cookie)
}

impl Stored {
    fn attribute(&mut self, key: &str, value: &str) {
        match key {
            "max-age" => {
                let digits = value.strip_prefix('-').unwrap_or(value);
                if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
                    let seconds = value.parse().unwrap_or(i64::MAX);
                    self.max_age = Some(seconds.min(400 * 24 * 60 * 60));
                }
            }
            "domain" => {
                let domain = value.strip_prefix('.').unwrap_or(value).to_ascii_lowercase();
                self.domain = (!domain.is_empty()).then_some(domain);
            }
            "path" => self.path = value.starts_with('/').then(|| value.to_owned()),
            "secure" => self.secure = true,
            "httponly" => self.http_only = true,
            "samesite" => {
                let known = ["strict", "lax", "none"];
                let value = value.to_ascii_lowercase();
                self.same_site = known.contains(&value.as_str()).then_some(value);
            }
            "partitioned" => self.partitioned = true,
            _ => {}
        }
    }

    fn is_acceptable(&self) -> bool {
        // A nameless cookie is judged by its value, which is all that the server will see of it.
        let seen = if self.name.is_empty() { &self.value } else { &self.name };
        let seen = seen.to_ascii_lowercase();
        let host = self.path.as_deref() == Some("/") && self.domain.is_none();
        let safe = (self.secure || !seen.starts_with("__secure-"))
            && ((self.secure && host) || !seen.starts_with("__host-"))
            && ((self.secure && self.http_only) || !seen.starts_with("__http-"))
            && ((self.secure && self.http_only && host) || !seen.starts_with("__host-http-"));
        safe && (self.secure || self.same_site.as_deref() != Some("none"))
            && (self.secure || !self.partitioned)
            && self.domain.as_deref().is_none_or(|domain| domain.contains('.'))
    }
}

fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}
