//! What fits into a cookie, found out in the handler; and what is sent when a change comes to
//! nothing.
#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "helpers of tests")]

mod common;

use std::collections::{BTreeMap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};

use common::{Browser, builder, manager, recorder};
use sealed_session::{
    Cookie, Error, ErrorKind, Flash, Map, Policy, RevocationList, Session, SessionData,
    SessionManager, SignIn,
};
use serde::{Deserialize, Serialize};

const LIMIT: usize = 4096;
/// Octets of a token besides subject, tags, flash and data.
const OVERHEAD: usize = 84;

/// Characters of a token with so many octets in it.
const fn characters(octets: usize) -> usize {
    (octets * 4).div_ceil(3)
}

/// The most octets of data that go with so many octets of name, and of subject, tags and flash.
const fn room(name: usize, besides: usize) -> usize {
    (LIMIT - name) * 3 / 4 - OVERHEAD - besides
}

/// Text that is this many octets of JSON.
fn json(octets: usize) -> String {
    "x".repeat(octets - 2)
}

/// Octets of name and value in a `Set-Cookie` value, as browsers count them.
fn octets(set_cookie: &str) -> usize {
    set_cookie.split(';').next().unwrap().len() - 1
}

fn only<T: SessionData>(session: &Session<T>) -> Option<String> {
    session.close().unwrap().into_iter().next()
}

fn named(name: &str) -> SessionManager {
    builder().0.cookie(Cookie::new(name)).build().unwrap()
}

fn kind<R>(result: Result<R, Error>) -> Option<ErrorKind> {
    result.err().map(|error| error.kind())
}

/// Every size near where it ends, and steps elsewhere.
fn sizes(end: usize) -> impl Iterator<Item = usize> {
    (3_usize..8_192).filter(move |size| size.abs_diff(end) < 12 || size % 331 == 3)
}

/// Tries all sizes of data after `prepare`, which takes `besides` octets.
fn assert_room(name: &str, besides: usize, prepare: impl Fn(&Session<String>)) {
    let sessions = named(name);
    let end = room(name.len(), besides);
    for size in sizes(end) {
        let session: Session<String> = sessions.open(None::<&str>).unwrap();
        prepare(&session);
        let result = session.update(|data| *data = json(size));
        assert_eq!(kind(result), (size > end).then_some(ErrorKind::TooLarge), "{name} {size}");
        let sent = only(&session).map(|header| octets(&header));
        if size <= end {
            assert_eq!(sent, Some(name.len() + characters(OVERHEAD + besides + size)));
        }
        assert!(sent.is_none_or(|sent| sent <= LIMIT), "{name} {size}");
        // Base64 has no texts of 4 n + 1 characters.
        let largest = LIMIT - usize::from((LIMIT - name.len()) % 4 == 1);
        assert!(size != end || sent == Some(largest), "{name} {sent:?}");
    }
}

#[test]
fn name_and_token_fill_4096_and_no_more() {
    for name in ["i", "id", "idx", "idxy", "__Host-Http-id", &"n".repeat(128)] {
        assert_room(name, 0, |_| {});
    }
}

#[test]
fn subject_tags_and_flash_take_room_as_well() {
    for len in [1, 2, 3, 254, 255] {
        let subject = "s".repeat(len);
        assert_room("id", len, |session| drop(session.sign_in(subject.as_str()).unwrap()));
    }
    for count in 1..=4 {
        assert_room("id", 1 + 1 + 16 * count, |session| {
            let sign_in = (0..count).fold(SignIn::new("a"), |it, n| it.tag(format!("tag {n}")));
            session.sign_in(sign_in).unwrap();
        });
    }
    for (count, text) in [(1, ""), (1, "Saved"), (8, "Saved \"it\"")] {
        let one = serde_json::to_string(&["info", text]).unwrap();
        let all = 2 + "[]".len() + count * (one.len() + 1) - 1;
        assert_room("id", all, |session| {
            (0..count).for_each(|_| session.flash("info", text).unwrap());
        });
    }
}

#[test]
fn bearer_tokens_fit_up_to_4096_characters() {
    let sessions = named("id");
    let bearer = sessions.bearer::<String>();
    let end = room(0, "alice".len());
    for size in sizes(end) {
        let result = bearer.issue(SignIn::new("alice").data(json(size)));
        if let Ok(token) = &result {
            assert_eq!(token.len(), characters(OVERHEAD + 5 + size));
            assert_eq!(bearer.open(token).unwrap().data().len() + 2, size);
            assert!(size != end || token.len() == LIMIT);
        }
        assert_eq!(kind(result), (size > end).then_some(ErrorKind::TooLarge), "{size}");
    }
}

#[test]
fn the_error_tells_size_and_limit() {
    let (observer, events) = recorder();
    let sessions = builder().0.observer(observer).build().unwrap();
    let end = room("__Host-Http-id".len(), 0);
    for size in [end + 1, end + 2, 8_192] {
        let session: Session<String> = sessions.open(None::<&str>).unwrap();
        let error = session.update(|data| *data = json(size)).unwrap_err();
        let expected = "__Host-Http-id".len() + characters(OVERHEAD + size);
        assert!(error.to_string().contains(&format!("{expected} octets")), "{error}");
        assert!(error.to_string().contains("limit is 4096"), "{error}");
        assert!(events.lock().unwrap().pop().unwrap().contains(&format!("{expected} octets")));
    }
    let bearer = sessions.bearer::<String>();
    let sign_in = SignIn::new("alice").data(json(room(0, 5) + 1));
    let error = bearer.issue(sign_in).unwrap_err().to_string();
    assert!(error.contains("4098 octets") && error.contains("limit is 4096"), "{error}");
}

/// Everything about a session that a handler can see, its messages taken.
fn seen(session: &Session<String>) -> impl PartialEq + std::fmt::Debug + use<> {
    let times = (session.issued_at(), session.expires_at(), session.idle_expires_at());
    let flash = session.take_flash().unwrap();
    (session.data(), session.subject(), session.id(), times, flash)
}

/// Every way to make a session too large.
fn overfill(session: &Session<String>) {
    let too_large = Some(ErrorKind::TooLarge);
    let huge = json(8_000);
    assert_eq!(kind(session.update(|data| data.clone_from(&huge))), too_large);
    let result = session.try_update(|data| {
        data.clone_from(&huge);
        Ok::<(), Error>(())
    });
    assert_eq!(kind(result), too_large);
    assert_eq!(kind(session.flash("info", &huge)), too_large);
    let sign_in = |subject: &str| SignIn::new(subject).data(huge.clone());
    assert_eq!(kind(session.sign_in(sign_in("alice").remember())), too_large);
    assert_eq!(kind(session.sign_in(sign_in("bob"))), too_large);
    let tags = (0..5).fold(SignIn::new("alice"), |it, n| it.tag(format!("{n}")));
    assert_eq!(kind(session.sign_in(tags)), too_large);
}

#[test]
fn a_session_that_would_get_too_large_stays_as_it_was() {
    let list = RevocationList::in_process();
    let sessions = builder().0.revocations(list.clone()).build().unwrap();
    let mut browser = Browser::default();
    browser.request(&sessions, |session: &Session<String>| {
        session.sign_in(SignIn::new("alice").data("cart".to_owned()).tag("phone")).unwrap();
        session.flash("info", "Welcome").unwrap();
    });
    let open = || sessions.open::<String>(browser.cookie.as_deref()).unwrap();

    let session = open();
    overfill(&session);
    assert_eq!(only(&session), None);
    // Nobody was signed out by a sign-in that failed.
    assert_eq!(list.entries(), 0);
    assert_eq!(seen(&open()), {
        let session = open();
        overfill(&session);
        seen(&session)
    });
}

#[test]
fn a_new_session_that_would_get_too_large_is_none() {
    let (sessions, _) = manager(Policy::default());
    let session: Session<String> = sessions.open(None::<&str>).unwrap();
    overfill(&session);
    assert!(session.id().is_none() && session.issued_at().is_none());
    assert!(session.data().is_empty() && session.subject().is_none());
    assert_eq!(only(&session), None);
}

#[test]
fn what_was_written_before_the_change_that_was_too_large_is_sent() {
    let (sessions, _) = manager(Policy::default());
    let mut browser = Browser::default();
    browser.request(&sessions, |session: &Session<String>| {
        session.update(|data| *data = "first".to_owned()).unwrap();
        session.flash("info", "Saved").unwrap();
        let id = session.id();
        overfill(session);
        assert_eq!(session.id(), id);
    });
    browser.request(&sessions, |session: &Session<String>| {
        assert_eq!(*session.data(), "first");
        assert_eq!(session.take_flash().unwrap().first().map(Flash::text), Some("Saved"));
    });
}

#[test]
fn a_full_session_can_be_changed_and_shrunk_but_not_grown() {
    let (sessions, _) = manager(Policy::default());
    let mut browser = Browser::default();
    let end = room("__Host-Http-id".len(), "alice".len());
    let fill = SignIn::new("alice").data(json(end));
    browser.request(&sessions, |session: &Session<String>| drop(session.sign_in(fill).unwrap()));
    browser.request(&sessions, |session: &Session<String>| {
        assert_eq!(session.data().len() + 2, end);
        assert_eq!(kind(session.update(|data| data.push('x'))), Some(ErrorKind::TooLarge));
        assert_eq!(kind(session.sign_in("alice2")), None); // starts from nothing
    });
    let fill = SignIn::new("alice").data(json(end));
    browser.request(&sessions, |session: &Session<String>| drop(session.sign_in(fill).unwrap()));
    browser.request(&sessions, |session: &Session<String>| {
        session.update(|data| data.replace_range(..1, "y")).unwrap();
        assert_eq!(kind(session.update(|data| data.push('x'))), Some(ErrorKind::TooLarge));
        session.update(|data| data.truncate(10)).unwrap();
    });
    browser.request(&sessions, |session: &Session<String>| {
        assert_eq!(*session.data(), "yxxxxxxxxx");
        assert_eq!(kind(session.update(|data| *data = json(end))), None);
    });
}

#[test]
fn longer_tokens_are_never_decoded() {
    let (observer, events) = recorder();
    let sessions = builder().0.observer(observer).build().unwrap();
    let bearer = sessions.bearer::<String>();
    let full = bearer.issue(SignIn::new("alice").data(json(room(0, 5)))).unwrap();
    assert_eq!(full.len(), LIMIT);
    let over = format!("{full}AAAA");
    assert_eq!(kind(bearer.open(&full)), None);
    assert_eq!(kind(bearer.open(&over)), Some(ErrorKind::Malformed));

    for (value, rejected) in [(full, true), (over, false)] {
        events.lock().unwrap().clear();
        let session: Session = sessions.open([format!("__Host-Http-id={value}")]).unwrap();
        let forged = events.lock().unwrap().iter().any(|event| event.contains("Forged"));
        assert_eq!(forged, rejected);
        assert_eq!(events.lock().unwrap().len(), usize::from(rejected));
        // Only a cookie that was seen is there to be removed.
        session.sign_out().unwrap();
        assert_eq!(only(&session).is_some(), rejected);
    }
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
struct Shop {
    note: String,
    stock: HashMap<String, u32>,
    /// JSON has no such keys.
    odd: BTreeMap<(u8, u8), u8>,
}

fn shop() -> Shop {
    let stock = (0..20).map(|n| (format!("article {n}"), n)).collect();
    Shop { note: "cart".to_owned(), stock, odd: BTreeMap::new() }
}

/// A browser that is signed in with a shop.
fn shopper(sessions: &SessionManager) -> Browser {
    let cookie = Some(sessions.cookie_for(SignIn::new("alice").data(shop())).unwrap());
    Browser { cookie }
}

/// What a request with this change answers.
fn sent(
    sessions: &SessionManager,
    browser: &Browser,
    change: impl FnOnce(&Session<Shop>),
) -> Option<String> {
    let session: Session<Shop> = sessions.open(browser.cookie.as_deref()).unwrap();
    assert_eq!(*session.data(), shop());
    change(&session);
    only(&session)
}

#[test]
fn data_that_json_cannot_hold_leaves_the_session_as_it_was() {
    let (sessions, _) = manager(Policy::default());
    let browser = shopper(&sessions);
    let odd = || Shop { odd: BTreeMap::from([((1, 2), 3)]), ..Shop::default() };
    let answer = sent(&sessions, &browser, |session| {
        let id = session.id();
        let serialize = Some(ErrorKind::Serialize);
        assert_eq!(kind(session.update(|shop| *shop = odd())), serialize);
        assert_eq!(kind(session.sign_in(SignIn::new("alice").data(odd()))), serialize);
        assert_eq!(kind(session.sign_in(SignIn::new("bob").data(odd()))), serialize);
        assert_eq!((session.id(), session.subject().as_deref()), (id, Some("alice")));
        assert_eq!(*session.data(), shop());
    });
    assert_eq!(answer, None);
    assert!(
        sent(&sessions, &browser, |session| {
            session.update(|shop| shop.note.push('!')).unwrap();
        })
        .is_some()
    );
    let issued = sessions.bearer().issue(SignIn::new("alice").data(odd()));
    assert_eq!(kind(issued), Some(ErrorKind::Serialize));
}

#[test]
fn a_change_that_changes_nothing_sends_nothing() {
    let (sessions, _) = manager(Policy::default());
    let browser = shopper(&sessions);
    // Every request decodes the map into another order.
    for _ in 0..20 {
        let nothing = sent(&sessions, &browser, |session| session.update(|_| ()).unwrap());
        assert_eq!(nothing, None);
        let same = sent(&sessions, &browser, |session| {
            session.update(|shop| shop.stock.insert("article 7".to_owned(), 7)).unwrap();
        });
        assert_eq!(same, None);
        let there_and_back = sent(&sessions, &browser, |session| {
            for count in [8, 9, 7] {
                let set = |shop: &mut Shop| shop.stock.insert("article 7".to_owned(), count);
                session.update(set).unwrap();
            }
            session.flash("info", "Saved").unwrap();
            assert_eq!(session.take_flash().unwrap().len(), 1);
        });
        assert_eq!(there_and_back, None);
        let there = sent(&sessions, &browser, |session| {
            session.update(|shop| shop.stock.insert("article 7".to_owned(), 8)).unwrap();
        });
        assert!(there.is_some());
    }
}

#[test]
fn inserting_what_is_there_and_removing_what_is_not_sends_nothing() {
    let (sessions, _) = manager(Policy::default());
    let fresh: Session = sessions.open(None::<&str>).unwrap();
    assert_eq!(fresh.remove("cart").unwrap(), None);
    assert_eq!(fresh.id(), None);
    fresh.insert("cart", 7).unwrap();
    assert_eq!(fresh.remove("cart").unwrap(), Some(7.into()));
    assert_eq!(only(&fresh), None);

    let cart = Map::from_iter([("cart".to_owned(), 7.into())]);
    let cookie = sessions.cookie_for(SignIn::new("alice").data(cart)).unwrap();
    let session: Session = sessions.open(Some(&cookie)).unwrap();
    session.insert("cart", 7).unwrap();
    assert_eq!(session.remove("coupon").unwrap(), None);
    session.remove("cart").unwrap();
    session.insert("cart", 7).unwrap();
    assert_eq!(only(&session), None);
}

#[derive(Debug, PartialEq)]
enum Refused {
    SoldOut,
    Session(ErrorKind),
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self::Session(error.kind())
    }
}

#[test]
fn try_update_rolls_back_when_its_closure_fails_or_panics() {
    let (sessions, _) = manager(Policy::default());
    let browser = shopper(&sessions);
    let sold_out = |shop: &mut Shop| {
        shop.note.clear();
        shop.stock.clear();
        Err::<(), _>(Refused::SoldOut)
    };
    let answer = sent(&sessions, &browser, |session| {
        assert_eq!(session.try_update(sold_out), Err(Refused::SoldOut));
        let panics = || {
            session.update(|shop| {
                shop.stock.clear();
                std::panic::resume_unwind(Box::new("sold out"));
            })
        };
        assert!(catch_unwind(AssertUnwindSafe(panics)).is_err());
        assert_eq!(*session.data(), shop());
    });
    assert_eq!(answer, None);

    let fresh: Session<Shop> = sessions.open(None::<&str>).unwrap();
    assert_eq!(fresh.try_update(sold_out), Err(Refused::SoldOut));
    let huge = |shop: &mut Shop| {
        shop.note = json(8_000);
        Ok::<(), Refused>(())
    };
    assert_eq!(fresh.try_update(huge), Err(Refused::Session(ErrorKind::TooLarge)));
    assert_eq!((fresh.id(), only(&fresh)), (None, None));
}

#[test]
fn data_given_at_sign_in_survives_a_change_that_is_taken_back() {
    let (sessions, _) = manager(Policy::default());
    for cookie in [None, Some(sessions.cookie_for::<String>("alice").unwrap())] {
        let mut browser = Browser { cookie };
        browser.request(&sessions, |session: &Session<String>| {
            session.sign_in(SignIn::new("alice").data("given".to_owned())).unwrap();
            session.update(|data| *data = "other".to_owned()).unwrap();
            session.update(|data| *data = "given".to_owned()).unwrap();
            assert_eq!(*session.data(), "given");
        });
        browser.request(&sessions, |session: &Session<String>| {
            assert_eq!(*session.data(), "given");
        });
    }
}
