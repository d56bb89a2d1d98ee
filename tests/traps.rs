//! The 22 traps of a revocation list that several instances share, each with the rule that closes it.
//!
//! Here without a server: instances of one process, on a log that goes wrong on demand. Where a trap
//! is a database's own, the part of the list is here, and the comment says where the rest is.
// Slow, and the same whatever else is built: with the default features, and with all of them.
#![cfg(feature = "ring")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod common;
#[path = "common/faulty_log.rs"]
mod faulty_log;

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use common::{DAY, HOUR, MILLI, MINUTE, SECOND, answer, open, recorder};
use faulty_log::{
    Backend, Deployment, Instance, REVOKED, STALE, ShiftedClock, eventually, unknown_kind,
};
use sealed_session::revocation::{OnStale, WhenMissing};
use sealed_session::{
    ErrorKind, Limits, ManualClock, Map, Policy, RevocationList, Session, SessionManager, SignIn,
    Target,
};

// The first reading and what comes after it are one reading.
#[test]
fn trap_01_nothing_is_missed_between_the_first_reading_and_the_next() {
    let deployment = Deployment::new();
    deployment.backend.page(3);
    let writers: Vec<Instance> = (0..3).map(|_| deployment.instance()).collect();
    let names: Vec<String> = (0..300).map(|n| format!("user {n}")).collect();
    let tokens: Vec<String> = names.iter().map(|name| writers[0].sign_in(name.as_str())).collect();

    let reader = thread::scope(|scope| {
        for (writer, names) in writers.iter().zip(names.chunks(100)) {
            scope.spawn(move || {
                for name in names {
                    writer.sessions.revoke(Target::subject(name)).unwrap().wait().unwrap();
                }
            });
        }
        eventually("some are there", || deployment.backend.revocations().len() > 20);
        deployment.instance()
    });

    reader.catch_up();
    let alive: Vec<_> = tokens.iter().filter(|token| reader.ask(token) != REVOKED).collect();
    assert!(alive.is_empty(), "{} of 300 were missed", alive.len());
}

// That no fact is passed over while writers finish out of order is the backend's: log_postgres.rs,
// and the conformance suite. It may give facts twice for that, which must not matter.
#[test]
fn trap_02_facts_that_come_twice_and_in_any_order_change_nothing() {
    let deployment = Deployment::new();
    let (writer, reader) = (deployment.instance(), deployment.instance());
    reader.link.set(|link| link.repeats = 1_000);
    for n in 0..20 {
        let name = format!("user {}", n % 10);
        let token = writer.sign_in(name.as_str());
        writer.sessions.revoke(Target::subject(&name)).unwrap().wait().unwrap();
        reader.catch_up();
        assert_eq!(reader.ask(&token), REVOKED);
    }

    assert_eq!(reader.list.entries(), 10);
    let again = reader.sign_in("user 3");
    reader.catch_up();
    assert_eq!(reader.ask(&again), Ok(()));
}

// A strict route reads ahead of the thread that follows the log, so both read the same facts.
#[test]
fn trap_02_an_own_fact_that_is_read_twice_is_no_conflict_for_the_sign_in_that_follows_it() {
    let deployment = Deployment::new();
    let instance = deployment.instance();
    let cookie = instance.sessions.cookie_for::<Map>("alice").unwrap();
    instance.link.set(|link| link.answers_left = Some(0));

    // A change of the password.
    let session: Session<Map> = instance.sessions.open(Some(&cookie)).unwrap();
    session.sign_out_everywhere().unwrap().wait().unwrap();
    instance.catch_up();
    let reads = instance.link.calls().reads;
    instance.link.mend();
    eventually("it was read again", || instance.link.calls().reads > reads);

    session.sign_in("alice").unwrap();
}

// PostgreSQL gives facts again for as long as a transaction is open that began before them.
#[test]
fn trap_02_a_fact_that_the_log_gives_again_is_no_news_to_a_sign_in() {
    let deployment = Deployment::new();
    let (instance, other) = (deployment.instance(), deployment.instance());
    let cookie = instance.sessions.cookie_for::<Map>("alice").unwrap();
    instance.link.set(|link| link.repeats = 1_000);
    other.sessions.revoke(Target::subject("carol")).unwrap().wait().unwrap();
    instance.catch_up();

    let session: Session<Map> = instance.sessions.open(Some(&cookie)).unwrap();
    let carols: Session<Map> = instance.sessions.open(None::<&str>).unwrap();
    session.sign_out_everywhere().unwrap().wait().unwrap();
    for name in ["bob", "dave"] {
        let reads = instance.link.calls().reads;
        other.sessions.revoke(Target::subject(name)).unwrap().wait().unwrap();
        eventually("all is read again", || instance.link.calls().reads > reads);
    }

    session.sign_in("alice").unwrap();
    carols.sign_in("carol").unwrap();
}

// How commits queue behind NOTIFY, and poolers that drop it: log_postgres.rs. For the list a wake-up
// is a help, never a need.
#[test]
fn trap_03_a_revocation_arrives_without_any_wake_up_and_without_busy_reading() {
    let deployment = Deployment::new();
    let writer = deployment.instance();
    let reader = deployment.instance_with(|list| list.max_staleness(2 * SECOND));
    reader.link.set(|link| link.deaf = true);
    let token = writer.sign_in("alice");

    writer.sessions.revoke(Target::subject("alice")).unwrap().wait().unwrap();

    eventually("it is refused", || reader.ask(&token) == REVOKED);
    let waits = reader.link.calls().waits;
    assert!(waits.iter().all(|wait| *wait == 500 * MILLI), "{waits:?}");
}

#[test]
fn trap_04_a_list_is_as_old_as_its_question_not_as_the_answer() {
    let deployment = Deployment::new();
    let (clock, writer) = (ManualClock::new(SystemTime::now()), deployment.instance());
    let reader = deployment.instance_by(&clock, Policy::default(), |list| list);
    reader.link.set(|link| link.answers_left = Some(0));
    let entries = reader.list.entries();

    writer.sessions.revoke(Target::subject("alice")).unwrap().wait().unwrap();
    clock.advance(29 * SECOND);
    assert!(reader.list.is_fresh());
    reader.link.set(|link| link.answers_left = Some(1));
    eventually("the answer came", || reader.list.entries() > entries);

    clock.advance(SECOND);
    assert!(reader.list.is_fresh());
    clock.advance(MILLI);
    assert!(!reader.list.is_fresh());
}

#[test]
fn trap_04_either_clock_ends_the_freshness() {
    let deployment = Deployment::new();
    // A wall clock that stands still, or was set back.
    let (began, clock) = (Instant::now(), ManualClock::new(SystemTime::now()));
    let reader =
        deployment.instance_by(&clock, Policy::default(), |list| list.max_staleness(SECOND));
    reader.link.set(|link| link.frozen = true);
    clock.set(SystemTime::now() - HOUR);
    eventually("the steady clock ends it", || !reader.list.is_fresh());
    assert!(began.elapsed() >= SECOND);

    // A steady clock that stood still while the machine slept.
    let reader = deployment.instance_by(&clock, Policy::default(), |list| list);
    reader.link.set(|link| link.frozen = true);
    assert!(reader.list.is_fresh());
    clock.advance(30 * SECOND + MILLI);
    assert!(!reader.list.is_fresh());
}

// With real servers: log_redis_outage.rs, log_postgres_trouble.rs.
#[test]
fn trap_05_what_a_failover_loses_is_given_back_after_the_break() {
    let deployment = Deployment::new();
    let survivor = deployment.instance();
    let token = survivor.sign_in("alice");
    survivor.sessions.revoke(Target::subject("alice")).unwrap().wait().unwrap();

    deployment.backend.fail_over(1);
    assert_eq!(deployment.instance().ask(&token), Ok(()), "it is lost");
    survivor.link.reconnect();

    eventually("it is given back", || deployment.backend.revocations().len() == 1);
    assert_eq!(deployment.instance().ask(&token), REVOKED);
    eventually("it is counted", || survivor.list.status().given_back == 1);
}

#[test]
fn trap_05_a_failover_that_a_proxy_hides_is_found_by_reading_all_now_and_then() {
    let deployment = Deployment::new();
    let survivor = deployment.instance_with(|list| list.reconcile_every(SECOND));
    let [alice, bob] = ["alice", "bob"].map(|subject| survivor.sign_in(subject));
    survivor.sessions.revoke(Target::subject("alice")).unwrap().wait().unwrap();
    survivor.catch_up();

    deployment.backend.fail_over(1);
    // Its fact stands where the survivor has read already.
    let other = deployment.instance();
    other.sessions.revoke(Target::subject("bob")).unwrap().wait().unwrap();

    eventually("bob's is found", || survivor.ask(&bob) == REVOKED);
    eventually("alice's is given back", || deployment.backend.revocations().len() == 2);
    eventually("it is passed on", || other.ask(&alice) == REVOKED);
}

#[test]
fn trap_06_a_log_that_was_wiped_just_now_makes_nobody_clear() {
    let deployment = Deployment::new();
    let survivor = deployment.instance();
    let [alice, bob] = ["alice", "bob"].map(|subject| survivor.sign_in(subject));
    survivor.sessions.revoke(Target::subject("alice")).unwrap().wait().unwrap();

    survivor.link.cut();
    deployment.backend.wipe();
    let new = deployment.instance_with(|list| list.settle(10 * MINUTE));
    assert_eq!([new.ask(&alice), new.ask(&bob)], [STALE, STALE]);
    assert!(new.list.catch_up().wait().is_err());

    survivor.link.mend();
    eventually("it is given back", || {
        let answer = new.ask(&alice);
        assert_ne!(answer, Ok(()));
        answer == REVOKED
    });
    assert_eq!(new.ask(&bob), STALE, "others may have more to give back");

    deployment.backend.grow_older(10 * MINUTE);
    new.catch_up();
    assert_eq!([new.ask(&alice), new.ask(&bob)], [REVOKED, Ok(())]);
}

#[test]
fn trap_06_a_wiped_log_is_noticed_by_who_is_connected_and_loses_nothing() {
    let deployment = Deployment::new();
    let survivors = [deployment.instance(), deployment.instance()];
    let token = survivors[0].sign_in("alice");
    survivors[0].sessions.revoke(Target::subject("alice")).unwrap().wait().unwrap();

    deployment.backend.wipe();

    eventually("it is given back", || deployment.backend.revocations().len() == 1);
    assert_eq!(deployment.instance().ask(&token), REVOKED);
    survivors.iter().for_each(Instance::catch_up);
    assert!(survivors.iter().all(|survivor| survivor.ask(&token) == REVOKED));
}

/// A session from before a time without any instance, in which the log was lost.
fn after_the_loss(when_missing: WhenMissing) -> (Deployment, Instance, String) {
    let deployment = Deployment::new();
    let token = deployment.instance().sign_in("alice");
    deployment.backend.wipe();
    let new = deployment.instance_with(|list| list.when_missing(when_missing));
    (deployment, new, token)
}

#[test]
fn trap_07_a_log_lost_with_all_instances_signs_everyone_out_by_default() {
    let (deployment, new, token) = after_the_loss(WhenMissing::default());
    let next = deployment.instance();

    assert_eq!([new.ask(&token), next.ask(&token)], [REVOKED, REVOKED]);
    let token = new.sign_in("alice");
    assert_eq!([new.ask(&token), next.ask(&token)], [Ok(()), Ok(())]);
}

#[test]
fn trap_07_a_log_lost_with_all_instances_is_refused_until_somebody_decides() {
    let (deployment, new, token) = after_the_loss(WhenMissing::Refuse);
    assert_eq!(new.ask(&token), STALE);
    let why = new.why();
    assert!(why.contains("when_missing"), "{why}");

    let decided = deployment.instance_with(|list| list.when_missing(WhenMissing::StartEmpty));
    assert_eq!(decided.ask(&token), Ok(()));
    eventually("the first one hears of it", || new.list.is_fresh());
    assert_eq!(new.ask(&token), Ok(()));
}

#[test]
fn trap_07_a_log_lost_with_all_instances_starts_empty_where_that_was_asked_for() {
    let (_, new, token) = after_the_loss(WhenMissing::StartEmpty);

    assert_eq!(new.ask(&token), Ok(()));
    assert_eq!(new.list.entries(), 0);
}

// That a Redis which may throw the list away is refused: log_redis.rs. One that is full says so.
#[test]
fn trap_08_a_server_without_room_is_an_error_to_the_caller_and_forgets_nothing() {
    let deployment = Deployment::new();
    let instance = deployment.instance();
    let [alice, bob] = ["alice", "bob"].map(|subject| instance.sign_in(subject));
    instance.sessions.revoke(Target::subject("alice")).unwrap().wait().unwrap();

    instance.is_saved();
    instance.link.set(|link| link.full = true);
    let receipt = instance.sessions.revoke(Target::subject("bob")).unwrap();
    assert_eq!(receipt.wait().unwrap_err().kind(), ErrorKind::Backend);
    assert_eq!([instance.ask(&alice), instance.ask(&bob)], [REVOKED, REVOKED]);
    assert!(instance.list.is_fresh());
    assert_eq!(instance.list.status().unsaved, 1);

    instance.link.mend();
    instance.is_saved();
    assert_eq!(deployment.backend.revocations().len(), 2);
}

// What a backend deletes, it deletes by its own clock: log_redis.rs, log_postgres.rs, log_sqlite.rs.
#[test]
fn trap_09_an_instance_forgets_by_the_clock_of_the_log_never_by_its_own() {
    let (theirs, days) = (ShiftedClock::default(), |days: i64| days * 86_400);
    let deployment = Deployment::on(Backend::with_clock(theirs.clone()));
    let (writer, wrong) = (deployment.instance(), ShiftedClock::new(days(60)));
    let reader = deployment.instance_by(&wrong, Policy::default(), |list| list);
    let mut revoked = 0;
    let mut entries = || {
        revoked += 1;
        let name = format!("user {revoked}");
        // It dates its facts by what it was told of the log's clock.
        writer.catch_up();
        writer.sessions.revoke(Target::subject(&name)).unwrap().wait().unwrap();
        reader.catch_up();
        reader.list.entries()
    };

    for (clock, expected) in [(60, 1), (61, 2), (400, 3), (-400, 4), (0, 5)] {
        wrong.set(days(clock));
        assert_eq!(entries(), expected, "{clock}");
    }
    // By its own clock it does, and no earlier than the second look.
    theirs.set(days(40));
    assert_eq!(entries(), 6);
    theirs.set(days(40) + 7_200);
    assert_eq!(entries(), 2);
}

#[test]
fn trap_10_a_longer_life_is_sealed_only_once_every_instance_keeps_facts_for_so_long() {
    let lives_for = |lifetime| {
        let limits = Limits { absolute_timeout: lifetime, idle_timeout: None };
        Policy::default().browser(limits).remember(limits)
    };
    let deployment = Deployment::new();
    let clock = ShiftedClock::default();
    let short = deployment.instance_by(&clock, lives_for(HOUR), |list| list);
    let announced = || deployment.backend.stored().iter().filter(|fact| fact[0] == 4).count();
    eventually("it says how long sessions live", || announced() == 1);

    let long =
        deployment.instance_by(&clock, lives_for(40 * DAY), |list| list.max_staleness(SECOND));
    let sealed = || {
        let token = long.sign_in("alice");
        let opened = long.sessions.bearer::<Map>().open(&token).unwrap();
        opened.expires_at().duration_since(opened.issued_at()).unwrap()
    };
    assert_eq!(sealed(), HOUR);
    eventually("longer ones are sealed", || sealed() == 40 * DAY);

    assert_eq!(announced(), 2);
    short.catch_up();
    short.sessions.revoke(Target::subject("alice")).unwrap().wait().unwrap();
    let fact = deployment.backend.revocations().pop().unwrap();
    let until = fact[23..29].iter().fold(0, |until, byte| until << 8 | u64::from(*byte));
    let until = SystemTime::UNIX_EPOCH + Duration::from_millis(until);
    assert!(until >= SystemTime::now() + 40 * DAY, "{until:?}");
}

#[test]
fn trap_11_a_refreshed_token_that_was_under_way_dies_with_its_session() {
    let deployment = Deployment::new();
    let earlier = deployment.instance_by(&ShiftedClock::new(-600), Policy::default(), |list| list);
    let cookie = earlier.sessions.cookie_for::<Map>("alice").unwrap();
    let browser = common::Browser { cookie: Some(cookie) };
    let (here, there) = (deployment.instance(), deployment.instance());

    let unaware = open(&here.sessions, &browser);
    let aware = open(&here.sessions, &browser);
    here.link.set(|link| link.frozen = true);
    there.sessions.revoke(Target::subject("alice")).unwrap().wait().unwrap();
    let mut refreshed = common::Browser::default();
    refreshed.take(&answer(&unaware).expect("a refresh was due"));
    assert_eq!(open(&here.sessions, &refreshed).id(), unaware.id());

    here.link.mend();
    here.catch_up();
    assert_eq!(open(&here.sessions, &refreshed).id(), None);
    assert_eq!(open(&there.sessions, &refreshed).id(), None);
    assert_eq!(answer(&aware), None, "no refresh is sent for what is known to have ended");
}

#[test]
fn trap_12_who_signs_in_right_after_a_revocation_lives_and_who_did_before_is_dead() {
    let deployment = Deployment::new();
    let (here, there) = (deployment.instance(), deployment.instance());
    for _ in 0..100 {
        let before = here.sign_in("alice");
        let receipt = here.sessions.revoke(Target::subject("alice")).unwrap();
        let after = here.sign_in("alice");
        assert_eq!([here.ask(&before), here.ask(&after)], [REVOKED, Ok(())]);

        receipt.wait().unwrap();
        there.catch_up();
        assert_eq!([there.ask(&before), there.ask(&after)], [REVOKED, Ok(())]);
    }
}

#[test]
fn trap_13_facts_about_one_subject_are_judged_one_by_one_in_whatever_order_they_came() {
    let deployment = Deployment::new();
    let here = deployment.instance();
    let mirrored = deployment.instance();
    mirrored.link.set(|link| link.repeats = 1_000);
    let revoke = |target| here.sessions.revoke(target).unwrap().wait().unwrap();
    let subject = || Target::subject("alice");
    let id = |token: &str| here.sessions.bearer::<Map>().open(token).unwrap().id();
    let asked = |tokens: [&str; 2]| {
        let answers = tokens.map(|token| here.ask(token));
        // Those that came first come last there, and all at once.
        mirrored.catch_up();
        let late = deployment.instance();
        assert_eq!(tokens.map(|token| mirrored.ask(token)), answers);
        assert_eq!(tokens.map(|token| late.ask(token)), answers);
        answers
    };

    let (phone, laptop) = (here.sign_in("alice"), here.sign_in("alice"));
    revoke(subject().except(id(&phone)));
    assert_eq!(asked([&phone, &laptop]), [Ok(()), REVOKED]);

    // "All but the laptop" does not spare the laptop from what came before, and ends the phone.
    let tablet = here.sign_in("alice");
    revoke(subject().except(id(&tablet)));
    assert_eq!(asked([&phone, &tablet]), [REVOKED, Ok(())]);

    // Nor does a later exception take back what ended everybody.
    let id = id(&tablet);
    revoke(subject());
    revoke(subject().except(id));
    assert_eq!(asked([&phone, &tablet]), [REVOKED, REVOKED]);
}

#[test]
fn trap_14_a_fact_of_an_unknown_kind_makes_a_list_stale_and_hides_no_other() {
    let deployment = Deployment::new();
    let writer = deployment.instance();
    let reader = deployment.instance_with(|list| list.max_staleness(SECOND));
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|subject| writer.sign_in(subject));

    reader.link.set(|link| link.frozen = true);
    writer.sessions.revoke(Target::subject("alice")).unwrap().wait().unwrap();
    deployment.backend.plant(&unknown_kind());
    writer.sessions.revoke(Target::subject("bob")).unwrap().wait().unwrap();
    reader.link.mend();

    eventually("the others count", || reader.ask(&bob) == REVOKED);
    eventually("it is stale", || reader.ask(&carol) == STALE);
    assert!(reader.list.catch_up().wait().is_err());
    // So is one that starts now.
    let new = deployment.instance();
    let answers = [&alice, &bob, &carol].map(|token| new.ask(token));
    assert_eq!(answers, [REVOKED, REVOKED, STALE]);
    let why = new.why();
    assert!(why.contains("kind 9"), "{why}");
}

// That two instances make one table: log_postgres.rs, log_sqlite_file.rs.
#[test]
fn trap_15_instances_that_meet_an_empty_log_at_once_agree() {
    let deployment = Deployment::new();
    let before = deployment.instance().sign_in("alice");
    deployment.backend.wipe();
    let start = Barrier::new(4);
    let instances: Vec<Instance> = thread::scope(|scope| {
        let start = || {
            start.wait();
            deployment.instance_with(|list| list.when_missing(WhenMissing::SignOutEveryone))
        };
        let started: Vec<_> = (0..4).map(|_| scope.spawn(start)).collect();
        started.into_iter().map(|instance| instance.join().unwrap()).collect()
    });

    assert!(instances.iter().all(|instance| instance.list.is_fresh()));
    assert!(instances.iter().all(|instance| instance.ask(&before) == REVOKED));
    assert_eq!(deployment.backend.revocations().len(), 1, "one decision");
    for instance in &instances {
        let token = instance.sign_in("alice");
        assert!(instances.iter().all(|other| other.ask(&token) == Ok(())));
    }
}

// The deadlines of the clients: log_redis_outage.rs, log_postgres_trouble.rs, log_sqlite.rs. A list
// needs none of them.
#[test]
fn trap_16_a_call_that_never_returns_holds_up_neither_receipts_nor_requests() {
    let deployment = Deployment::new();
    let (hung, other) = (deployment.instance(), deployment.instance());
    let [alice, bob] = ["alice", "bob"].map(|subject| other.sign_in(subject));
    hung.link.set(|link| link.frozen = true);
    let began = Instant::now();

    let receipt = hung.sessions.revoke(Target::subject("alice")).unwrap();
    let caught_up = hung.list.catch_up();
    assert_eq!([hung.ask(&alice), hung.ask(&bob)], [REVOKED, Ok(())]);
    assert_eq!(receipt.wait().unwrap_err().kind(), ErrorKind::Backend);
    assert_eq!(caught_up.wait().unwrap_err().kind(), ErrorKind::Backend);
    let cookie = hung.sessions.cookie_for::<Map>("bob").unwrap();
    let strict = hung.sessions.open_strict::<Map>(Some(&cookie));
    assert_eq!(strict.unwrap_err().kind(), ErrorKind::Backend);
    drop(hung);

    assert!(began.elapsed() < MINUTE);
    assert_eq!([other.ask(&alice), other.ask(&bob)], [Ok(()), Ok(())]);
}

#[test]
fn trap_17_an_instance_that_starts_without_its_log_waits_for_it_and_revokes_meanwhile() {
    let deployment = Deployment::new();
    let [alice, bob] = ["alice", "bob"].map(|subject| deployment.instance().sign_in(subject));
    for frozen in [false, true] {
        let link = deployment.backend.link();
        link.set(|link| (link.down, link.frozen) = (!frozen, frozen));
        let clock = ShiftedClock::default();
        let new = deployment.instance_at(link, &clock, Policy::default(), |list| list);

        assert!(!new.list.is_fresh());
        assert_eq!([new.ask(&alice), new.ask(&bob)], [STALE, STALE]);
        let sign_in = new.sessions.bearer::<Map>().issue("bob");
        assert_eq!(sign_in.unwrap_err().kind(), ErrorKind::Backend);
        let receipt = new.sessions.revoke(Target::subject("alice")).unwrap();
        assert_eq!([new.ask(&alice), new.ask(&bob)], [REVOKED, STALE]);

        new.link.mend();
        eventually("it is fresh", || new.list.is_fresh());
        assert_eq!([new.ask(&alice), new.ask(&bob)], [REVOKED, Ok(())]);
        let _ = receipt.wait();
        new.is_saved();
        assert_eq!(deployment.instance().ask(&alice), REVOKED);
    }
}

#[test]
fn trap_18_a_full_list_refuses_the_caller_forgets_nothing_and_takes_in_what_others_revoke() {
    let deployment = Deployment::new();
    let small = deployment.instance_with(|list| list.max_entries(10));
    let large = deployment.instance();
    let tokens: Vec<String> = (0..110).map(|n| large.sign_in(format!("user {n}"))).collect();
    let id = |token: &str| large.sessions.bearer::<Map>().open(token).unwrap().id();
    let ids: Vec<_> = tokens.iter().map(|token| id(token)).collect();

    for id in &ids[..9] {
        small.sessions.revoke(Target::session(*id)).unwrap();
    }
    small.is_saved();
    let refused = |target| small.sessions.revoke(target).unwrap_err().kind();
    assert_eq!(refused(Target::session(ids[9])), ErrorKind::Full, "the rest is for many at once");
    small.sessions.revoke(Target::subject("user 9")).unwrap();
    assert_eq!(refused(Target::subject("user 10")), ErrorKind::Full);
    small.is_saved();
    small.sessions.revoke(Target::session(ids[0])).unwrap().wait().unwrap();
    assert_eq!(small.list.entries(), 10);

    let names: Vec<String> = (10..110).map(|n| format!("user {n}")).collect();
    let targets: Vec<_> = names.iter().map(|name| Target::subject(name)).collect();
    large.sessions.revoke_all(&targets).unwrap().wait().unwrap();
    small.catch_up();
    assert_eq!(small.list.entries(), 110);
    assert!(small.list.is_fresh());
    assert!(tokens.iter().all(|token| small.ask(token) == REVOKED));
}

#[test]
fn trap_19_a_log_holds_hashes_and_no_names() {
    let deployment = Deployment::new();
    let instance = deployment.instance();
    let names = ["alice@example.org", "device of alice"];
    let token = instance.sign_in(SignIn::new(names[0]).tag(names[1]));
    let opened = instance.sessions.bearer::<Map>().open(&token).unwrap();
    let targets = [
        Target::subject(names[0]),
        Target::tag(names[1]),
        Target::session(opened.id()),
        Target::everyone(),
        Target::subject(names[0]).except(opened.id()),
    ];
    for target in targets {
        instance.sessions.revoke(target).unwrap().wait().unwrap();
    }

    let stored = deployment.backend.stored();
    assert!(deployment.backend.revocations().len() >= 4);
    for fact in &stored {
        assert!(fact.len() <= 55);
        for name in names.iter().flat_map(|name| [name, &name[..5]]) {
            assert!(!fact.windows(name.len()).any(|bytes| bytes == name.as_bytes()), "{name}");
        }
    }
    // One name in two realms has nothing in common there.
    let list = instance.list.clone();
    let other = SessionManager::builder("mail", deployment.keys.clone()).revocations(list);
    let of = || deployment.backend.revocations().last().unwrap()[1..17].to_vec();
    let shops = stored.iter().find(|fact| fact[0] == 2).unwrap()[1..17].to_vec();
    other.build().unwrap().revoke(Target::subject(names[0])).unwrap().wait().unwrap();
    assert_ne!(of(), shops);
}

#[test]
fn trap_20_an_instance_follows_the_logs_of_all_regions_each_with_its_own_bound() {
    let (east, west) = (Deployment::new(), Backend::new());
    let link = west.link();
    let clock = ShiftedClock::default();
    let away = Deployment { backend: west.clone(), keys: east.keys.clone() };
    // A region's own instances decide whether its log is believed, so some start first.
    drop((east.instance(), away.instance()));
    let here = east
        .instance_by(&clock, Policy::default(), |list| list.also_follow(link.clone(), 10 * MINUTE));
    let there = away.instance_with(|list| list.also_follow(east.backend.link(), MINUTE));
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|subject| here.sign_in(subject));

    there.sessions.revoke(Target::subject("alice")).unwrap().wait().unwrap();
    here.catch_up();
    assert_eq!(here.ask(&alice), REVOKED);
    here.sessions.revoke(Target::subject("bob")).unwrap().wait().unwrap();
    there.catch_up();
    assert_eq!(there.ask(&bob), REVOKED);
    // Each region writes its own log only.
    assert_eq!([east.backend.revocations().len(), west.revocations().len()], [1, 1]);

    // Home counts after 30 s, the other region after ten minutes.
    link.cut();
    here.link.cut();
    clock.set(40);
    let answers = |here: &Instance| [&alice, &bob, &carol].map(|token| here.ask(token));
    assert_eq!(answers(&here), [REVOKED, REVOKED, STALE]);
    here.link.mend();
    eventually("home is read", || answers(&here) == [REVOKED, REVOKED, Ok(())]);
    clock.set(601);
    here.link.reconnect();
    let reads = here.link.calls().reads;
    eventually("home is read", || here.link.calls().reads > reads);
    assert_eq!(answers(&here), [REVOKED, REVOKED, STALE]);
    link.mend();
    eventually("both are read", || answers(&here) == [REVOKED, REVOKED, Ok(())]);
}

#[test]
fn trap_21_a_fact_cannot_be_taken_back_but_its_subject_can_sign_in() {
    let deployment = Deployment::new();
    let (here, there) = (deployment.instance(), deployment.instance());
    let token = here.sign_in("alice");
    here.sessions.revoke(Target::subject("alice")).unwrap().wait().unwrap();
    there.catch_up();

    // Somebody deletes it from the log, to undo it.
    deployment.backend.fail_over(1);
    there.link.reconnect();
    eventually("it is back", || deployment.backend.revocations().len() == 1);
    assert!([&here, &there, &deployment.instance()].iter().all(|it| it.ask(&token) == REVOKED));

    let again = here.sign_in("alice");
    assert_eq!([here.ask(&again), there.ask(&again)], [Ok(()), Ok(())]);
    // A list of another name knows nothing of it.
    let renamed = Deployment { backend: Backend::new(), keys: deployment.keys.clone() };
    assert_eq!(renamed.instance().ask(&token), Ok(()));
}

#[test]
fn trap_22_a_stale_list_is_open_only_where_that_was_asked_for_and_says_so() {
    for (on_stale, expected) in [(OnStale::default(), STALE), (OnStale::Accept, Ok(()))] {
        let deployment = Deployment::new();
        let clock = ShiftedClock::default();
        let link = deployment.backend.link();
        let list = RevocationList::builder(link.clone())
            .when_missing(WhenMissing::StartEmpty)
            .on_stale(on_stale)
            .clock(clock.clone())
            .build()
            .unwrap();
        let (record, events) = recorder();
        let sessions = SessionManager::builder("shop", deployment.keys.clone())
            .revocations(list.clone())
            .clock(clock.clone())
            .observer(record)
            .build()
            .unwrap();
        let instance = Instance { sessions, list, link };
        let [alice, bob] = ["alice", "bob"].map(|subject| instance.sign_in(subject));
        instance.sessions.revoke(Target::subject("alice")).unwrap();

        instance.link.cut();
        clock.set(31);
        assert_eq!([instance.ask(&alice), instance.ask(&bob)], [REVOKED, expected]);

        let status = instance.list.status();
        let (refused, accepted) = (status.refused_as_stale, status.accepted_as_stale);
        let (accepts, event) = match on_stale {
            OnStale::Accept => (true, "ListAcceptedStale"),
            _ => (false, "ListStale"),
        };
        assert_eq!((refused, accepted), (u64::from(!accepts), u64::from(accepts)));
        let events = events.lock().unwrap();
        assert_eq!(events.iter().filter(|it| *it == event).count(), 1, "{events:?}");
    }
}

#[test]
fn every_trap_has_a_test() {
    let source = include_str!("traps.rs");
    let lacking = |number: &u32| !source.contains(&format!("#[test]\nfn trap_{number:02}_"));
    assert_eq!((1..=22).filter(lacking).collect::<Vec<_>>(), [0_u32; 0]);
}
