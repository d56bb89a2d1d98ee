//! What goes wrong with a backend, on real servers, while revocations stream in: nothing that was
//! acknowledged is lost, nobody else is signed out, and all of it heals by itself.
//!
//! Each test is one fault on each backend that can have it, with the rules of `faults/world.rs`. A table
//! goes to the standard output and to `target/reports/faults.json`. SQLite keeps its own `settle`, the
//! servers have 4 s in place of 10 s, and lists may be 2 s old.
#![cfg(all(feature = "sqlite", feature = "redis", feature = "postgres"))]
#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test may panic"
)]

#[path = "faults/backend.rs"]
mod backend;
#[path = "faults/cutter.rs"]
mod cutter;
#[path = "common/faulty_log.rs"]
mod faulty_log;
#[path = "common/folder.rs"]
mod folder;
#[path = "common/postgres_server.rs"]
mod postgres_server;
#[path = "faults/process.rs"]
mod process;
#[path = "common/redis_server.rs"]
mod redis_server;
#[path = "faults/report.rs"]
mod report;
#[path = "faults/run.rs"]
mod run;
#[path = "common/sqlite_log.rs"]
mod sqlite_log;
#[path = "faults/world.rs"]
mod world;

use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use backend::{Backend, Postgres, Redis, Sqlite};
use cutter::Cutter;
use process::{Process, file_limit};
use redis_server::eventually;
use run::Run;
use sealed_session::Target;
use sealed_session::revocation::WhenMissing;
use sqlite_log::Locked;
use world::{BYSTANDERS, Instance, JITTER, REVOKED, STALE, STALENESS};

/// One fault on several backends at the same time.
fn side_by_side(faults: &[&(dyn Fn() + Sync)]) {
    thread::scope(|scope| {
        for fault in faults {
            scope.spawn(fault);
        }
    });
}

fn on_each(fault: impl Fn(Box<dyn Backend>) + Sync) {
    side_by_side(&[
        &|| fault(Box::new(Redis::start())),
        &|| fault(Box::new(Postgres::start())),
        &|| fault(Box::new(Sqlite::start())),
    ]);
}

#[test]
fn a_backend_that_is_killed_and_comes_back_with_its_data_has_lost_nothing() {
    on_each(|mut backend| {
        let run = Run::start("killed, back with its data", &*backend, 3);
        run.stream();
        run.goes_wrong();
        backend.kill();
        run.is_cut_off();
        run.refuses();
        run.more_fail(50);
        run.mend(|| backend.run());
        let told = run.finish();
        assert!(told.failed > 0 && told.refused_after.is_some(), "{told:?}");
    });
}

#[test]
fn a_backend_that_comes_back_at_once_is_not_noticed_by_visitors() {
    on_each(|mut backend| {
        let run = Run::start("killed, back at once", &*backend, 3);
        run.stream();
        run.goes_wrong();
        run.mend(|| {
            backend.kill();
            backend.run();
        });
        run.finish();
    });
}

#[test]
fn a_backend_that_comes_back_without_its_data_gets_it_from_the_instances() {
    on_each(|mut backend| {
        let run = Run::start("killed, back without its data", &*backend, 3);
        run.stream();
        run.goes_wrong();
        run.mend(|| backend.wipe());
        let told = run.finish();
        assert!(told.given_back >= 50, "{told:?}");
    });
}

#[test]
fn tables_that_are_dropped_while_the_server_runs_come_back_from_the_instances() {
    let postgres = Postgres::start();
    let redis = Redis::start();
    side_by_side(&[
        &|| {
            let run = Run::start("tables dropped while running", &postgres, 3);
            run.stream();
            run.goes_wrong();
            run.mend(|| postgres.drop_tables());
            assert!(run.finish().given_back >= 50);
        },
        &|| {
            let run = Run::start("flushed while running", &redis, 3);
            run.stream();
            run.goes_wrong();
            run.mend(|| redis.flush());
            assert!(run.finish().given_back >= 50);
        },
    ]);
}

#[test]
fn a_backend_that_comes_back_without_its_last_second_gets_that_from_the_instances() {
    on_each(|mut backend| {
        let run = Run::start("last second missing", &*backend, 3);
        run.stream();
        backend.back_up();
        run.is_clear();
        run.stream();
        run.goes_wrong();
        run.mend(|| backend.fall_back());
        let told = run.finish();
        assert!(told.given_back > 0, "{told:?}");
    });
}

#[test]
fn a_backend_that_is_frozen_is_waited_for_no_longer_than_max_staleness() {
    side_by_side(&[&|| frozen(&Redis::start()), &|| frozen(&Postgres::start()), &|| {
        let sqlite = Sqlite::start();
        let run = Run::start("locked by another process", &sqlite, 3);
        run.stream();
        run.goes_wrong();
        let locked = Locked::by_another_process(&sqlite.path());
        let began = Instant::now();
        run.more_fail(100);
        eventually("it takes longer", || (began.elapsed() > STALENESS).then_some(()));
        run.mend(|| drop(locked));
        run.finish();
    }]);
}

fn frozen(backend: &dyn Backend) {
    let run = Run::start("frozen", backend, 3);
    run.stream();
    run.goes_wrong();
    backend.freeze();
    run.is_cut_off();
    run.refuses();
    run.more_fail(50);
    run.mend(|| backend.thaw());
    let told = run.finish();
    assert!(told.failed > 0 && told.refused_after.is_some(), "{told:?}");
}

#[test]
fn a_connection_that_is_cut_after_any_number_of_bytes_loses_nothing() {
    fn cut(backend: &dyn Backend) {
        let cutter = Cutter::to(backend.port());
        let through = cutter.address(backend);
        // The first one is not behind it, the others start while connections are cut.
        let run = Run::start("connections cut after k bytes", backend, 1);
        cutter.cut(true);
        run.goes_wrong();
        thread::scope(|scope| {
            for _ in 0..10 {
                scope.spawn(|| run.world.add(&through));
            }
        });
        eventually("the sweep is through", || (cutter.cuts() > 150).then_some(()));
        run.mend(|| cutter.cut(false));
        run.stream();
        run.finish();
    }
    side_by_side(&[&|| cut(&Redis::start()), &|| cut(&Postgres::start())]);
}

#[test]
fn an_answer_that_was_held_up_on_its_way_is_as_old_as_its_question() {
    fn held_up(backend: &dyn Backend) {
        let cutter = Cutter::to(backend.port());
        let address = cutter.address(backend);
        let run = Run::start_with("answers held up", (backend.name(), address), 3, 0);
        run.stream();
        run.goes_wrong();
        cutter.hold();
        run.is_cut_off();
        let held = Instant::now();
        // While they are waited for still, which is 400 ms longer; later they would be given up.
        run.refuses();
        thread::sleep((held + STALENESS + 2 * JITTER).saturating_duration_since(Instant::now()));
        cutter.let_held_go();
        run.more_fail(100);
        run.mend(|| cutter.let_go());
        run.finish();
    }
    side_by_side(&[&|| held_up(&Redis::start()), &|| held_up(&Postgres::start())]);
}

#[test]
fn a_backend_that_takes_no_more_facts_gets_them_once_there_is_room() {
    fn full(fault: &'static str, backend: &dyn Backend) {
        let run = Run::start(fault, backend, 3);
        run.stream();
        run.goes_wrong();
        backend.fill();
        run.more_fail(50);
        run.mend(|| backend.make_room());
        run.finish();
    }
    side_by_side(&[
        &|| full("full (maxmemory)", &Redis::start()),
        // A disk of its own would need root; to its clients a database that is out of room looks so.
        &|| full("takes no writes (read only)", &Postgres::start()),
        &|| {
            let sqlite = Sqlite::start();
            let run = Run::start("full (limit of file size)", &sqlite, 2);
            let mut child = Process::limited(&run.world, 1_000);
            run.goes_wrong();
            let (mut acknowledged, mut refused) = (Vec::new(), Vec::new());
            for subject in run.world.spare(400) {
                let told = child.tell(&format!("revoke {}", subject.subject));
                let list = if told == "Ok" { &mut acknowledged } else { &mut refused };
                list.push(subject);
                // Each that fails takes 2 s.
                if refused.len() == 2 {
                    break;
                }
            }
            assert_eq!(refused.len(), 2);
            for token in acknowledged.iter().chain(&refused) {
                assert_eq!(child.ask(token), "Revoked", "in force where it was revoked");
            }
            for token in &acknowledged {
                run.world.all_refuse(token);
            }
            run.mend(|| file_limit(child.id()));
            for token in &refused {
                run.world.all_refuse(token);
            }
            run.stream();
            run.finish();
        },
    ]);
}

#[test]
fn a_backend_that_is_wiped_while_a_new_instance_starts_gets_all_from_the_others() {
    on_each(|mut backend| {
        let run = Run::start("wiped while a new one starts", &*backend, 2);
        run.stream();
        run.goes_wrong();
        let address = backend.address();
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| run.world.add(&address));
            }
            run.mend(|| backend.wipe());
        });
        run.stream();
        let told = run.finish();
        assert!(told.given_back >= 50, "{told:?}");
    });
}

#[test]
fn a_backend_that_is_wiped_with_no_instance_left_leaves_it_to_when_missing() {
    for decision in [WhenMissing::SignOutEveryone, WhenMissing::Refuse, WhenMissing::StartEmpty] {
        on_each(|backend| missing(backend, decision));
    }
}

fn missing(mut backend: Box<dyn Backend>, decision: WhenMissing) {
    let fault = match decision {
        WhenMissing::Refuse => "wiped, nobody left: refuse",
        WhenMissing::StartEmpty => "wiped, nobody left: start empty",
        _ => "wiped, nobody left: sign out everyone",
    };
    let run = Run::start(fault, &*backend, 2);
    run.stream();
    let world = run.stop();
    world.drop_instances();
    run.goes_wrong();
    backend.wipe();
    run.is_mended();
    let wiped = Instant::now();

    let starting = |decision| world.instance_with(&backend.address(), decision);
    let instances: Vec<Instance> = thread::scope(|scope| {
        let start = || scope.spawn(|| starting(decision));
        [start(), start()].map(|it| it.join().unwrap()).into()
    });
    let known = || {
        let revoked = world.revoked().into_iter().map(|number| &world.tokens[number]);
        world.tokens[..BYSTANDERS].iter().chain(revoked)
    };
    let all_say = |expected| {
        let all = instances.iter().flat_map(|it| known().map(|token| it.ask(token)));
        all.for_each(|answer| assert_eq!(answer, expected, "{fault}, {}", backend.name()));
    };
    let all_answer = || {
        for answer in instances.iter().map(|it| it.ask(&world.tokens[0])) {
            if answer == STALE {
                run.note_refusal();
            }
            assert!(answer.is_err() || decision == WhenMissing::StartEmpty, "{fault}");
        }
        instances.iter().all(|it| it.list.is_fresh()).then_some(())
    };
    if decision == WhenMissing::Refuse {
        eventually("both say why", || {
            assert_eq!(all_answer(), None, "not before somebody decides");
            instances.iter().all(|it| it.why().contains("when_missing")).then_some(())
        });
        all_say(STALE);
        // The operator decides, once.
        run.is_mended();
        let _decided = starting(WhenMissing::StartEmpty);
        eventually("both go on", || instances.iter().all(|it| it.list.is_fresh()).then_some(()));
    } else {
        eventually("both answer", all_answer);
        let took = wiped.elapsed();
        assert!(took + JITTER > backend.settle(), "{fault}, {}: {took:?}", backend.name());
    }
    run.clear_now();
    // What was decided, which is no broken promise.
    let everyone = decision == WhenMissing::SignOutEveryone;
    all_say(if everyone { REVOKED } else { Ok(()) });
    // Each of them may have decided, one a little later than the other.
    instances[0].catch_up();
    let new = instances[0].sign_in("somebody new");
    assert_eq!(instances[1].ask(&new), Ok(()));
    instances[1].sessions.revoke(Target::subject("somebody new")).unwrap().wait().unwrap();
    eventually("it is refused", || (instances[0].ask(&new) == REVOKED).then_some(()));
    run.report();
}

#[test]
fn an_instance_whose_clock_is_set_by_an_hour_goes_on_and_is_stale_in_time() {
    on_each(|backend| {
        // Sessions of two hours ago: they are alive by every one of the clocks.
        let run = Run::start_with(
            "clock of an instance set by an hour",
            (backend.name(), backend.address()),
            3,
            2,
        );
        run.stream();
        run.goes_wrong();
        let instances = run.world.instances();
        for hours in [1, -1] {
            let names: Vec<String> = (0..5).map(|n| format!("just now {hours} {n}")).collect();
            let tokens: Vec<String> = names.iter().map(|it| instances[0].sign_in(it)).collect();
            let is_cut_off = || {
                backend.freeze();
                run.is_cut_off();
                run.refuses();
            };
            is_cut_off();
            instances[1].clock.set(hours * 3_600);
            run.refuses();
            for name in &names {
                instances[1].sessions.revoke(Target::subject(name)).unwrap();
            }
            run.mend(|| backend.thaw());
            run.is_saved();
            // By the clock of the log, not by its own: sessions of just now are meant.
            instances[0].catch_up();
            for token in &tokens {
                assert_eq!(instances[0].ask(token), REVOKED, "{hours} h, {}", backend.name());
            }
            // With the clock as it is now it notices as well.
            is_cut_off();
            run.mend(|| backend.thaw());
        }
        run.world.instances()[1].clock.set(0);
        run.finish();
    });
}

#[test]
fn an_instance_that_is_paused_for_longer_than_max_staleness_lets_nobody_in_by_what_it_knew() {
    on_each(|backend| {
        let run = Run::start("an instance paused", &*backend, 2);
        let mut child = Process::start(&run.world);
        run.goes_wrong();
        child.signal("STOP");
        let begin = run.world.acknowledged(Duration::ZERO).len();
        let known = eventually("revoked for long enough", || {
            let known = run.world.acknowledged(STALENESS);
            (known.len() >= begin + 100).then_some(known)
        });
        let new = &known[known.len() - 90..];
        // Into the pipe while it stands: these are the first that it is asked.
        for token in new {
            child.send(&format!("ask {}", token.text));
        }
        run.is_mended();
        child.signal("CONT");
        let answers: Vec<String> = new.iter().map(|_| child.receive()).collect();
        let live = answers.iter().filter(|answer| *answer == "Ok").count();
        run.world.lost.fetch_add(live, Ordering::SeqCst);
        if answers.iter().any(|answer| answer == "Backend") {
            run.note_refusal();
        }
        eventually("it answers", || (child.ask(&run.world.tokens[0]) == "Ok").then_some(()));
        run.clear_now();
        for token in &known {
            assert_eq!(child.ask(token), "Revoked");
        }
        // And what it revokes arrives.
        let spare = run.world.spare(1);
        assert_eq!(child.tell(&format!("revoke {}", spare[0].subject)), "Ok");
        run.world.all_refuse(&spare[0]);
        run.finish();
    });
}
