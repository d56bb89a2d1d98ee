//! Copies of a cookie: which of them die when a session is ended, and what that costs the list.

#![allow(clippy::arithmetic_side_effects, clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::{Browser, DAY, HOUR, MILLI, MINUTE, SECOND, answer, is_alive, open, signed_in};
use sealed_session::{
    ErrorKind, KeyRing, Limits, ManualClock, Map, Policy, RevocationList, Session, SessionId,
    SessionManager, SignIn, Target,
};

/// A manager whose list the test can look into.
fn shop(policy: Policy) -> (SessionManager, RevocationList, ManualClock) {
    let list = RevocationList::in_process();
    let (builder, clock) = common::builder();
    (builder.revocations(list.clone()).policy(policy).build().unwrap(), list, clock)
}

#[test]
fn a_copy_taken_before_a_sign_out_is_dead_after_it() {
    let (sessions, list, _) = shop(Policy::default());
    let mut browser = signed_in(&sessions, "alice");
    let copy = browser.clone();

    let receipt = browser.request(&sessions, |s: &Session<Map>| s.sign_out().unwrap());

    assert!(receipt.reaches_copies());
    assert_eq!(receipt.wait().map_err(|error| error.kind()), Ok(()));
    assert_eq!(browser.cookie, None);
    assert_eq!(copy.subject(&sessions), None);
    assert_eq!(list.entries(), 1);
}

#[test]
fn a_copy_that_was_refreshed_meanwhile_dies_with_its_session() {
    let (sessions, _, clock) = shop(Policy::default());
    let mut browser = signed_in(&sessions, "alice");
    let mut thief = browser.clone();
    for _ in 0..3 {
        clock.advance(10 * MINUTE);
        thief.request(&sessions, |s: &Session<Map>| s.insert("seen", clock_text(&clock)).unwrap());
    }
    clock.advance(10 * MINUTE);
    thief.request(&sessions, |s: &Session<Map>| drop(s.subject()));
    assert_eq!(thief.subject(&sessions).as_deref(), Some("alice"));
    assert_ne!(thief.cookie, browser.cookie);

    clock.advance(MINUTE);
    let mut other_tab = thief.clone();
    other_tab.request(&sessions, |s: &Session<Map>| s.sign_out().unwrap());

    assert_eq!(thief.subject(&sessions), None);
    assert!(!is_alive(&sessions, &thief));
    browser.request(&sessions, |s: &Session<Map>| assert_eq!(s.subject(), None));
}

fn clock_text(clock: &ManualClock) -> String {
    format!("{:?}", sealed_session::Clock::now(clock))
}

#[test]
fn a_copy_whose_refresh_is_in_flight_during_the_sign_out_is_sent_nothing() {
    let (sessions, _, clock) = shop(Policy::default());
    let mut browser = signed_in(&sessions, "alice");
    clock.advance(10 * MINUTE);
    let refreshing = open(&sessions, &browser);
    assert!(answer(&open(&sessions, &browser)).is_some(), "a refresh is due");

    browser.request(&sessions, |s: &Session<Map>| s.sign_out().unwrap());

    assert_eq!(refreshing.subject().as_deref(), Some("alice"));
    assert_eq!(answer(&refreshing), None);
}

#[test]
fn cookies_from_before_a_sign_in_are_dead_after_it() {
    for before in [None, Some("alice"), Some("bob")] {
        let (sessions, list, _) = shop(Policy::default());
        let mut browser = Browser::default();
        match before {
            None => browser.request(&sessions, |s: &Session<Map>| s.insert("cart", 7).unwrap()),
            Some(subject) => browser.sign_in(&sessions, subject),
        }
        let entries = list.entries();
        let planted = browser.clone();
        let id = open(&sessions, &planted).id().unwrap();

        browser.sign_in(&sessions, "alice");

        assert!(!is_alive(&sessions, &planted), "{before:?}");
        assert_eq!(browser.subject(&sessions).as_deref(), Some("alice"));
        assert_ne!(open(&sessions, &browser).id(), Some(id));
        assert_eq!(list.entries(), entries + 1);
    }
}

#[test]
fn a_cookie_that_opens_nothing_adds_no_entry() {
    let (sessions, list, clock) = shop(Policy::default());
    let elsewhere = common::manager(Policy::default()).0;
    let ring: KeyRing = KeyRing::for_tests().unwrap().expose_text().parse().unwrap();
    let other_realm = SessionManager::builder("bank", ring).clock(clock.clone()).build().unwrap();
    let short = Limits { absolute_timeout: HOUR, idle_timeout: None };
    let expired = signed_in(&sessions, SignIn::new("alice").limits(short));
    clock.advance(HOUR + MILLI);
    let alive = signed_in(&sessions, "alice").cookie.unwrap();
    let (start, end) = alive.split_at(80);
    let other = if end.starts_with('A') { "B" } else { "A" };
    let forged = Browser { cookie: Some(format!("{start}{other}{}", &end[1..])) };
    let revoked = Browser { cookie: Some(alive) };
    open(&sessions, &revoked).sign_out().unwrap();
    assert_eq!(list.entries(), 1);

    let cookies = [
        ("expired", expired),
        ("forged", forged),
        ("revoked", revoked),
        ("of an unknown key", signed_in(&elsewhere, "alice")),
        ("of another realm", signed_in(&other_realm, "alice")),
        ("garbage", Browser { cookie: Some("__Host-Http-id=AAAA".into()) }),
        ("absent", Browser::default()),
    ];
    for (what, browser) in cookies {
        assert!(!is_alive(&sessions, &browser), "{what}");
        open(&sessions, &browser).sign_out().unwrap();
        assert_eq!(list.entries(), 1, "sign-out with a cookie that is {what}");
        open(&sessions, &browser).sign_in("mallory").unwrap();
        assert_eq!(list.entries(), 1, "sign-in with a cookie that is {what}");
    }
}

#[test]
fn a_cookie_of_another_realm_under_the_same_keys_adds_no_entry() {
    let text = KeyRing::for_tests().unwrap().expose_text();
    let list = RevocationList::in_process();
    let [shop, bank] = ["shop", "bank"].map(|realm| {
        let ring: KeyRing = text.parse().unwrap();
        SessionManager::builder(realm, ring).revocations(list.clone()).build().unwrap()
    });
    let foreign = signed_in(&bank, "alice");

    open(&shop, &foreign).sign_out().unwrap();
    open(&shop, &foreign).sign_in("mallory").unwrap();

    assert_eq!(list.entries(), 0);
    assert_eq!(foreign.subject(&bank).as_deref(), Some("alice"));
}

#[test]
fn the_sign_out_of_an_anonymous_session_removes_the_cookie_and_adds_no_entry() {
    let (sessions, list, _) = shop(Policy::default());
    let mut browser = Browser::default();
    browser.request(&sessions, |s: &Session<Map>| s.insert("cart", 7).unwrap());
    assert!(browser.cookie.is_some());

    let receipt = browser.request(&sessions, |s: &Session<Map>| s.sign_out().unwrap());

    assert_eq!(browser.cookie, None);
    assert!(receipt.reaches_copies());
    assert_eq!(list.entries(), 0);
}

#[test]
fn sign_out_everywhere_ends_every_device_with_its_copies_and_nobody_else() {
    let (sessions, _, clock) = shop(Policy::default());
    let mut phone = signed_in(&sessions, SignIn::new("alice").remember());
    let copy = phone.clone();
    clock.advance(2 * DAY);
    phone.request(&sessions, |s: &Session<Map>| drop(s.data()));
    assert_ne!(phone.cookie, copy.cookie, "a refresh was due");
    let mut desk = signed_in(&sessions, "alice");
    let bob = signed_in(&sessions, "bob");

    desk.request(&sessions, |s: &Session<Map>| {
        s.sign_out_everywhere().unwrap();
        assert_eq!((s.subject(), s.id()), (None, None));
    });

    assert_eq!(desk.cookie, None);
    assert!(!is_alive(&sessions, &phone));
    assert!(!is_alive(&sessions, &copy));
    assert_eq!(bob.subject(&sessions).as_deref(), Some("bob"));
}

#[test]
fn a_sign_in_works_in_the_millisecond_of_the_sign_out_everywhere() {
    let (sessions, _, _) = shop(Policy::default());
    for round in 0..5 {
        let mut browser = signed_in(&sessions, "alice");
        let copy = browser.clone();
        assert_eq!(copy.subject(&sessions).as_deref(), Some("alice"), "round {round}");

        browser.request(&sessions, |s: &Session<Map>| s.sign_out_everywhere().unwrap());

        assert!(!is_alive(&sessions, &copy), "round {round}");
    }
}

#[test]
fn sign_out_others_spares_this_session_with_its_copies() {
    let (sessions, _, clock) = shop(Policy::default());
    let mut desk = signed_in(&sessions, "alice");
    let copy = desk.clone();
    let phone = signed_in(&sessions, "alice");
    let bob = signed_in(&sessions, "bob");
    clock.advance(MINUTE);

    desk.request(&sessions, |s: &Session<Map>| s.sign_out_others().unwrap());

    for spared in [&desk, &copy] {
        assert_eq!(spared.subject(&sessions).as_deref(), Some("alice"));
    }
    assert!(!is_alive(&sessions, &phone));
    assert!(is_alive(&sessions, &bob));
    assert!(is_alive(&sessions, &signed_in(&sessions, "alice")));
}

#[test]
fn nobody_signed_in_means_no_everywhere_and_no_others() {
    let (sessions, list, _) = shop(Policy::default());
    let session = open(&sessions, &Browser::default());
    session.insert("cart", 7).unwrap();

    for result in [session.sign_out_everywhere(), session.sign_out_others()] {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::SignedOut);
    }
    assert_eq!(list.entries(), 0);
    assert_eq!(session.get::<u32>("cart").unwrap(), Some(7));
}

/// What to revoke among sessions with these ids.
type Choice = fn(&[SessionId]) -> Target<'static>;

#[test]
fn a_revocation_by_force_ends_exactly_those_it_means() {
    // Alice at her desk, Alice on her phone, Bob on his phone, and somebody anonymous.
    let table: [(Choice, [bool; 4]); 9] = [
        (|ids| Target::session(ids[0]), [false, true, true, true]),
        (|ids| Target::session(ids[0]).except(ids[1]), [false, true, true, true]),
        (|ids| Target::session(ids[0]).except(ids[0]), [true; 4]),
        (|_| Target::subject("alice"), [false, false, true, true]),
        (|ids| Target::subject("alice").except(ids[1]), [false, true, true, true]),
        (|_| Target::tag("phone"), [true, false, false, true]),
        (|ids| Target::tag("phone").except(ids[2]), [true, false, true, true]),
        (|_| Target::everyone(), [false; 4]),
        (|ids| Target::everyone().except(ids[3]), [false, false, false, true]),
    ];
    for (row, (target, expected)) in table.into_iter().enumerate() {
        let (sessions, _, _) = shop(Policy::default());
        let mut anonymous = Browser::default();
        anonymous.request(&sessions, |s: &Session<Map>| s.insert("cart", 7).unwrap());
        let browsers = [
            signed_in(&sessions, SignIn::new("alice").tag("desk")),
            signed_in(&sessions, SignIn::new("alice").tag("phone").tag("de")),
            signed_in(&sessions, SignIn::new("bob").tag("phone")),
            anonymous,
        ];
        let ids: Vec<_> = browsers.iter().map(|b| open(&sessions, b).id().unwrap()).collect();

        let receipt = sessions.revoke(target(&ids)).unwrap();

        assert!(receipt.reaches_copies());
        let alive: Vec<bool> = browsers.iter().map(|b| is_alive(&sessions, b)).collect();
        assert_eq!(alive, expected, "row {row}");
        for subject in ["alice", "bob"] {
            let late = signed_in(&sessions, SignIn::new(subject).tag("phone").tag("desk"));
            assert!(is_alive(&sessions, &late), "row {row}: a later sign-in is not meant");
        }
    }
}

#[test]
fn tags_stay_at_re_authentication_and_go_with_another_subject() {
    let (sessions, _, _) = shop(Policy::default());
    let tagged = || signed_in(&sessions, SignIn::new("alice").tag("idp:7"));
    let [mut again, mut retagged, mut other] = [tagged(), tagged(), tagged()];
    again.sign_in(&sessions, "alice");
    retagged.request(&sessions, |s: &Session<Map>| {
        s.sign_in(SignIn::new("alice").tag("idp:8")).unwrap()
    });
    other.sign_in(&sessions, "bob");

    sessions.revoke(Target::tag("idp:7")).unwrap();

    assert!(!is_alive(&sessions, &again));
    assert!(is_alive(&sessions, &retagged));
    assert!(is_alive(&sessions, &other));
}

#[test]
fn realms_that_share_a_list_do_not_touch_each_other() {
    let list = RevocationList::in_process();
    let clock = common::clock();
    let text = KeyRing::for_tests().unwrap().expose_text();
    let manager = |realm: &str| {
        let ring: KeyRing = text.parse().unwrap();
        let builder = SessionManager::builder(realm, ring).clock(clock.clone());
        builder.revocations(list.clone()).build().unwrap()
    };
    let (shop, bank) = (manager("shop"), manager("bank"));
    let customer = signed_in(&bank, SignIn::new("alice").tag("phone"));

    for target in [Target::subject("alice"), Target::tag("phone"), Target::everyone()] {
        let mut buyer = signed_in(&shop, SignIn::new("alice").tag("phone"));
        shop.revoke(target).unwrap();
        assert!(!is_alive(&shop, &buyer));
        assert!(is_alive(&bank, &customer), "{target:?}");
        buyer.sign_in(&shop, "alice");
        buyer.request(&shop, |s: &Session<Map>| s.sign_out_everywhere().unwrap());
        assert!(is_alive(&bank, &customer));
        clock.advance(SECOND);
    }
}

#[test]
fn without_a_list_copies_live_on_and_every_receipt_says_so() {
    let clock = common::clock();
    let sessions = SessionManager::builder("shop", KeyRing::for_tests().unwrap())
        .clock(clock)
        .build()
        .unwrap();
    let mut browser = signed_in(&sessions, "alice");
    let id = open(&sessions, &browser).id().unwrap();

    browser.request(&sessions, |s: &Session<Map>| {
        for result in [s.sign_out_everywhere(), s.sign_out_others()] {
            assert_eq!(result.unwrap_err().kind(), ErrorKind::Unsupported);
        }
        assert_eq!(s.subject().as_deref(), Some("alice"));
    });
    for target in
        [Target::session(id), Target::subject("alice"), Target::tag("a"), Target::everyone()]
    {
        assert_eq!(sessions.revoke(target).unwrap_err().kind(), ErrorKind::Unsupported);
    }
    let bearer = sessions.bearer::<Map>();
    let opened = bearer.open(&bearer.issue("alice").unwrap()).unwrap();
    assert_eq!(opened.revoke().unwrap_err().kind(), ErrorKind::Unsupported);

    let copy = browser.clone();
    let verbs: [fn(&Session<Map>) -> _; 3] =
        [Session::renew, |s| s.sign_in("alice"), Session::sign_out];
    for verb in verbs {
        let receipt = browser.request(&sessions, verb).unwrap();
        assert!(!receipt.reaches_copies());
        assert_eq!(receipt.wait().map_err(|error| error.kind()), Ok(()));
    }
    assert_eq!(browser.cookie, None);
    assert_eq!(copy.subject(&sessions).as_deref(), Some("alice"));
}

#[test]
fn a_full_list_says_so_and_forgets_nothing() {
    let list = RevocationList::in_process().max_entries(10);
    let (record, log) = common::recorder();
    let builder = common::builder().0.revocations(list.clone()).observer(record);
    let sessions = builder.build().unwrap();
    let full = || log.lock().unwrap().iter().filter(|event| *event == "ListFull").count();
    let ended: Vec<_> = (0..9).map(|_| signed_in(&sessions, "alice")).collect();
    for browser in &ended {
        open(&sessions, browser).sign_out().unwrap();
    }
    assert_eq!((list.entries(), full()), (9, 0));

    // Nine tenths are for single sessions.
    let mut browser = signed_in(&sessions, "alice");
    let copy = browser.clone();
    let error = browser.request(&sessions, |s: &Session<Map>| {
        assert_eq!(s.sign_in("bob").unwrap_err().kind(), ErrorKind::Full);
        assert_eq!(s.renew().unwrap_err().kind(), ErrorKind::Full);
        assert_eq!(s.subject().as_deref(), Some("alice"));
        let error = s.sign_out().unwrap_err();
        assert_eq!((s.subject(), s.id()), (None, None));
        error
    });
    assert_eq!(error.kind(), ErrorKind::Full);
    assert_eq!(browser.cookie, None);
    assert_eq!(copy.subject(&sessions).as_deref(), Some("alice"));
    assert_eq!((list.entries(), full()), (9, 3));

    // The last tenth is for facts that end many.
    open(&sessions, &copy).sign_out_everywhere().unwrap();
    assert!(!is_alive(&sessions, &copy));
    assert_eq!(sessions.revoke(Target::everyone()).unwrap_err().kind(), ErrorKind::Full);
    // There was no room for a fact about the session itself, which is dead all the same.
    assert_eq!((list.entries(), full()), (10, 5));
    open(&sessions, &ended[0]).sign_out().unwrap();
    sessions.revoke(Target::subject("alice")).unwrap();

    assert!(ended.iter().all(|browser| !is_alive(&sessions, browser)));
    assert_eq!((list.entries(), full()), (10, 5));
}

#[test]
fn the_list_forgets_a_fact_once_nobody_can_ask_for_it_and_not_before() {
    let (sessions, list, clock) = shop(Policy::default());
    let sign_out = || {
        open(&sessions, &signed_in(&sessions, "alice")).sign_out().unwrap();
        list.entries()
    };
    let begin = sealed_session::Clock::now(&clock);
    assert_eq!(sign_out(), 1);
    sessions.revoke(Target::subject("bob")).unwrap();
    assert_eq!(list.entries(), 2);

    // 12 h of a browser session, and clocks that differ. What was over at one look can go at a
    // look that is an hour later.
    let margin = 2 * MINUTE + SECOND;
    clock.set(begin + 12 * HOUR + margin);
    assert_eq!(sign_out(), 3);
    clock.advance(HOUR);
    assert_eq!(sign_out(), 4);
    clock.advance(HOUR);
    assert_eq!(sign_out(), 4, "the first one went");
    // "Sessions of Bob" counts for the longest that any session lasts, in steps of ten minutes.
    clock.set(begin + 30 * DAY + 10 * MINUTE);
    assert_eq!(sign_out(), 5);
    clock.advance(HOUR);
    assert_eq!(sign_out(), 3, "Bob's, and two of the last two hours");
    clock.advance(HOUR);
    assert_eq!(sign_out(), 3, "Bob's went");
}

#[test]
fn a_clock_that_jumps_ahead_by_less_than_an_hour_and_back_forgets_nothing() {
    let (sessions, list, clock) = shop(Policy::nist_aal1());
    let begin = sealed_session::Clock::now(&clock);
    let [ended, forced] = ["alice", "bob"].map(|subject| signed_in(&sessions, subject));
    open(&sessions, &ended).sign_out().unwrap();
    sessions.revoke(Target::subject("bob")).unwrap();

    clock.set(begin + 30 * DAY + HOUR - MILLI);
    open(&sessions, &signed_in(&sessions, "carol")).sign_out().unwrap();
    clock.set(begin + 30 * DAY);

    assert_eq!(list.entries(), 3);
    assert!(!is_alive(&sessions, &ended));
    assert!(!is_alive(&sessions, &forced));
}
