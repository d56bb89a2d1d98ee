//! A token opens where it was made for, and nowhere else: realm, transport, cookie name, key; and a
//! CSRF token only there and in its session.
#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "helpers of tests")]
#![allow(clippy::indexing_slicing, reason = "helpers of tests")]

mod common;

use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;
use sealed_session::{Cookie, Error, ErrorKind, Event, KeyRing, Map, Session, SessionManager};

/// Written one after another without lengths, several of these would be the same:
/// `ab` + `c` and `a` + `bc`, `acookie` + `cookie` + `c` and `a` + `cookie` + `cookiec`,
/// `a` + `cookie` + `xbearer` and `acookiex` + `bearer`.
const REALMS: [&str; 4] = ["a", "ab", "acookie", "acookiex"];
const NAMES: [&str; 4] = ["c", "bc", "cookiec", "xbearer"];

/// One manager, and the kind of what it rejected last.
struct Place {
    realm: String,
    name: String,
    key: usize,
    sessions: SessionManager,
    rejected: Arc<Mutex<Option<ErrorKind>>>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Transport {
    Bearer,
    Cookie,
}

impl Place {
    fn new(realm: &str, name: &str, key: usize, keys: &str) -> Self {
        let rejected = Arc::new(Mutex::new(None));
        let writer = Arc::clone(&rejected);
        let sessions = SessionManager::builder(realm, keys.parse::<KeyRing>().unwrap())
            .cookie(Cookie::new(name))
            .clock(common::clock())
            .observer(move |event: &Event<'_>| {
                if let Event::Rejected { kind, .. } = event {
                    *writer.lock().unwrap() = Some(*kind);
                }
            })
            .build()
            .unwrap();
        Self { realm: realm.to_owned(), name: name.to_owned(), key, sessions, rejected }
    }

    /// The token's characters alone, without the name.
    fn issue(&self, transport: Transport) -> String {
        match transport {
            Transport::Bearer => self.sessions.bearer::<Map>().issue("alice").unwrap(),
            Transport::Cookie => {
                let pair = self.sessions.cookie_for::<Map>("alice").unwrap();
                let (name, value) = pair.split_once('=').unwrap();
                assert_eq!(name, self.name);
                value.to_owned()
            }
        }
    }

    fn open(&self, transport: Transport, token: &str) -> Result<String, ErrorKind> {
        if transport == Transport::Bearer {
            let opened = self.sessions.bearer::<Map>().open(token).map_err(|e| e.kind())?;
            return Ok(opened.subject().to_owned());
        }
        match self.arrive(token).subject() {
            Some(subject) => Ok(subject.to_string()),
            None => Err(self.rejected.lock().unwrap().take().unwrap()),
        }
    }

    /// A request with this value under this place's name.
    fn arrive(&self, value: &str) -> Session {
        let field = format!("{}={value}", self.name);
        self.sessions.open(Some(field)).unwrap()
    }

    /// Whether a token made at `from` may open here.
    fn is_home_of(&self, from: &Self, transport: Transport) -> bool {
        let same_name = transport == Transport::Bearer || self.name == from.name;
        self.realm == from.realm && same_name && self.key == from.key
    }
}

/// The text of a fresh ring's one key.
fn key() -> String {
    let text = KeyRing::for_tests().unwrap().expose_text();
    text.lines().find(|line| !line.starts_with('#')).unwrap().to_owned()
}

fn places() -> Vec<Place> {
    let keys = [key(), key()];
    let mut places = Vec::new();
    for (realm, name) in REALMS.into_iter().flat_map(|realm| NAMES.map(|name| (realm, name))) {
        for (index, text) in keys.iter().enumerate() {
            places.push(Place::new(realm, name, index, text));
        }
    }
    places
}

#[test]
fn nothing_sealed_for_one_place_opens_in_another() {
    let places = places();
    let transports = [Transport::Bearer, Transport::Cookie];
    let mut opened = 0;
    for (from, sealed) in places.iter().flat_map(|place| transports.map(|t| (place, t))) {
        let token = from.issue(sealed);
        for (to, as_if) in places.iter().flat_map(|place| transports.map(|t| (place, t))) {
            let expected = if to.key != from.key {
                Err(ErrorKind::KeyUnknown)
            } else if as_if == sealed && to.is_home_of(from, sealed) {
                opened += 1;
                Ok("alice".to_owned())
            } else {
                Err(ErrorKind::Forged)
            };
            let here = (&from.realm, &from.name, from.key, sealed);
            let there = (&to.realm, &to.name, to.key, as_if);
            assert_eq!(to.open(as_if, &token), expected, "{here:?} {there:?}");
        }
    }
    // Cookies open in their own place alone, bearer tokens under any of the four names.
    assert_eq!(opened, places.len() * (1 + NAMES.len()));
}

#[test]
fn no_key_is_tried_that_the_token_does_not_name() {
    let (one, two) = (key(), key());
    let both = format!("{one};{two} seal_from=2026-01-01T00:00:00Z");
    let [one, two, both] = [&one, &two, &both].map(|keys| Place::new("shop", "id", 0, keys));
    for transport in [Transport::Bearer, Transport::Cookie] {
        let tokens = [one.issue(transport), two.issue(transport)];
        let [first, second] = tokens.each_ref().map(|token| URL_SAFE_NO_PAD.decode(token).unwrap());
        let swapped = [
            [&first[..1], &second[1..5], &first[5..]].concat(),
            [&second[..1], &first[1..5], &second[5..]].concat(),
        ];
        for (token, swapped) in tokens.iter().zip(swapped) {
            assert_eq!(both.open(transport, token).as_deref(), Ok("alice"));
            let unknown = [&swapped[..1], &[0xA5; 4], &swapped[5..]].concat();
            for (bytes, kind) in [(swapped, ErrorKind::Forged), (unknown, ErrorKind::KeyUnknown)] {
                let token = URL_SAFE_NO_PAD.encode(bytes);
                assert_eq!(both.open(transport, &token), Err(kind));
            }
        }
    }
}

fn kind(result: Result<(), Error>) -> Result<(), ErrorKind> {
    result.map_err(|error| error.kind())
}

#[test]
fn a_csrf_token_of_another_session_is_refused() {
    let places = places();
    let opened: Vec<(Session, String)> = places
        .iter()
        .flat_map(|place| {
            let signed_in = place.arrive(&place.issue(Transport::Cookie));
            let anonymous: Session = place.sessions.open(None::<&str>).unwrap();
            [signed_in, anonymous]
        })
        .map(|session| {
            let token = session.csrf_token().unwrap();
            (session, token)
        })
        .collect();
    for (at, (session, _)) in opened.iter().enumerate() {
        for (of, (_, token)) in opened.iter().enumerate() {
            let expected = if at == of { Ok(()) } else { Err(ErrorKind::Csrf) };
            assert_eq!(kind(session.verify_csrf(token)), expected, "{at} {of}");
        }
    }
}

/// A visitor whose cookie no place can judge has no session id. Its CSRF tokens are bound to the
/// cookie's value in place of it, which can be made the same everywhere: so here only realm, name
/// and key keep places apart.
#[test]
fn a_csrf_token_is_bound_to_realm_name_and_key_besides_the_session() {
    let unknown = Place::new("elsewhere", "id", 0, &key()).issue(Transport::Cookie);
    let places = places();
    let visits: Vec<_> = places
        .iter()
        .map(|place| {
            let session = place.arrive(&unknown);
            let token = session.csrf_token().unwrap();
            (session, token)
        })
        .collect();
    for (at, (_, token)) in visits.iter().enumerate() {
        for (to, place) in places.iter().enumerate() {
            // A later request with the same cookie.
            let expected = if at == to { Ok(()) } else { Err(ErrorKind::Csrf) };
            assert_eq!(kind(place.arrive(&unknown).verify_csrf(token)), expected, "{at} {to}");
        }
    }
    let other = Place::new("elsewhere", "id", 0, &key()).issue(Transport::Cookie);
    assert_eq!(kind(places[0].arrive(&other).verify_csrf(&visits[0].1)), Err(ErrorKind::Csrf));
}

#[test]
fn a_csrf_token_ends_at_sign_in_and_lives_through_renewal() {
    let place = Place::new("shop", "id", 0, &key());
    let session = place.arrive(&place.issue(Transport::Cookie));
    let token = session.csrf_token().unwrap();
    session.renew().unwrap();
    assert_eq!(kind(session.verify_csrf(&token)), Ok(()));
    session.sign_in("alice").unwrap();
    assert_eq!(kind(session.verify_csrf(&token)), Err(ErrorKind::Csrf));
}

#[test]
fn every_alteration_of_a_csrf_token_is_rejected() {
    let place = Place::new("shop", "id", 0, &key());
    let session = place.arrive(&place.issue(Transport::Cookie));
    let token = session.csrf_token().unwrap();
    assert_eq!(token.len(), 70);
    let bytes = URL_SAFE_NO_PAD.decode(&token).unwrap();
    let mut altered = Vec::new();
    for bit in 0..bytes.len() * 8 {
        let mut bytes = bytes.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        altered.push(URL_SAFE_NO_PAD.encode(bytes));
    }
    altered.extend((0..70).map(|len| token[..len].to_owned()));
    altered.extend((0..=0x7F).map(|extra| format!("{token}{}", char::from(extra))));
    altered.extend([format!("{token}=="), format!(" {token}"), place.issue(Transport::Cookie)]);
    for token in altered {
        assert_eq!(kind(session.verify_csrf(&token)), Err(ErrorKind::Csrf), "{token}");
    }
    assert_eq!(kind(session.verify_csrf(&token)), Ok(()));
}

/// Two realms and names, often so that both read the same around the transport's name.
fn two_contexts() -> impl Strategy<Value = [(String, String); 2]> {
    let split = "[a-c]{1,4}cookie[a-c]{0,4}cookie[a-c]{1,4}".prop_map(|text| {
        let halves = [text.split_once("cookie"), text.rsplit_once("cookie")];
        halves.map(|halves| {
            let (realm, name) = halves.unwrap();
            (realm.to_owned(), name.to_owned())
        })
    });
    let free = ("\\PC{1,20}", "[!#-'*+.0-9A-Z^_`a-z|~-]{1,20}");
    prop_oneof![split, [free, free].prop_map(|pair| pair)]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn different_contexts_never_accept_each_others_tokens([one, two] in two_contexts()) {
        // Names with a prefix that promises more than they have are no cookies.
        prop_assume!(![&one.1, &two.1].iter().any(|name| name.starts_with("__")));
        let key = key();
        let places = [&one, &two].map(|(realm, name)| Place::new(realm, name, 0, &key));
        for (from, to) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let (from, to) = (&places[from], &places[to]);
            for transport in [Transport::Bearer, Transport::Cookie] {
                let opened = to.open(transport, &from.issue(transport));
                let home = to.is_home_of(from, transport);
                let expected = home.then(|| "alice".to_owned()).ok_or(ErrorKind::Forged);
                prop_assert_eq!(opened, expected);
            }
        }
    }
}
