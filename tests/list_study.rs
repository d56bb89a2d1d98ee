//! What can go wrong with a list that several instances share, in 23 cases.
//!
//! Here on logs in memory, good ones and such that go wrong on demand; the same with servers that are
//! killed, frozen and filled is in the tests of the back ends, `log_*.rs`.
// Slow, and the same whatever else is built: with the default features, and with all of them.
#![cfg(feature = "ring")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod common;
#[path = "common/faulty_log.rs"]
mod faulty_log;
#[cfg(feature = "axum")]
#[path = "common/web.rs"]
mod web;

use std::env;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _, stdin};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use common::{Browser, DAY, HOUR, MILLI, MINUTE, SECOND, answer, open};
use faulty_log::{
    Backend, Deployment, FaultyLog, Instance, REVOKED, STALE, ShiftedClock, eventually, sealed,
    unknown_kind,
};
use sealed_session::revocation::{MemoryLog, WhenMissing, conformance};
use sealed_session::{
    ErrorKind, KeyRing, Keys, Limits, ManualClock, Map, Policy, RevocationList, SessionManager,
    Target,
};

/// The sessions of an application that follows a log in memory, as its documentation shows it.
fn on_memory(log: &MemoryLog, keys: &Keys, when_missing: WhenMissing) -> SessionManager {
    let list = RevocationList::builder(log.clone()).when_missing(when_missing).build().unwrap();
    SessionManager::builder("shop", keys.clone()).revocations(list).build().unwrap()
}

fn ask(sessions: &SessionManager, token: &str) -> Result<(), ErrorKind> {
    sessions.bearer::<Map>().open(token).map(drop).map_err(|error| error.kind())
}

#[test]
fn the_log_of_these_tests_is_a_log() {
    let backend = Backend::new();
    let suite = conformance::Suite::new(|| Ok(backend.link()));
    let wipe = || {
        backend.wipe();
        Ok(())
    };
    suite.wiped_by(wipe).run().unwrap();
}

#[test]
fn study_01_a_reader_that_starts_among_writers_and_one_that_follows_miss_nothing() {
    let (log, keys) = (MemoryLog::new().unwrap(), KeyRing::for_tests().unwrap().into());
    let instance = || on_memory(&log, &keys, WhenMissing::StartEmpty);
    let (writers, following) = ([instance(), instance(), instance()], instance());
    let names: Vec<Vec<String>> =
        (0..3).map(|writer| (0..200).map(|n| format!("user {writer}-{n}")).collect()).collect();
    let issue = |name: &String| writers[0].bearer::<Map>().issue(name.as_str()).unwrap();
    let tokens: Vec<String> = names.iter().flatten().map(issue).collect();
    let done = AtomicUsize::new(0);

    let starting: Vec<SessionManager> = thread::scope(|scope| {
        for (writer, names) in writers.iter().zip(&names) {
            let done = &done;
            scope.spawn(move || {
                for name in names {
                    writer.revoke(Target::subject(name)).unwrap().wait().unwrap();
                    done.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        let at = |number| {
            eventually("some are there", || done.load(Ordering::SeqCst) >= number);
            instance()
        };
        [1, 100, 300].map(at).into()
    });

    for reader in starting.iter().chain([&following]) {
        reader.revocations().unwrap().catch_up().wait().unwrap();
        assert!(tokens.iter().all(|token| ask(reader, token) == REVOKED));
    }
}

#[test]
fn study_02_a_connection_that_is_cut_after_any_call_loses_nothing_either_way() {
    for calls in 0..12 {
        for before_the_start in [false, true] {
            let deployment = Deployment::new();
            let other = deployment.instance();
            let [alice, bob] = ["alice", "bob"].map(|subject| other.sign_in(subject));
            let link = deployment.backend.link();
            let cut = || link.set(|link| link.calls_left = Some(calls));
            if before_the_start {
                cut();
            }
            let clock = ShiftedClock::default();
            let here = deployment.instance_at(link.clone(), &clock, Policy::default(), |list| list);
            if !before_the_start {
                cut();
            }
            here.sessions.revoke(Target::subject("alice")).unwrap();
            other.sessions.revoke(Target::subject("bob")).unwrap().wait().unwrap();
            while link.calls().appends + link.calls().reads + link.calls().scans < calls {
                let _ = here.list.catch_up().wait();
            }
            here.link.mend();

            here.catch_up();
            assert!(here.list.is_fresh());
            assert_eq!([here.ask(&alice), here.ask(&bob)], [REVOKED, REVOKED], "{calls}");
            here.is_saved();
            other.catch_up();
            assert_eq!([other.ask(&alice), other.ask(&bob)], [REVOKED, REVOKED], "{calls}");
        }
    }
}

// With servers that are killed: log_redis_outage.rs, log_postgres_trouble.rs, log_sqlite.rs.
#[test]
fn study_03_a_backend_that_comes_back_with_all_with_nothing_or_without_the_last_facts_has_all() {
    for lost in ["nothing", "all", "the last"] {
        let deployment = Deployment::new();
        let instances = [deployment.instance(), deployment.instance()];
        let names: Vec<String> = (0..20).map(|n| format!("user {n}")).collect();
        let tokens: Vec<_> = names.iter().map(|it| instances[0].sign_in(it.as_str())).collect();
        let revoke = |names: &[String]| {
            let revoke = |(n, name): (usize, &String)| {
                let target = Target::subject(name);
                instances[n % 2].sessions.revoke(target).unwrap()
            };
            names.iter().enumerate().map(revoke).collect::<Vec<_>>()
        };
        let acknowledged = revoke(&names[..10]);
        assert!(acknowledged.iter().all(|receipt| receipt.wait().is_ok()));

        for instance in &instances {
            instance.link.cut();
        }
        revoke(&names[10..]);
        match lost {
            "all" => deployment.backend.wipe(),
            "the last" => deployment.backend.fail_over(6),
            _ => {}
        }
        for instance in &instances {
            instance.link.mend();
        }

        eventually("all is there", || deployment.backend.revocations().len() == 20);
        let new = deployment.instance();
        for instance in instances.iter().chain([&new]) {
            instance.catch_up();
            assert!(tokens.iter().all(|it| instance.ask(it) == REVOKED), "lost: {lost}");
        }
    }
}

#[test]
fn study_04_a_frozen_backend_makes_a_list_stale_at_its_bound_and_a_receipt_an_error_in_time() {
    let deployment = Deployment::new();
    let clock = ManualClock::new(SystemTime::now());
    let instance =
        deployment.instance_by(&clock, Policy::default(), |list| list.max_staleness(2 * SECOND));
    instance.link.set(|link| link.frozen = true);
    clock.advance(2 * SECOND);
    assert!(instance.list.is_fresh());
    clock.advance(MILLI);
    assert!(!instance.list.is_fresh());

    let began = Instant::now();
    let receipt = instance.sessions.revoke(Target::subject("alice")).unwrap();
    assert_eq!(receipt.wait().unwrap_err().kind(), ErrorKind::Backend);
    assert!(began.elapsed() >= 2 * SECOND && began.elapsed() < MINUTE);
    // By the clock that nobody sets it is stale by now, too.
    clock.set(SystemTime::now() - HOUR);
    eventually("it is stale", || !instance.list.is_fresh());

    instance.link.mend();
    eventually("it is fresh again", || instance.list.is_fresh());
    eventually("it is saved", || deployment.backend.revocations().len() == 1);
}

#[test]
fn study_05_a_new_instance_on_a_log_that_was_made_just_now_answers_nobody_before_it_has_settled() {
    let deployment = Deployment::new();
    let token = deployment.instance().sign_in("alice");
    deployment.backend.wipe();
    let new = deployment.instance_with(|list| list.settle(MINUTE));

    assert_eq!(new.ask(&token), STALE);
    assert!(!new.list.is_fresh());
    assert_eq!(new.list.catch_up().wait().unwrap_err().kind(), ErrorKind::Backend);
    let sign_in = new.sessions.bearer::<Map>().issue("alice");
    assert_eq!(sign_in.unwrap_err().kind(), ErrorKind::Backend);

    deployment.backend.grow_older(MINUTE);
    new.catch_up();
    assert_eq!(new.ask(&token), Ok(()));
}

#[test]
fn study_06_a_log_that_was_wiped_with_no_survivor_is_met_as_it_was_said() {
    let keys: Keys = KeyRing::for_tests().unwrap().into();
    let decisions = [
        (WhenMissing::SignOutEveryone, REVOKED),
        (WhenMissing::Refuse, STALE),
        (WhenMissing::StartEmpty, Ok(())),
    ];
    for (when_missing, expected) in decisions {
        let log = MemoryLog::new().unwrap();
        let token = {
            let before = on_memory(&log, &keys, WhenMissing::StartEmpty);
            before.revoke(Target::subject("bob")).unwrap().wait().unwrap();
            before.bearer::<Map>().issue("alice").unwrap()
        };
        log.wipe().unwrap();

        let after = on_memory(&log, &keys, when_missing);
        assert_eq!(ask(&after, &token), expected, "{when_missing:?}");
        let sign_in = after.bearer::<Map>().issue("alice").map_err(|error| error.kind());
        let refused = when_missing == WhenMissing::Refuse;
        assert_eq!(sign_in.err(), refused.then_some(ErrorKind::Backend), "{when_missing:?}");
    }
}

// That a Redis with the wrong policy is refused: log_redis.rs, a_server_that_may_evict_…
#[test]
fn study_07_a_server_that_takes_nothing_more_gets_all_of_it_once_it_does() {
    let deployment = Deployment::new();
    let instance = deployment.instance();
    instance.is_saved();
    instance.link.set(|link| link.full = true);
    let names: Vec<String> = (0..50).map(|n| format!("user {n}")).collect();
    let tokens: Vec<_> = names.iter().map(|name| instance.sign_in(name.as_str())).collect();

    let receipts: Vec<_> =
        names.iter().map(|name| instance.sessions.revoke(Target::subject(name)).unwrap()).collect();
    assert!(receipts.iter().all(|receipt| receipt.wait().is_err()));
    assert!(instance.why().contains("out of room"), "{}", instance.why());
    assert!(tokens.iter().all(|token| instance.ask(token) == REVOKED));
    assert_eq!(instance.list.status().unsaved, 50);

    instance.link.mend();
    instance.is_saved();
    let new = deployment.instance();
    assert!(tokens.iter().all(|token| new.ask(token) == REVOKED));
}

#[test]
fn study_08_a_stale_list_refuses_whom_it_knows_and_answers_nothing_on_others() {
    let deployment = Deployment::new();
    let clock = ShiftedClock::default();
    let instance = deployment.instance_by(&clock, Policy::default(), |list| list);
    let [alice, bob] = ["alice", "bob"].map(|subject| instance.sign_in(subject));
    let cookie = instance.sessions.cookie_for::<Map>("bob").unwrap();
    instance.sessions.revoke(Target::subject("alice")).unwrap().wait().unwrap();
    let running = instance.sessions.open::<Map>(Some(&cookie)).unwrap();

    instance.link.cut();
    clock.set(31);

    assert_eq!([instance.ask(&alice), instance.ask(&bob)], [REVOKED, STALE]);
    let error = instance.sessions.open::<Map>(Some(&cookie)).unwrap_err();
    assert_eq!((error.kind(), error.kind().status()), (ErrorKind::Backend, 503));
    assert_eq!(running.recheck().unwrap_err().kind(), ErrorKind::Backend);
    // A visitor without a cookie is nobody that could have been revoked.
    assert!(instance.sessions.open::<Map>(None::<&str>).is_ok());
    // What runs already finishes.
    running.insert("cart", 7).unwrap();
    assert!(answer(&running).is_some());

    instance.link.mend();
    eventually("it is fresh", || instance.list.is_fresh());
    assert!(instance.sessions.open::<Map>(Some(&cookie)).unwrap().id().is_some());
}

#[cfg(feature = "axum")]
#[test]
fn study_08_axum_answers_503_and_leaves_the_cookie_while_pages_without_a_session_go_on() {
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;
    use std::task::{Context, Poll, Waker};

    use axum::Router;
    use axum::body::Body;
    use axum::routing::get;
    use http::header::{COOKIE, SET_COOKIE};
    use http::{HeaderMap, Request, StatusCode};
    use sealed_session::Session;
    use sealed_session::axum::SignedIn;
    use sealed_session::tower::SessionLayer;
    use tower::util::ServiceExt as _;

    let deployment = Deployment::new();
    let clock = ShiftedClock::default();
    let instance = deployment.instance_by(&clock, Policy::default(), |list| list);
    let cookie = |subject: &str| instance.sessions.cookie_for::<Map>(subject).unwrap();
    let [alice, bob] = ["alice", "bob"].map(cookie);
    instance.sessions.revoke(Target::subject("alice")).unwrap().wait().unwrap();
    let go = Arc::new(AtomicBool::new(false));
    let slow = {
        let go = Arc::clone(&go);
        move |session: Session| async move {
            std::future::poll_fn(|_| {
                let ready = go.load(Ordering::SeqCst);
                if ready { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
            session.insert("cart", 7)
        }
    };
    let app = Router::new()
        .route("/", get(|| async { "welcome" }))
        .route("/cart", get(|_: Session| async {}))
        .route("/write", get(|session: Session| async move { session.insert("cart", 7) }))
        .route("/account", get(|_: SignedIn| async {}))
        .route("/perhaps", get(|_: Option<SignedIn>| async {}))
        .route("/slow", get(|session: Session| async move { slow(session).await.map(drop) }))
        .layer(SessionLayer::<Map>::new(instance.sessions.clone()));
    let request = |path: &str, cookie: &str| {
        Request::builder().uri(path).header(COOKIE, cookie).body(Body::empty()).unwrap()
    };
    let call = |path: &str, cookie: &str| -> (StatusCode, HeaderMap) {
        let Ok(response) = web::block_on(app.clone().oneshot(request(path, cookie)));
        (response.status(), response.headers().clone())
    };
    let mut running = Box::pin(app.clone().oneshot(request("/slow", &bob)));
    let mut context = Context::from_waker(Waker::noop());
    assert!(running.as_mut().poll(&mut context).is_pending());

    instance.link.cut();
    clock.set(31);

    assert_eq!(call("/", &bob).0, StatusCode::OK);
    for path in ["/cart", "/write", "/account", "/perhaps"] {
        let (status, headers) = call(path, &bob);
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{path}");
        assert!(headers.get(SET_COOKIE).is_none(), "{path}");
    }
    // Whom it knows is a visitor whose session has ended, not one of whom nothing is known.
    let (status, headers) = call("/account", &alice);
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert!(headers.get(SET_COOKIE).is_none());

    go.store(true, Ordering::SeqCst);
    let Poll::Ready(Ok(response)) = running.as_mut().poll(&mut context) else {
        panic!("it does not finish");
    };
    assert_eq!(response.status(), StatusCode::OK);
    assert!(response.headers().get(SET_COOKIE).is_some());
}

#[test]
fn study_09_a_revocation_is_in_force_here_when_the_call_returns_whatever_becomes_of_it() {
    for trouble in ["none", "down", "frozen", "full", "acks", "panics"] {
        let deployment = Deployment::new();
        let instance = deployment.instance();
        let tokens: Vec<String> = (0..4).map(|_| instance.sign_in("alice")).collect();
        instance.link.set(|link| match trouble {
            "down" => link.down = true,
            "frozen" => link.frozen = true,
            "full" => link.full = true,
            "acks" => link.loses_acks = true,
            "panics" => link.panics = true,
            _ => {}
        });

        let receipt = instance.sessions.revoke(Target::subject("alice")).unwrap();
        thread::scope(|scope| {
            for token in &tokens {
                scope.spawn(|| assert_eq!(instance.ask(token), REVOKED));
            }
        });
        assert_eq!(receipt.wait().is_ok(), trouble == "none", "{trouble}");
        assert!(tokens.iter().all(|token| instance.ask(token) == REVOKED));
    }
}

#[test]
fn study_10_what_could_not_be_saved_is_saved_later_without_its_caller_and_once() {
    for trouble in ["down", "frozen", "acks", "panics"] {
        let deployment = Deployment::new();
        let instance = deployment.instance();
        let token = instance.sign_in("alice");
        instance.is_saved();
        let tries = || instance.link.calls().appends;
        let before = tries();
        instance.link.set(|link| match trouble {
            "frozen" => link.frozen = true,
            "acks" => link.loses_acks = true,
            "panics" => link.panics = true,
            _ => link.down = true,
        });
        drop(instance.sessions.revoke(Target::subject("alice")).unwrap());
        // The second try begins when the first has ended.
        let enough = before + if trouble == "frozen" { 1 } else { 2 };
        eventually("it was tried", || tries() >= enough);
        let stored = deployment.backend.revocations().len();
        assert_eq!(stored, usize::from(trouble == "acks"), "{trouble}");

        instance.link.mend();
        instance.is_saved();
        assert_eq!(deployment.backend.revocations().len(), 1, "{trouble}");
        assert_eq!(deployment.instance().ask(&token), REVOKED);
    }
}

#[test]
fn study_11_whichever_way_clocks_are_off_old_sessions_die_and_new_ones_live() {
    for clocks in 0..27 {
        let [a, b, c] = [clocks / 9, clocks / 3, clocks].map(|it| (it % 3 - 1) * 60);
        let deployment = Deployment::new();
        let instance = |seconds| {
            deployment.instance_by(&ShiftedClock::new(seconds), Policy::default(), |list| list)
        };
        let instances = [a, b, c].map(instance);
        let old = instances.each_ref().map(|instance| instance.sign_in("alice"));

        instances[0].sessions.revoke(Target::subject("alice")).unwrap().wait().unwrap();
        instances.iter().for_each(Instance::catch_up);
        let new = instances.each_ref().map(|instance| instance.sign_in("alice"));

        for instance in &instances {
            let answers = old.each_ref().map(|token| instance.ask(token));
            assert_eq!(answers, [REVOKED; 3], "{a} {b} {c}");
            let answers = new.each_ref().map(|token| instance.ask(token));
            assert_eq!(answers, [Ok(()); 3], "{a} {b} {c}");
        }
        // And once more, though the new ones were issued ahead of the clock.
        instances[1].sessions.revoke(Target::subject("alice")).unwrap().wait().unwrap();
        for instance in &instances {
            instance.catch_up();
            let answers = new.each_ref().map(|token| instance.ask(token));
            assert_eq!(answers, [REVOKED; 3], "{a} {b} {c}");
        }
    }
}

#[test]
fn study_12_the_session_that_is_excepted_survives_on_every_instance() {
    let deployment = Deployment::new();
    let (here, there) = (deployment.instance(), deployment.instance());
    let cookie = |_| common::signed_in(&here.sessions, "alice");
    let [phone, laptop, tablet] = [0, 1, 2].map(cookie);
    let alive = || {
        there.catch_up();
        let alive = |instance: &Instance| {
            [&phone, &laptop, &tablet].map(|it| common::is_alive(&instance.sessions, it))
        };
        assert_eq!(alive(&here), alive(&there));
        alive(&here)
    };

    let id = open(&here.sessions, &tablet).id().unwrap();
    let on_phone = here.sessions.revoke(Target::session(id).except(id)).unwrap();
    on_phone.wait().unwrap();
    assert_eq!(alive(), [true, true, true]);
    let id = open(&here.sessions, &phone).id().unwrap();
    here.sessions.revoke(Target::subject("alice").except(id)).unwrap().wait().unwrap();
    assert_eq!(alive(), [true, false, false]);

    // The visitor's own way to it.
    let watch = common::signed_in(&here.sessions, "alice");
    let session = open(&there.sessions, &phone);
    there.catch_up();
    session.sign_out_others().unwrap().wait().unwrap();
    let mut phone = phone.clone();
    phone.take_answer(&session);
    here.catch_up();
    for sessions in [&here.sessions, &there.sessions] {
        assert!(common::is_alive(sessions, &phone));
        assert!(!common::is_alive(sessions, &watch));
    }
}

fn lives_for(lifetime: Duration) -> Policy {
    let limits = Limits { absolute_timeout: lifetime, idle_timeout: None };
    Policy::default().browser(limits).remember(limits)
}

#[test]
fn study_13_no_change_of_the_absolute_limit_brings_a_revoked_session_back() {
    let (day, hours) = (86_400, 3_600);
    for limits in [[HOUR, 40 * DAY, 40 * DAY], [40 * DAY, HOUR, 40 * DAY], [40 * DAY, HOUR, HOUR]] {
        let clock = ShiftedClock::default();
        let deployment = Deployment::on(Backend::with_clock(clock.clone()));
        let [before, meanwhile, afterwards] = limits.map(lives_for);
        // The instances of one deploy after the other.
        let token = {
            let first = deployment.instance_by(&clock, before, |list| list);
            let saved = || deployment.backend.stored().iter().any(|fact| fact[0] == 4);
            eventually("it says how long sessions live", saved);
            first.sign_in("alice")
        };
        {
            let second = deployment.instance_by(&clock, meanwhile, |list| list);
            second.sessions.revoke(Target::subject("alice")).unwrap().wait().unwrap();
        }
        let third = deployment.instance_by(&clock, afterwards, |list| list);
        let other = deployment.instance_by(&clock, Policy::default(), |list| list);
        let mut n = 0;
        for time in [0, 2 * hours, 4 * hours, 2 * day, 2 * day + 2 * hours, 39 * day, 41 * day] {
            clock.set(time);
            n += 1;
            // Something new, which makes lists forget what is over.
            other.catch_up();
            let target = format!("user {n}");
            other.sessions.revoke(Target::subject(&target)).unwrap().wait().unwrap();
            third.catch_up();
            let answer = third.ask(&token);
            assert!(matches!(answer, Err(ErrorKind::Revoked | ErrorKind::Expired)), "{answer:?}");
        }
    }
}

#[test]
fn study_14_a_fact_is_forgotten_after_its_end_and_not_a_second_earlier() {
    // Of one session to the second; of a subject up to two hours later.
    for (of_session, seconds, stays) in [
        (true, 0, true),
        (true, 1, true),
        (true, 2, false),
        (false, 0, true),
        (false, 1, true),
        (false, 7_202, false),
    ] {
        let clock = ManualClock::new(SystemTime::UNIX_EPOCH + 1_790_000_000 * SECOND);
        let deployment = Deployment::on(Backend::with_clock(clock.clone()));
        let instance = deployment.instance_by(&clock, Policy::default(), |list| list);
        let token = instance.sign_in("alice");
        let id = instance.sessions.bearer::<Map>().open(&token).unwrap().id();
        let revoke = |target| {
            instance.catch_up();
            instance.sessions.revoke(target).unwrap().wait().unwrap();
            instance.catch_up();
        };
        revoke(if of_session { Target::session(id) } else { Target::subject("alice") });
        let fact = deployment.backend.revocations().pop().unwrap();
        let until = if of_session { &fact[21..27] } else { &fact[23..29] };
        let until = until.iter().fold(0, |until, byte| until << 8 | u64::from(*byte));
        let just_before = Duration::from_secs(until.div_ceil(1000) - 1);

        // It looks for what is over with the first reading after an hour, and drops with the next what
        // was over then.
        clock.set(SystemTime::UNIX_EPOCH + just_before + seconds * SECOND);
        revoke(Target::subject("bob"));
        assert_eq!(instance.list.entries(), 2);
        assert_ne!(instance.ask(&token), Ok(()));
        clock.advance(HOUR);
        revoke(Target::subject("carol"));
        let entries = if stays { 3 } else { 2 };
        assert_eq!(instance.list.entries(), entries, "{of_session} {seconds}");
        assert_ne!(instance.ask(&token), Ok(()));
    }
}

#[test]
fn study_15_a_refresh_that_races_with_a_revocation_leaves_no_live_token() {
    let deployment = Deployment::new();
    let earlier = deployment.instance_by(&ShiftedClock::new(-600), Policy::default(), |list| list);
    let (here, there) = (deployment.instance(), deployment.instance());
    let mut refreshes = 0;
    for round in 0..200 {
        let name = format!("user {round}");
        let old = Browser { cookie: Some(earlier.sessions.cookie_for::<Map>(&*name).unwrap()) };
        let mut new = old.clone();
        thread::scope(|scope| {
            scope.spawn(|| {
                let receipt = there.sessions.revoke(Target::subject(&name)).unwrap();
                receipt.wait().unwrap();
            });
            for _ in 0..(round % 20) * 50 {
                std::hint::spin_loop();
            }
            refreshes += u32::from(new.take_answer(&open(&here.sessions, &new)));
        });
        here.catch_up();
        for sessions in [&here.sessions, &there.sessions] {
            assert!(!common::is_alive(sessions, &old) && !common::is_alive(sessions, &new));
        }
    }
    assert!(refreshes > 0, "no refresh was under way");
}

// The torn tail of a file: log_sqlite.rs. A damaged entry of a server: log_redis.rs.
#[test]
fn study_16_what_cannot_be_read_is_never_skipped_and_heals_when_it_is_gone() {
    type Break = fn(&Backend);
    let breaks: [(&str, Break); 4] = [
        ("damaged", Backend::damage_last),
        ("unknown kind", |backend| backend.plant(&unknown_kind())),
        ("cut short", |backend| backend.plant(&[2, 0, 0])),
        ("longer than it should be", |backend| backend.plant(&sealed(&[5; 30]))),
    ];
    for (what, break_it) in breaks {
        let deployment = Deployment::new();
        let survivor = deployment.instance();
        let [alice, bob] = ["alice", "bob"].map(|subject| survivor.sign_in(subject));
        survivor.sessions.revoke(Target::subject("bob")).unwrap().wait().unwrap();
        survivor.sessions.revoke(Target::subject("alice")).unwrap().wait().unwrap();
        survivor.catch_up();
        break_it(&deployment.backend);

        let new = deployment.instance();
        assert!(!new.list.is_fresh(), "{what}");
        assert_ne!(new.ask(&alice), Ok(()), "{what}");
        assert_eq!([new.ask(&bob), survivor.ask(&alice)], [REVOKED, REVOKED], "{what}");
        survivor.link.reconnect();
        eventually("the survivor has met it", || survivor.link.calls().scans > 1);
        assert!(survivor.list.catch_up().wait().is_err(), "{what}");

        // The operator throws it out.
        deployment.backend.fail_over(1);
        survivor.catch_up();
        eventually("it is given back", || deployment.backend.revocations().len() == 2);
        new.catch_up();
        assert_eq!([new.ask(&alice), new.ask(&bob)], [REVOKED, REVOKED], "{what}");
    }
}

#[test]
fn study_17_a_list_that_is_full_refuses_and_goes_on_once_it_may_hold_more() {
    let deployment = Deployment::new();
    let instance = deployment.instance_with(|list| list.max_entries(20));
    let tokens: Vec<String> = (0..30).map(|n| instance.sign_in(format!("user {n}"))).collect();
    let end = |token: &String| {
        let opened = instance.sessions.bearer::<Map>().open(token).unwrap();
        opened.revoke().map(drop).map_err(|error| error.kind())
    };
    let ended: Vec<_> = tokens.iter().map(end).collect();
    assert!(ended[..18].iter().all(Result::is_ok));
    assert!(ended[18..].iter().all(|result| *result == Err(ErrorKind::Full)));
    // All or nothing.
    let targets = [20, 21, 22].map(|n| format!("user {n}"));
    let refused = instance.sessions.revoke_all(&targets.each_ref().map(|it| Target::subject(it)));
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Full);
    instance.sessions.revoke(Target::everyone()).unwrap().wait().unwrap();

    assert_eq!(instance.list.entries(), 19);
    assert!(instance.list.is_fresh());
    assert_eq!(deployment.backend.revocations().len(), 19);
    assert!(tokens.iter().all(|token| instance.ask(token) == REVOKED));
    let list = instance.list.clone().max_entries(100);
    instance.sessions.revoke_all(&targets.each_ref().map(|it| Target::subject(it))).unwrap();
    assert_eq!(list.entries(), 22);
}

#[test]
fn study_18_a_wall_clock_that_jumps_makes_a_list_stale_or_changes_nothing() {
    for jump in [-3_600, 3_600] {
        let deployment = Deployment::new();
        let clock = ShiftedClock::default();
        let bound = |list: sealed_session::revocation::RevocationListBuilder| {
            list.max_staleness(2 * SECOND)
        };
        let began = Instant::now();
        let instance = deployment.instance_by(&clock, Policy::default(), bound);
        let [alice, bob] = ["alice", "bob"].map(|subject| instance.sign_in(subject));
        instance.sessions.revoke(Target::subject("alice")).unwrap().wait().unwrap();
        instance.link.set(|link| link.frozen = true);

        clock.set(jump);
        if jump > 0 {
            assert!(!instance.list.is_fresh());
        }
        eventually("it is stale", || !instance.list.is_fresh());
        assert!(jump > 0 || began.elapsed() >= 2 * SECOND);
        assert_ne!([instance.ask(&alice), instance.ask(&bob)], [Ok(()), Ok(())]);

        // One that reads its log is fresh by whatever the clock says now.
        instance.link.mend();
        eventually("it is fresh", || instance.list.is_fresh());
        clock.set(0);
        eventually("and again", || instance.list.is_fresh());
        assert_eq!([instance.ask(&alice), instance.ask(&bob)], [REVOKED, Ok(())]);
    }
}

/// Runs one test of this file in a process of its own, which finds `CHILD` set.
fn in_child(test: &str) -> Child {
    Command::new(env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

const CHILD: &str = "LIST_STUDY_CHILD";

/// The child's side of the next test: says whether its list is fresh for every line it gets.
#[cfg(target_os = "linux")]
#[allow(clippy::print_stdout, reason = "the parent reads it")]
fn tell_whether_fresh() {
    let deployment = Deployment::new();
    let instance = deployment.instance_with(|list| list.max_staleness(SECOND));
    let token = instance.sign_in("alice");
    // Nothing comes any more: the process is about to stop in the middle of a question.
    instance.link.set(|link| link.frozen = true);
    println!("\nfresh: {:?}", instance.ask(&token));
    for line in stdin().lock().lines() {
        if line.unwrap() == "mend" {
            instance.link.mend();
            eventually("it is fresh", || instance.list.is_fresh());
        }
        println!("\nfresh: {:?}", instance.ask(&token));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn study_18_a_process_that_was_paused_is_stale_at_its_first_look() {
    const NAME: &str = "study_18_a_process_that_was_paused_is_stale_at_its_first_look";
    if env::var_os(CHILD).is_some() {
        return tell_whether_fresh();
    }
    let mut child = in_child(NAME);
    let (mut input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let lines = BufReader::new(output).lines().map(Result::unwrap);
    let mut answers = lines.filter(|line| line.starts_with("fresh: "));
    assert_eq!(answers.next().unwrap(), "fresh: Ok(())");
    let signal = |name: &str| {
        let status = Command::new("kill").args([name, &child.id().to_string()]).status();
        assert!(status.unwrap().success());
    };

    signal("-STOP");
    let stat = format!("/proc/{}/stat", child.id());
    eventually("it stands still", || fs::read_to_string(&stat).unwrap().contains(") T "));
    writeln!(input, "ask").unwrap();
    // A pause longer than the bound; how much longer does not matter.
    thread::sleep(1500 * MILLI);
    signal("-CONT");

    assert_eq!(answers.next().unwrap(), "fresh: Err(Backend)");
    writeln!(input, "mend").unwrap();
    assert_eq!(answers.next().unwrap(), "fresh: Ok(())");
    drop(input);
    assert!(child.wait().unwrap().success());
}

#[test]
fn study_19_a_hundred_thousand_subjects_are_revoked_with_one_call() {
    let deployment = Deployment::new();
    let (here, there) = (deployment.instance(), deployment.instance());
    let names: Vec<String> = (0..100_000).map(|n| format!("user {n}")).collect();
    let tokens: Vec<String> =
        names.iter().step_by(1_000).map(|name| here.sign_in(name.as_str())).collect();
    let spared = here.sign_in("user 100000");
    let targets: Vec<Target<'_>> = names.iter().map(|name| Target::subject(name)).collect();

    // How long this may take a debug build on a busy machine is not the point.
    let _ = here.sessions.revoke_all(&targets).unwrap().wait();
    assert_eq!(here.list.entries(), 100_000);
    here.is_saved();

    assert_eq!(deployment.backend.revocations().len(), 100_000);
    let new = deployment.instance();
    there.catch_up();
    for instance in [&here, &there, &new] {
        assert_eq!(instance.list.entries(), 100_000);
        assert!(tokens.iter().all(|token| instance.ask(token) == REVOKED));
        assert_eq!(instance.ask(&spared), Ok(()));
    }
}

#[test]
fn study_20_of_two_regions_one_is_cut_off_and_the_other_goes_on_until_its_own_bound() {
    let (east, west) = (Deployment::new(), Backend::new());
    let link = west.link();
    let clock = ShiftedClock::default();
    let start = |link: &FaultyLog| {
        let link = link.clone();
        east.instance_by(&clock, Policy::default(), |list| {
            list.max_staleness(2 * SECOND).also_follow(link, 10 * MINUTE)
        })
    };
    // A region's own instances decide whether its log is believed, so they start first.
    let there = Deployment { backend: west.clone(), keys: east.keys.clone() }.instance();
    let here = start(&link);
    let [alice, bob] = ["alice", "bob"].map(|subject| here.sign_in(subject));
    there.sessions.revoke(Target::subject("alice")).unwrap().wait().unwrap();
    here.catch_up();

    link.cut();
    // Revocations go on at home, and one of the strict routes would not have all of them.
    here.sessions.revoke(Target::subject("bob")).unwrap().wait().unwrap();
    assert_eq!(here.list.catch_up().wait().unwrap_err().kind(), ErrorKind::Backend);
    let carol = here.sign_in("carol");
    clock.set(500);
    eventually("home is read", || here.ask(&carol) == Ok(()));
    clock.set(601);
    let reads = here.link.calls().reads;
    eventually("home is read twice", || here.link.calls().reads > reads + 2);
    let answers = [&alice, &bob, &carol].map(|token| here.ask(token));
    assert_eq!(answers, [REVOKED, REVOKED, STALE]);

    // The other region loses its log, and this one gives back what it knows of it.
    there.link.cut();
    west.wipe();
    link.mend();
    eventually("it is given back", || west.revocations().len() == 1);
    assert_eq!(east.backend.revocations().len(), 1);
    eventually("both are read", || here.ask(&carol) == Ok(()));
    assert_eq!(here.ask(&alice), REVOKED);
}

#[test]
fn study_21_a_strict_route_sees_what_another_instance_was_told_is_done() {
    let deployment = Deployment::new();
    let (here, there) = (deployment.instance(), deployment.instance());
    // The thread that follows the log gets no more answers: only a strict route reads.
    here.link.set(|link| link.answers_left = Some(0));
    for round in 0..50 {
        let name = format!("user {round}");
        let cookie = here.sessions.cookie_for::<Map>(&*name).unwrap();
        there.sessions.revoke(Target::subject(&name)).unwrap().wait().unwrap();

        let cookies = Some(cookie.as_str());
        assert!(here.sessions.open::<Map>(cookies).unwrap().id().is_some(), "not read yet");
        assert_eq!(here.sessions.open_strict::<Map>(cookies).unwrap().id(), None);
        assert_eq!(here.sessions.open::<Map>(cookies).unwrap().id(), None);
    }
    let cookie = here.sessions.cookie_for::<Map>("alice").unwrap();
    assert!(here.sessions.open_strict::<Map>(Some(&cookie)).unwrap().id().is_some());

    here.link.cut();
    let strict = here.sessions.open_strict::<Map>(Some(&cookie));
    assert_eq!(strict.unwrap_err().kind(), ErrorKind::Backend);
    assert!(here.sessions.open::<Map>(Some(&cookie)).is_ok(), "it is fresh all the same");
}

#[cfg(feature = "axum")]
#[test]
fn study_21_strict_extractors_see_it_too() {
    use axum::Router;
    use axum::body::Body;
    use axum::routing::get;
    use http::header::COOKIE;
    use http::{Request, StatusCode};
    use sealed_session::Session;
    use sealed_session::axum::{SignedIn, Strict};
    use sealed_session::tower::SessionLayer;
    use tower::util::ServiceExt as _;

    let deployment = Deployment::new();
    let (here, there) = (deployment.instance(), deployment.instance());
    here.link.set(|link| link.answers_left = Some(0));
    let app = Router::new()
        .route("/plain", get(|_: SignedIn| async {}))
        .route("/strict", get(|_: Strict<SignedIn>| async {}))
        .route(
            "/page",
            get(|session: Strict<Session>| async move {
                session.0.subject().map_or("nobody".to_owned(), |subject| subject.to_string())
            }),
        )
        .layer(SessionLayer::<Map>::new(here.sessions.clone()));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let call = |path: &str, cookie: &str| {
        let request = Request::builder().uri(path).header(COOKIE, cookie).body(Body::empty());
        let Ok(response) = runtime.block_on(app.clone().oneshot(request.unwrap()));
        response.status()
    };
    let cookie = here.sessions.cookie_for::<Map>("alice").unwrap();
    assert_eq!(call("/strict", &cookie), StatusCode::OK);

    there.sessions.revoke(Target::subject("alice")).unwrap().wait().unwrap();

    assert_eq!(call("/plain", &cookie), StatusCode::OK, "not read yet");
    assert_eq!(call("/strict", &cookie), StatusCode::UNAUTHORIZED);
    assert_eq!(call("/plain", &cookie), StatusCode::UNAUTHORIZED);
    here.link.cut();
    assert_eq!(call("/page", &cookie), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(call("/plain", &cookie), StatusCode::UNAUTHORIZED, "it is fresh all the same");
}

// A user's own transaction is PostgreSQL's matter alone; the list has no part in it.
#[test]
fn study_22_is_shown_with_postgresql() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/log_postgres.rs");
    let source = fs::read_to_string(path).unwrap();
    for test in [
        "a_transaction_that_is_rolled_back_leaves_no_fact",
        "a_long_transaction_hides_no_fact_and_keeps_no_reader_busy",
    ] {
        assert!(source.contains(&format!("#[test]\nfn {test}()")), "{test} is gone");
    }
}

#[cfg(target_os = "linux")]
fn threads() -> Vec<String> {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let name = |task: fs::DirEntry| fs::read_to_string(task.path().join("comm")).ok();
    let names = tasks.filter_map(|task| name(task.unwrap()));
    let mut names: Vec<String> = names.filter(|name| name.starts_with("revoke-")).collect();
    names.sort();
    names
}

#[cfg(target_os = "linux")]
#[test]
fn study_23_the_threads_of_a_list_end_with_its_last_handle() {
    const NAME: &str = "study_23_the_threads_of_a_list_end_with_its_last_handle";
    if env::var_os(CHILD).is_none() {
        // In a process of its own, since it counts threads.
        assert!(in_child(NAME).wait_with_output().unwrap().status.success());
        return;
    }
    let own = ["revoke-clock\n", "revoke-read\n", "revoke-strict\n", "revoke-write\n"];
    for trouble in ["none", "down", "panics", "two logs"] {
        let deployment = Deployment::new();
        let second = Backend::new().link();
        let instance = deployment.instance_with(|list| match trouble {
            "two logs" => list.also_follow(second, MINUTE),
            _ => list.max_staleness(SECOND),
        });
        instance.link.set(|link| {
            (link.down, link.panics) = (trouble == "down", trouble == "panics");
        });
        let count = if trouble == "two logs" { 7 } else { 4 };
        eventually("all have started", || threads().len() == count);
        assert!(trouble == "two logs" || threads() == own, "{:?}", threads());
        let Instance { sessions, list, link: _ } = instance;
        if trouble != "none" {
            drop(sessions.revoke(Target::subject("alice")).unwrap());
        }

        drop(list);
        assert_eq!(threads().len(), count, "the manager has one more handle");
        drop(sessions);
        eventually("all have ended", || threads().is_empty());
    }
}

#[test]
fn every_case_has_a_test() {
    let source = include_str!("list_study.rs");
    let lacking = |number: &u32| !source.contains(&format!("#[test]\nfn study_{number:02}_"));
    assert_eq!((1..=23).filter(lacking).collect::<Vec<_>>(), [0_u32; 0]);
}
