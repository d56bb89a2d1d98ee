//! What caches may do with an answer (RFC 9111), where it carries a session cookie.

use http::header::{CACHE_CONTROL, HeaderMap, HeaderValue};

/// Headers by which an origin speaks to shared caches alone, over the head of `Cache-Control`.
const SHARED: [&str; 2] = ["cdn-cache-control", "surrogate-control"];

/// Whether the handler allowed shared caches to keep the answer.
pub(super) fn is_public(headers: &HeaderMap) -> bool {
    if SHARED.iter().any(|name| headers.contains_key(*name)) {
        return true;
    }
    let told = Directives::of(headers);
    !told.private && (told.public || told.fresh)
}

/// Makes sure that no cache keeps the answer for another visitor; returns what was changed.
pub(super) fn keep_private(headers: &mut HeaderMap) -> Vec<&'static str> {
    let mut changed = Vec::new();
    if !Directives::of(headers).private {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        changed.push("cache-control");
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
    fn of(headers: &HeaderMap) -> Self {
        let mut told = Self::default();
        let values = headers.get_all(CACHE_CONTROL).into_iter();
        for directive in values.flat_map(|value| value.as_bytes().split(|byte| *byte == b',')) {
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
