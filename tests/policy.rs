//! What a policy promises: its two bounds, the numbers of its presets, what it refuses, and what a
//! single sign-in may ask for.
#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "helpers of tests")]
#![allow(clippy::unchecked_time_subtraction, reason = "a test may panic")]

mod common;

use std::time::{Duration, SystemTime};

use common::{Browser, DAY, HOUR, MILLI, MINUTE, SECOND, manager};
use proptest::prelude::*;
use sealed_session::{
    Clock, ErrorKind, KeyRing, Limits, ManualClock, Map, Policy, Session, SessionManager, SignIn,
    Target,
};

fn limits(absolute_timeout: Duration, idle_timeout: impl Into<Option<Duration>>) -> Limits {
    Limits { absolute_timeout, idle_timeout: idle_timeout.into() }
}

/// Whether the browser is still signed in, after a request that counts as activity.
fn acts(browser: &mut Browser, sessions: &SessionManager) -> bool {
    browser.request(sessions, |session: &Session<Map>| session.subject().is_some())
}

/// Two instances with the same keys, whose clocks lie `apart` from true time, one ahead, one behind.
struct Instances {
    now: SystemTime,
    apart: Duration,
    clocks: [ManualClock; 2],
    sessions: [SessionManager; 2],
}

impl Instances {
    fn new(policy: &Policy, apart: Duration) -> Self {
        let keys = KeyRing::for_tests().unwrap().expose_text();
        let clocks = [common::clock(), common::clock()];
        let sessions = clocks.each_ref().map(|clock| {
            SessionManager::builder("shop", keys.parse::<KeyRing>().unwrap())
                .policy(policy.clone())
                .clock(clock.clone())
                .build()
                .unwrap()
        });
        let instances = Self { now: clocks[0].now(), apart, clocks, sessions };
        instances.set();
        instances
    }

    fn advance(&mut self, by: Duration) {
        self.now += by;
        self.set();
    }

    fn set(&self) {
        self.clocks[0].set(self.now + self.apart);
        self.clocks[1].set(self.now - self.apart);
    }
}

/// Idle and refresh limits, and a visitor's gaps, each with the instance that serves it then.
fn visits() -> impl Strategy<Value = (u32, u32, Vec<(u32, usize)>)> {
    (400_u32..4_000).prop_flat_map(|idle| (Just(idle), 60..=idle / 2)).prop_flat_map(
        |(idle, after)| {
            let gap = prop_oneof![
                0..2 * idle * 1000,
                (idle - after) * 1000 - 2..(idle - after) * 1000 + 2,
                idle * 1000 - 2..idle * 1000 + 2,
                after * 1000 - 1000..after * 1000,
            ];
            (Just(idle), Just(after), prop::collection::vec((gap, 0_usize..2), 1..40))
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..Default::default() })]

    #[test]
    fn who_is_idle_for_longer_than_the_idle_limit_is_always_signed_out(
        (idle, after, gaps) in visits(),
        apart in prop_oneof![Just(0_u32), 0_u32..20],
    ) {
        let policy = Policy::default()
            .browser(limits(30 * DAY, idle * SECOND))
            .refresh_after(after * SECOND)
            .clock_skew(apart * SECOND);
        let leeway = if apart == 0 { Duration::ZERO } else { (2 * apart + 1) * SECOND };
        let mut instances = Instances::new(&policy, apart * SECOND);
        let mut browser = Browser::default();
        browser.sign_in(&instances.sessions[0], "alice");
        for (gap, at) in gaps {
            let gap = gap * MILLI;
            instances.advance(gap);
            let alive = acts(&mut browser, &instances.sessions[at]);
            prop_assert!(!alive || gap <= idle * SECOND + leeway, "{gap:?}");
            if !alive {
                prop_assert!(gap + leeway >= (idle - after) * SECOND, "{gap:?}");
                break;
            }
        }
    }

    #[test]
    fn who_is_never_idle_for_long_stays_signed_in_until_the_absolute_limit(
        (idle, after, gaps) in visits(),
        apart in prop_oneof![Just(0_u32), 0_u32..20],
    ) {
        let absolute = 3 * idle * SECOND;
        let policy = Policy::default()
            .browser(limits(absolute, idle * SECOND))
            .refresh_after(after * SECOND)
            .clock_skew(apart * SECOND);
        let leeway = if apart == 0 { Duration::ZERO } else { (2 * apart + 1) * SECOND };
        let longest = (idle - after) * SECOND - leeway - MILLI;
        let mut instances = Instances::new(&policy, apart * SECOND);
        let begin = instances.now;
        let mut browser = Browser::default();
        browser.sign_in(&instances.sessions[1], "alice");
        for (gap, at) in gaps.into_iter().cycle().take(1000) {
            instances.advance((gap * MILLI).clamp(10 * SECOND, longest));
            let alive = acts(&mut browser, &instances.sessions[at]);
            let age = instances.now.duration_since(begin).unwrap();
            prop_assert!(alive || age + leeway > absolute, "{age:?}");
            prop_assert!(!alive || age <= absolute + leeway, "{age:?}");
            if !alive {
                return Ok(());
            }
        }
        prop_assert!(false, "still alive");
    }
}

#[test]
fn the_presets_have_the_numbers_of_the_documentation() {
    let idle = |idle: Duration, after| Some((idle, after));
    let half_hour = idle(30 * MINUTE, 3 * MINUTE);
    let quarter = idle(15 * MINUTE, 3 * MINUTE);
    let rows = [
        (Policy::default(), false, 12 * HOUR, half_hour),
        (Policy::default(), true, 30 * DAY, idle(7 * DAY, DAY)),
        (Policy::nist_aal1(), false, 30 * DAY, None),
        (Policy::nist_aal1(), true, 30 * DAY, None),
        (Policy::nist_aal2(), false, 24 * HOUR, idle(HOUR, 3 * MINUTE)),
        (Policy::nist_aal2(), true, 24 * HOUR, idle(HOUR, 30 * MINUTE)),
        (Policy::nist_aal3(), false, 12 * HOUR, quarter),
        (Policy::nist_aal3(), true, 12 * HOUR, idle(15 * MINUTE, 450 * SECOND)),
        (Policy::pci(), false, 12 * HOUR, idle(15 * MINUTE, MINUTE)),
        (Policy::pci(), true, 12 * HOUR, idle(15 * MINUTE, MINUTE)),
    ];
    for (policy, remember, absolute, idle) in rows {
        let (sessions, clock) = manager(policy.clone());
        let sign_in: SignIn = SignIn::new("alice");
        let sign_in = if remember { sign_in.remember() } else { sign_in };
        let begin = clock.now();
        let token = sessions.bearer().issue(sign_in).unwrap();
        let open = || sessions.bearer::<Map>().open(&token).unwrap();
        let opened = open();
        assert_eq!(opened.expires_at(), begin + absolute, "{policy:?}");
        assert_eq!(opened.idle_expires_at(), idle.map(|(idle, _)| begin + idle), "{policy:?}");
        let Some((_, after)) = idle else { continue };
        clock.advance(after - MILLI);
        assert_eq!(open().refresh().unwrap(), None, "{policy:?}");
        clock.advance(MILLI);
        assert!(open().refresh().unwrap().is_some(), "{policy:?}");
    }
}

#[test]
fn anonymous_sessions_have_the_limits_of_browser_sessions_unless_they_have_their_own() {
    let browser = limits(2 * HOUR, 10 * MINUTE);
    let own = limits(3 * HOUR, 20 * MINUTE);
    let set = Policy::default().browser(browser);
    for (policy, expected) in [(set.clone(), browser), (set.anonymous(own), own)] {
        let (sessions, clock) = manager(policy);
        let session: Session = sessions.open(None::<&str>).unwrap();
        session.insert("cart", 7).unwrap();
        assert_eq!(session.expires_at(), Some(clock.now() + expected.absolute_timeout));
        assert_eq!(session.idle_expires_at(), Some(clock.now() + expected.idle_timeout.unwrap()));
    }
}

/// Whether the policy is refused, with a message that names this field.
fn is_refused(policy: Policy, field: &str) -> bool {
    match common::builder().0.policy(policy).build() {
        Ok(_) => false,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.to_string().contains(field), "{error}");
            true
        }
    }
}

#[test]
fn a_policy_that_contradicts_itself_is_refused_with_the_name_of_the_field() {
    type Set = fn(Limits) -> Policy;
    let columns: [(&str, Set); 3] = [
        ("browser", |limits| Policy::default().browser(limits)),
        ("remember", |limits| Policy::default().remember(limits)),
        ("anonymous", |limits| Policy::default().anonymous(limits)),
    ];
    for (column, set) in columns {
        let absolute = format!("policy.{column}: absolute_timeout");
        let idle = format!("policy.{column}: idle_timeout");
        for good in [
            limits(SECOND, None),
            limits(3653 * DAY, None),
            limits(3653 * DAY, 3653 * DAY),
            limits(120 * SECOND, 120 * SECOND),
            limits(121 * SECOND, 121 * SECOND),
        ] {
            assert!(!is_refused(set(good), column), "{good:?}");
        }
        for bad in [
            limits(Duration::ZERO, None),
            limits(999 * MILLI, None),
            limits(1001 * MILLI, None),
            limits(HOUR + Duration::from_nanos(1), None),
            limits(3653 * DAY + SECOND, None),
            limits(Duration::MAX, None),
        ] {
            assert!(is_refused(set(bad), &absolute), "{bad:?}");
        }
        for bad in [
            limits(HOUR, Duration::ZERO),
            limits(HOUR, 119 * SECOND),
            limits(HOUR, 120 * SECOND + MILLI),
            limits(HOUR, HOUR + SECOND),
            limits(HOUR, Duration::MAX),
        ] {
            assert!(is_refused(set(bad), &idle), "{bad:?}");
        }
    }
}

#[test]
fn refresh_after_lies_between_a_minute_and_half_of_the_idle_limit() {
    let both = |limits| Policy::default().browser(limits).remember(limits);
    let ten_minutes = both(limits(HOUR, 10 * MINUTE));
    for (after, refused) in [
        (Duration::ZERO, true),
        (60 * SECOND - MILLI, true),
        (60 * SECOND, false),
        (5 * MINUTE, false),
        (5 * MINUTE + MILLI, true),
        (Duration::MAX, true),
    ] {
        let browser = ten_minutes.clone().refresh_after(after);
        assert_eq!(is_refused(browser, "policy.browser: refresh_after"), refused, "{after:?}");
        let remember = ten_minutes.clone().remember_refresh_after(after);
        let field = "policy.remember: remember_refresh_after";
        assert_eq!(is_refused(remember, field), refused, "{after:?}");
    }
}

#[test]
fn a_clock_skew_over_an_hour_is_refused() {
    assert!(!is_refused(Policy::default().clock_skew(HOUR), "clock_skew"));
    assert!(is_refused(Policy::default().clock_skew(HOUR + MILLI), "policy.clock_skew"));
}

#[test]
fn limits_of_a_sign_in_shorten_and_never_lengthen() {
    let keys = KeyRing::for_tests().unwrap().expose_text();
    let clock = common::clock();
    let with = |policy| {
        let keys: KeyRing = keys.parse().unwrap();
        SessionManager::builder("shop", keys).policy(policy).clock(clock.clone()).build().unwrap()
    };
    let (sessions, raised) =
        (with(Policy::default()), with(Policy::default().browser(limits(365 * DAY, None))));
    let begin = clock.now();
    for (wish, absolute, idle) in [
        (limits(HOUR, 10 * MINUTE), HOUR, 10 * MINUTE),
        (limits(HOUR, None), HOUR, 30 * MINUTE),
        (limits(HOUR, HOUR), HOUR, 30 * MINUTE),
        (limits(13 * HOUR, 10 * MINUTE), 12 * HOUR, 10 * MINUTE),
        (limits(Duration::MAX, Duration::MAX), 12 * HOUR, 30 * MINUTE),
        (limits(SECOND, 2 * SECOND), SECOND, 2 * SECOND),
        (limits(1999 * MILLI, 2999 * MILLI), SECOND, 2 * SECOND),
    ] {
        let session: Session = sessions.open(None::<&str>).unwrap();
        session.sign_in(SignIn::new("alice").limits(wish)).unwrap();
        assert_eq!(session.expires_at(), Some(begin + absolute), "{wish:?}");
        assert_eq!(session.idle_expires_at(), Some(begin + idle), "{wish:?}");

        let token = sessions.bearer::<Map>().issue(SignIn::new("alice").limits(wish)).unwrap();
        // Longer ones were not sealed either, where only today's policy would hold them back.
        for sessions in [&sessions, &raised] {
            let opened = sessions.bearer::<Map>().open(&token).unwrap();
            assert_eq!(opened.expires_at(), begin + absolute, "{wish:?}");
            assert_eq!(opened.idle_expires_at(), Some(begin + idle), "{wish:?}");
        }
    }
}

#[test]
fn limits_of_a_sign_in_under_one_and_two_seconds_are_refused() {
    let (sessions, _) = manager(Policy::default());
    for wish in [
        limits(Duration::ZERO, None),
        limits(999 * MILLI, MINUTE),
        limits(HOUR, Duration::ZERO),
        limits(HOUR, 1999 * MILLI),
    ] {
        let sign_in: SignIn = SignIn::new("alice").limits(wish);
        let session: Session = sessions.open(None::<&str>).unwrap();
        let error = session.sign_in(sign_in.clone()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains("absolute_timeout must be at least 1 s"), "{error}");
        assert!(session.subject().is_none() && session.id().is_none());
        assert_eq!(sessions.bearer().issue(sign_in).unwrap_err().kind(), ErrorKind::Config);
    }
}

/// The `Max-Age` of what a request answers.
fn max_age(session: &Session) -> Option<u64> {
    let header = session.close().unwrap().into_iter().next().unwrap();
    header.split("; ").find_map(|part| part.strip_prefix("Max-Age=")?.parse().ok())
}

#[test]
fn max_age_is_the_whole_seconds_left_of_the_absolute_limit() {
    let (sessions, clock) = manager(Policy::default());
    let cookie = sessions.cookie_for::<Map>(SignIn::new("alice").remember()).unwrap();
    let thirty_days = (30 * DAY).as_secs();
    for (age, left) in [
        (Duration::ZERO, thirty_days),
        (MILLI, thirty_days - 1),
        (SECOND, thirty_days - 1),
        (7 * DAY - MILLI, thirty_days - 604_800),
        (7 * DAY, thirty_days - 604_800),
    ] {
        clock.advance(age);
        let session: Session = sessions.open(Some(&cookie)).unwrap();
        session.insert("age", age.as_millis().to_string()).unwrap();
        assert_eq!(max_age(&session), Some(left), "{age:?}");
        clock.set(clock.now() - age);
    }
    // A refresh tells it anew.
    clock.advance(DAY);
    let session: Session = sessions.open(Some(&cookie)).unwrap();
    assert_eq!(max_age(&session), Some((29 * DAY).as_secs()));
}

#[test]
fn max_age_is_capped_at_400_days() {
    for (days, capped) in [(399, 399), (400, 400), (401, 400), (3653, 400)] {
        let (sessions, _) = manager(Policy::default().remember(limits(days * DAY, None)));
        let session: Session = sessions.open(None::<&str>).unwrap();
        session.sign_in(SignIn::new("alice").remember()).unwrap();
        assert_eq!(max_age(&session), Some(capped * 86_400));
    }
}

#[test]
fn only_remember_me_has_a_max_age() {
    let (sessions, _) = manager(Policy::default());
    let anonymous: Session = sessions.open(None::<&str>).unwrap();
    anonymous.insert("cart", 7).unwrap();
    assert_eq!(max_age(&anonymous), None);
    let browser: Session = sessions.open(None::<&str>).unwrap();
    browser.sign_in("alice").unwrap();
    assert_eq!(max_age(&browser), None);
}

#[test]
fn signed_in_within_counts_from_the_sign_in_to_the_millisecond() {
    let (sessions, clock) = manager(Policy::default());
    let mut browser = Browser::default();
    let within = |browser: &mut Browser, ago| {
        browser.request(&sessions, |session: &Session<Map>| session.signed_in_within(ago))
    };
    assert!(!within(&mut browser, DAY));
    browser.request(&sessions, |session: &Session<Map>| session.insert("cart", 7).unwrap());
    assert!(!within(&mut browser, DAY));

    browser.sign_in(&sessions, "alice");
    assert!(within(&mut browser, Duration::ZERO));
    clock.advance(5 * MINUTE);
    assert!(within(&mut browser, 5 * MINUTE));
    assert!(!within(&mut browser, 5 * MINUTE - MILLI));

    // A refresh in between, and a write, are no sign-in.
    browser.request(&sessions, |session: &Session<Map>| session.insert("cart", 8).unwrap());
    assert!(!within(&mut browser, 5 * MINUTE - MILLI));
    browser.sign_in(&sessions, "alice");
    assert!(within(&mut browser, Duration::ZERO));
}

#[test]
fn recheck_judges_the_session_as_the_next_request_would_be() {
    let policy = Policy::default().browser(limits(HOUR, 10 * MINUTE));
    let (sessions, clock) = manager(policy);
    let recheck = |session: &Session| session.recheck().map_err(|error| error.kind());
    let nobody: Session = sessions.open(None::<&str>).unwrap();
    assert_eq!(recheck(&nobody), Err(ErrorKind::SignedOut));

    let mut browser = Browser::default();
    browser.sign_in(&sessions, "alice");
    let begin = clock.now();
    let session: Session = sessions.open(browser.cookie.as_deref()).unwrap();
    clock.set(begin + 10 * MINUTE);
    assert_eq!(recheck(&session), Ok(()));
    clock.advance(MILLI);
    assert_eq!(recheck(&session), Err(ErrorKind::Idle));
    clock.set(begin + HOUR + MILLI);
    assert_eq!(recheck(&session), Err(ErrorKind::Expired));
    clock.set(begin - 121 * SECOND - MILLI);
    assert_eq!(recheck(&session), Err(ErrorKind::NotYet));

    clock.set(begin + MINUTE);
    assert_eq!(recheck(&session), Ok(()));
    sessions.revoke(Target::subject("alice")).unwrap();
    assert_eq!(recheck(&session), Err(ErrorKind::Revoked));
}

#[test]
fn recheck_after_the_answer_counts_the_refresh_that_went_out_with_it() {
    let (sessions, clock) = manager(Policy::default());
    let mut browser = Browser::default();
    browser.sign_in(&sessions, "alice");
    clock.advance(29 * MINUTE);
    let session: Session = sessions.open(browser.cookie.as_deref()).unwrap();
    assert_eq!(session.close().unwrap().into_iter().count(), 1);

    clock.advance(2 * MINUTE);
    assert!(session.recheck().is_ok());
    clock.advance(28 * MINUTE);
    assert!(session.recheck().is_ok());
    clock.advance(MILLI);
    assert_eq!(session.recheck().unwrap_err().kind(), ErrorKind::Idle);
}
