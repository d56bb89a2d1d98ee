//! What caches may do with an answer (RFC 9111), where it carries a session cookie.

use http::header::{CACHE_CONTROL, HeaderMap, HeaderValue};

/// Headers by which an origin speaks to shared caches alone, over the head of `Cache-Control`.
const SHARED: [&str; 2] = ["cdn-cache-control", "surrogate-control"];

/// Whether the handler allowed shared caches to keep the answer.
pub(super) fn is_public(headers: &HeaderMap) -> bool {
    // Each field is for caches of its own.
    SHARED.iter().chain([&"cache-control"]).any(|field| {
        let told = Directives::of(headers, field);
        !told.private && (told.public || told.fresh)
    })
}

/// Makes sure that no cache keeps the answer for another visitor; returns which words of the handler were changed.
pub(super) fn keep_private(headers: &mut HeaderMap) -> Vec<&'static str> {
    let mut changed = Vec::new();
    if !Directives::of(headers, "cache-control").private {
        let old = headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        changed.extend(old.map(|_| "cache-control"));
    }
    changed.extend(SHARED.into_iter().filter(|name| headers.remove(*name).is_some()));
    changed
}

#[derive(Default)]
struct Directives {
    /// `no-store`, or `private` for the whole answer: with field names it keeps only those out.
    private: bool,
    public: bool,
    /// A lifetime, which allows a shared cache to keep an answer that does not say `private`.
    fresh: bool,
}

impl Directives {
    fn of(headers: &HeaderMap, field: &str) -> Self {
        let mut told = Self::default();
        let values = headers.get_all(field).into_iter();
        for directive in values.flat_map(|value| split(value.as_bytes())) {
            let directive = directive.trim_ascii().to_ascii_lowercase();
            match directive.as_slice() {
                b"no-store" | b"private" => told.private = true,
                b"public" => told.public = true,
                other => {
                    let lifetime =
                        other.starts_with(b"s-maxage=") || other.starts_with(b"max-age=");
                    told.fresh |= lifetime && !other.ends_with(b"=0");
                }
            }
        }
        told
    }
}

/// What stands between commas; one inside a quoted string divides nothing (RFC 9110 5.6.4).
fn split(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    value.split(move |byte| {
        let divides = *byte == b',' && !quoted;
        quoted ^= *byte == b'"' && !escaped;
        escaped = quoted && *byte == b'\\' && !escaped;
        divides
    })
}
