//! The CSRF token and what it is bound to, and the decision that browsers' own headers allow.

#![allow(clippy::arithmetic_side_effects, clippy::unwrap_used, reason = "a test may panic")]

mod common;
#[path = "common/fleet.rs"]
mod fleet;

use common::{Browser, MINUTE};
use fleet::{Fleet, key};
use http::{HeaderMap, HeaderValue, Method, Uri};
use sealed_session::csrf::{FetchMetadata, Verdict};
use sealed_session::{Cookie, ErrorKind, KeyRing, Map, Policy, Session, SessionManager};

/// What the server says to a form with this token.
fn verify(sessions: &SessionManager, browser: &mut Browser, token: &str) -> Result<(), ErrorKind> {
    browser.request(sessions, |s: &Session<Map>| s.verify_csrf(token).map_err(|error| error.kind()))
}

/// A form's token for this visitor.
fn form(sessions: &SessionManager, browser: &mut Browser) -> String {
    browser.request(sessions, |s: &Session<Map>| s.csrf_token().unwrap())
}

const REFUSED: Result<(), ErrorKind> = Err(ErrorKind::Csrf);

#[test]
fn a_token_has_70_characters_and_any_number_of_them_are_good_at_a_time() {
    let (sessions, _) = common::manager(Policy::default());
    let mut browser = Browser::default();
    let tokens: Vec<String> = (0..10).map(|_| form(&sessions, &mut browser)).collect();

    for (place, token) in tokens.iter().enumerate() {
        assert_eq!(token.len(), 70);
        assert!(token.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
        assert!(!tokens[..place].contains(token));
        assert_eq!(verify(&sessions, &mut browser, token), Ok(()));
    }
}

#[test]
fn asking_starts_a_session_for_a_stranger_and_sends_nothing_to_a_visitor() {
    let (sessions, _) = common::manager(Policy::default());
    let mut browser = Browser::default();
    form(&sessions, &mut browser);
    let cookie = browser.cookie.clone();
    assert!(cookie.is_some());

    let session: Session<Map> = sessions.open(cookie.as_deref()).unwrap();
    let token = session.csrf_token().unwrap();

    assert_eq!(session.close().unwrap().into_iter().next(), None);
    assert_eq!(verify(&sessions, &mut browser, &token), Ok(()));
}

#[test]
fn asking_keeps_the_session_of_a_visitor_who_empties_his_cart() {
    let (sessions, _) = common::manager(Policy::default());
    let mut browser = Browser::default();
    browser.request(&sessions, |s: &Session<Map>| s.insert("cart", 7).unwrap());

    let token = browser.request(&sessions, |s: &Session<Map>| {
        s.remove("cart").unwrap();
        s.csrf_token().unwrap()
    });

    assert_eq!(verify(&sessions, &mut browser, &token), Ok(()));
}

#[test]
fn a_token_is_good_for_its_own_session_only() {
    let (sessions, _) = common::manager(Policy::default());
    let signed_in = |name| Browser { cookie: Some(sessions.cookie_for::<Map>(name).unwrap()) };
    let [mut desk, mut phone, mut bob] = ["alice", "alice", "bob"].map(signed_in);
    let mut anonymous = Browser::default();
    form(&sessions, &mut anonymous);
    let token = form(&sessions, &mut desk);

    assert_eq!(verify(&sessions, &mut desk, &token), Ok(()));
    for other in [&mut phone, &mut bob, &mut anonymous, &mut Browser::default()] {
        assert_eq!(verify(&sessions, other, &token), REFUSED);
    }
}

#[test]
fn a_token_dies_with_the_session_id_at_sign_in_and_sign_out() {
    let (sessions, _) = common::manager(Policy::default());
    let mut browser = Browser::default();
    let mut token = form(&sessions, &mut browser);
    for subject in ["alice", "alice", "bob"] {
        browser.request(&sessions, |s: &Session<Map>| {
            assert!(s.verify_csrf(&token).is_ok());
            s.sign_in(subject).unwrap();
            assert!(s.verify_csrf(&token).is_err());
        });
        assert_eq!(verify(&sessions, &mut browser, &token), REFUSED, "{subject}");
        token = form(&sessions, &mut browser);
    }
    let mut copy = browser.clone();

    browser.request(&sessions, |s: &Session<Map>| s.sign_out().unwrap());

    assert_eq!(verify(&sessions, &mut browser, &token), REFUSED);
    assert_eq!(verify(&sessions, &mut copy, &token), REFUSED);
}

#[test]
fn a_token_survives_refresh_renewal_and_writes() {
    let (sessions, clock) = common::manager(Policy::default());
    let mut browser = Browser { cookie: Some(sessions.cookie_for::<Map>("alice").unwrap()) };
    let token = form(&sessions, &mut browser);

    clock.advance(10 * MINUTE);
    let before = browser.cookie.clone();
    assert_eq!(verify(&sessions, &mut browser, &token), Ok(()));
    assert_ne!(browser.cookie, before, "refreshed");
    browser.request(&sessions, |s: &Session<Map>| {
        s.renew().unwrap();
        s.insert("cart", 7).unwrap();
    });

    assert_eq!(verify(&sessions, &mut browser, &token), Ok(()));
}

#[test]
fn a_token_that_is_not_whole_or_tampered_with_at_any_character_is_refused() {
    let (sessions, _) = common::manager(Policy::default());
    let mut browser = Browser::default();
    let token = form(&sessions, &mut browser);
    let session: Session<Map> = sessions.open(browser.cookie.as_deref()).unwrap();
    let verify = |token: &str| session.verify_csrf(token).map_err(|error| error.kind());
    assert_eq!(verify(&token), Ok(()));

    for place in 0..token.len() {
        for other in ['A', 'Q', '_', '=', '\u{e9}'] {
            let mut tampered: Vec<char> = token.chars().collect();
            if std::mem::replace(&mut tampered[place], other) != other {
                assert_eq!(verify(&String::from_iter(tampered)), REFUSED, "{other} at {place}");
            }
        }
        assert_eq!(verify(&token[..place]), REFUSED);
        assert_eq!(verify(&token[place + 1..]), REFUSED);
    }
    for other in [format!("{token}A"), format!("{token}=="), format!(" {token}")] {
        assert_eq!(verify(&other), REFUSED);
    }
}

/// A cookie that neither manager can judge stands in for one session id in both of them.
#[test]
fn a_token_of_another_realm_or_cookie_name_is_refused() {
    let text = key();
    let manager = |realm: &str, name: &str| {
        let ring: KeyRing = text.parse().unwrap();
        SessionManager::builder(realm, ring).cookie(Cookie::new(name)).build().unwrap()
    };
    let value = "A".repeat(200);
    let open = |realm: &str, name: &str| -> Session<Map> {
        let value = format!("AQAAAAAA{value}");
        manager(realm, name).open(Some(format!("{name}={value}"))).unwrap()
    };
    let token = open("shop", "__Host-id").csrf_token().unwrap();
    let verify = |realm, name| open(realm, name).verify_csrf(&token).map_err(|error| error.kind());

    assert_eq!(verify("shop", "__Host-id"), Ok(()));
    assert_eq!(verify("bank", "__Host-id"), REFUSED);
    assert_eq!(verify("shop", "__Host-sid"), REFUSED);
    assert_eq!(verify("shop_", "_Host-id"), REFUSED);
}

#[test]
fn a_token_is_good_under_every_key_that_opens_and_refused_under_a_revoked_one() {
    let fleet = Fleet::new();
    let (old, new, other) = (key(), key(), key());
    let mut browser = Browser::default();
    let token = form(&fleet.instance(&old), &mut browser);
    let from = "seal_from=2020-01-01T00:00:00Z";
    let rotated = fleet.instance(&format!("{old}\n{new} {from}"));

    assert_eq!(verify(&rotated, &mut browser, &token), Ok(()));
    let renewed = form(&rotated, &mut browser);
    assert_eq!(verify(&rotated, &mut browser, &renewed), Ok(()));
    let behind = fleet.instance(&format!("{old}\n{new} seal_from=2099-01-01T00:00:00Z"));
    assert_eq!(verify(&behind, &mut browser.clone(), &renewed), Ok(()));

    // The cookie is under the new key by now, so the session goes on.
    let gone = [
        format!("{old} revoked\n{new} {from}"),
        format!("{old} open_until=2020-01-02T00:00:00Z\n{new} {from}"),
        format!("{new}\n{other} seal_from=2099-01-01T00:00:00Z"),
    ];
    for ring in gone {
        let sessions = fleet.instance(&ring);
        assert!(browser.clone().request(&sessions, |s: &Session<Map>| s.id()).is_some());
        assert_eq!(verify(&sessions, &mut browser.clone(), &token), REFUSED, "{ring}");
        assert_eq!(verify(&sessions, &mut browser.clone(), &renewed), Ok(()), "{ring}");
    }
}

#[test]
fn nothing_verifies_where_there_is_no_session() {
    let (sessions, _) = common::manager(Policy::default());
    let session: Session<Map> = sessions.open(None::<&str>).unwrap();

    for token in ["", "A", &"A".repeat(70)] {
        assert_eq!(session.verify_csrf(token).unwrap_err().kind(), ErrorKind::Csrf);
    }
    assert_eq!(session.id(), None);
}

// Fetch metadata.

/// `Sec-Fetch-Site`, `Origin`, `Host` of a POST, and what is to become of it.
type Post = (Option<&'static str>, Option<&'static str>, Option<&'static str>, Verdict);

const POSTS: [Post; 42] = {
    use Verdict::{Allowed, CrossSite, Undecided};
    const SHOP: Option<&str> = Some("shop.example");
    const OWN: Option<&str> = Some("https://shop.example");
    const EVIL: Option<&str> = Some("https://evil.example");
    const PAY: Option<&str> = Some("https://pay.example");
    [
        // What the browser itself says counts, whatever the rest.
        (Some("same-origin"), None, None, Allowed),
        (Some("same-origin"), OWN, SHOP, Allowed),
        (Some("same-origin"), EVIL, SHOP, Allowed),
        (Some("none"), None, SHOP, Allowed),
        (Some("same-site"), None, None, CrossSite),
        (Some("same-site"), Some("https://cdn.shop.example"), SHOP, CrossSite),
        (Some("cross-site"), None, None, CrossSite),
        (Some("cross-site"), OWN, SHOP, CrossSite),
        (Some("cross-site"), Some("null"), SHOP, CrossSite),
        (Some(""), OWN, SHOP, CrossSite),
        (Some("Same-Origin"), OWN, SHOP, CrossSite),
        (Some("same-origin, none"), OWN, SHOP, CrossSite),
        (Some("something new"), OWN, SHOP, CrossSite),
        // Trusted origins, letter by letter.
        (Some("cross-site"), PAY, SHOP, Allowed),
        (Some("same-site"), PAY, SHOP, Allowed),
        (None, PAY, SHOP, Allowed),
        (None, PAY, None, Allowed),
        (None, Some("http://pay.example"), SHOP, CrossSite),
        (None, Some("https://pay.example:8443"), SHOP, CrossSite),
        (None, Some("https://pay.example.evil.example"), SHOP, CrossSite),
        (None, Some("https://a.pay.example"), SHOP, CrossSite),
        // Without `Sec-Fetch-Site`, `Origin` against `Host`.
        (None, None, None, Undecided),
        (None, None, SHOP, Undecided),
        (None, OWN, SHOP, Undecided),
        (None, Some("http://shop.example"), SHOP, Undecided),
        (None, EVIL, SHOP, CrossSite),
        (None, OWN, None, CrossSite),
        (None, Some("null"), SHOP, CrossSite),
        (None, Some("null"), Some("null"), CrossSite),
        (None, Some(""), Some(""), CrossSite),
        (None, Some("https://shop.example.evil.example"), SHOP, CrossSite),
        (None, Some("https://SHOP.example"), Some("shop.EXAMPLE"), Undecided),
        // Default ports.
        (None, OWN, Some("shop.example:443"), Undecided),
        (None, Some("https://shop.example:443"), SHOP, Undecided),
        (None, Some("http://shop.example"), Some("shop.example:80"), Undecided),
        (None, OWN, Some("shop.example:80"), CrossSite),
        (None, Some("http://shop.example"), Some("shop.example:443"), CrossSite),
        (None, OWN, Some("shop.example:8443"), CrossSite),
        (None, Some("https://shop.example:8443"), Some("shop.example:8443"), Undecided),
        // IPv6.
        (None, Some("https://[2001:db8::443]"), Some("[2001:db8::443]:443"), Undecided),
        (None, Some("http://[::1]:8080"), Some("[::1]:8080"), Undecided),
        (None, Some("http://[::1]:8080"), Some("[::2]:8080"), CrossSite),
    ]
};
const TRUSTED: [&str; 2] = ["https://other.example", "https://pay.example"];

#[test]
fn unsafe_requests_are_judged_by_the_table() {
    for (site, origin, host, expected) in POSTS {
        for method in ["POST", "PUT", "PATCH", "DELETE", "CONNECT", "TRACE", "PROPFIND", "get", ""]
        {
            let mut facts = FetchMetadata::new(method);
            facts = site.map_or(facts, |site| facts.sec_fetch_site(site));
            facts = origin.map_or(facts, |origin| facts.origin(origin));
            facts = host.map_or(facts, |host| facts.host(host));
            assert_eq!(facts.verdict(&TRUSTED), expected, "{facts:?}");
            if origin != Some("https://pay.example") {
                assert_eq!(facts.verdict(&[]), expected, "{facts:?}");
            }
        }
        for method in ["GET", "HEAD", "OPTIONS"] {
            let mut facts = FetchMetadata::new(method);
            facts = site.map_or(facts, |site| facts.sec_fetch_site(site));
            facts = origin.map_or(facts, |origin| facts.origin(origin));
            assert_eq!(facts.verdict(&[]), Verdict::Allowed, "{facts:?}");
        }
    }
}

#[test]
fn the_facts_of_an_http_request_are_judged_by_the_same_table() {
    for (site, origin, host, expected) in POSTS {
        let mut headers = HeaderMap::new();
        let fields = [("sec-fetch-site", site), ("origin", origin), ("host", host)];
        for (name, value) in fields {
            if let Some(value) = value {
                headers.insert(name, HeaderValue::from_static(value));
            }
        }
        let path = Uri::from_static("/pay");
        let facts = FetchMetadata::of(&Method::POST, &path, &headers);
        assert_eq!(facts.verdict(&TRUSTED), expected, "{facts:?}");
        assert_eq!(FetchMetadata::of(&Method::GET, &path, &headers).verdict(&[]), Verdict::Allowed);
    }
}

#[test]
fn the_authority_of_http_2_stands_in_for_host() {
    let verdict = |uri: &'static str, origin: HeaderValue| {
        let headers = HeaderMap::from_iter([(http::header::ORIGIN, origin)]);
        FetchMetadata::of(&Method::POST, &Uri::from_static(uri), &headers).verdict(&[])
    };
    let own = || HeaderValue::from_static("https://shop.example");

    assert_eq!(verdict("https://shop.example/pay", own()), Verdict::Undecided);
    assert_eq!(verdict("https://shop.example:443/pay", own()), Verdict::Undecided);
    assert_eq!(verdict("https://evil.example/pay", own()), Verdict::CrossSite);
    assert_eq!(verdict("/pay", own()), Verdict::CrossSite);
    // Bytes that are no text name no site.
    let bytes = HeaderValue::from_bytes(b"https://shop.example\xff").unwrap();
    assert_eq!(verdict("https://shop.example/pay", bytes), Verdict::CrossSite);
}
