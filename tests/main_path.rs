//! The main path: a visitor signs in, keeps data, stays signed in while active, and is signed out
//! by time or by choice.

mod common;

use common::{Browser, MINUTE, manager};
use sealed_session::{Map, Policy, Session};

#[test]
fn a_visitor_signs_in_keeps_data_and_signs_out() {
    let (sessions, clock) = manager(Policy::default());
    let mut browser = Browser::default();

    browser.request(&sessions, |session: &Session<Map>| session.insert("cart", [7]).unwrap());
    assert_eq!(browser.subject(&sessions), None);
    browser.sign_in(&sessions, "alice");
    assert_eq!(browser.subject(&sessions).as_deref(), Some("alice"));

    for _ in 0..20 {
        clock.advance(10 * MINUTE);
        browser.request(&sessions, |session: &Session<Map>| {
            assert_eq!(session.subject().as_deref(), Some("alice"));
            assert_eq!(session.get::<Vec<u32>>("cart").unwrap(), Some(vec![7]));
        });
    }

    let copy = browser.clone();
    browser.request(&sessions, |session: &Session<Map>| session.sign_out().unwrap());
    assert_eq!(browser.cookie, None);
    assert_eq!(copy.subject(&sessions), None);
}

#[test]
fn a_visitor_who_only_reads_gets_no_cookie() {
    let (sessions, _) = manager(Policy::default());
    let mut browser = Browser::default();

    browser.request(&sessions, |session: &Session<Map>| assert!(session.data().is_empty()));

    assert_eq!(browser.cookie, None);
}
