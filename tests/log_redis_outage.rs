//! The log in Redis while servers are killed, wiped, frozen, full, down, or replaced by others.
#![cfg(feature = "redis")]
#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test may panic"
)]

#[path = "common/folder.rs"]
mod folder;
#[path = "common/redis_server.rs"]
mod redis_server;

use std::collections::HashSet;
use std::net::{Ipv4Addr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

use redis_server::{
    DAY, LONG, NOW, Proxy, RedisServer, assert_error, blocked, dripping, entry, eventually, follow,
    log, longest, session, set, whole,
};
use sealed_session::revocation::{RedisLog, RevocationLog};
use sealed_session::{Error, ErrorKind};

#[test]
fn facts_survive_kill_9_with_an_append_only_file_and_an_old_cursor_is_refused() {
    let mut server = RedisServer::with(&["--appendonly yes", "--appendfsync always"]);
    let log = log(&server);
    log.append(&[longest(DAY), session(1), session(2)]).unwrap();
    let before = log.read(None, NOW).unwrap();

    server.kill();
    assert_error(&log.append(&[session(3)]).unwrap_err(), ErrorKind::Backend, "");
    assert_error(&log.read(Some(before.cursor()), LONG).unwrap_err(), ErrorKind::Backend, "");
    server.run();

    let error = log.read(Some(before.cursor()), NOW).unwrap_err();
    assert_error(&error, ErrorKind::Backend, "restarted");
    let page = log.read(None, NOW).unwrap();
    assert_eq!(set(&page), set(&before));
    assert_eq!(page.lineage().id(), before.lineage().id());
    log.append(&[session(3)]).unwrap();
    assert_eq!(set(&log.read(Some(page.cursor()), NOW).unwrap()), [session(3)].into());
}

#[test]
fn a_server_that_comes_back_without_data_is_another_log() {
    let mut server = RedisServer::start();
    let log = log(&server);
    log.append(&[session(1)]).unwrap();
    let before = log.read(None, NOW).unwrap();

    server.kill();
    server.run();

    assert_error(&log.append(&[session(2)]).unwrap_err(), ErrorKind::Backend, "");
    log.append(&[session(2)]).unwrap();
    let exists: bool = server.command("EXISTS {sealed-session:shop}:lineage");
    assert!(exists, "append makes the lineage, too");
    assert!(log.read(Some(before.cursor()), NOW).is_err());
    let page = log.read(None, NOW).unwrap();
    assert_ne!(page.lineage().id(), before.lineage().id());
    assert_eq!(set(&page), [session(2)].into());
}

#[test]
fn a_wipe_is_noticed_even_while_a_reader_waits() {
    let server = RedisServer::start();
    let (log, writer) = (log(&server), log(&server));
    for written in [&[][..], &[session(2)]] {
        log.append(&[session(1)]).unwrap();
        let before = log.read(None, NOW).unwrap();
        let wait = if written.is_empty() { Duration::from_secs(2) } else { LONG };
        let page = thread::scope(|scope| {
            let reader = scope.spawn(|| log.read(Some(before.cursor()), wait));
            blocked(&server);
            server.command::<()>("FLUSHALL");
            if !written.is_empty() {
                // Below the cursor, as by a clock that was set back.
                entry(&server, "1-1", session(7));
                writer.append(written).unwrap();
            }
            reader.join().unwrap().unwrap()
        });
        assert_ne!(page.lineage().id(), before.lineage().id());
        let below = (!written.is_empty()).then(|| session(7));
        assert_eq!(set(&page), written.iter().copied().chain(below).collect());
    }
}

#[test]
fn a_frozen_server_is_an_error_in_time_and_works_again_afterwards() {
    let server = RedisServer::start();
    let (log, fresh) = (log(&server), log(&server));
    let many: Vec<_> = (0..5_000).map(session).collect();
    log.append(&[session(1)]).unwrap();
    let start = log.read(None, NOW).unwrap();
    let waited = Duration::from_millis(300);
    log.read(Some(start.cursor()), waited).unwrap();

    server.freeze();
    for _ in 0..2 {
        in_time(NOW, || log.append(&many));
        in_time(NOW, || log.read(Some(start.cursor()), NOW));
        in_time(waited, || log.read(Some(start.cursor()), waited));
        in_time(NOW, || fresh.read(None, NOW));
    }
    // Those who stand in line have no more time than the first.
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| in_time(NOW, || log.read(None, NOW)));
        }
    });
    server.thaw();

    eventually("the server answers again", || log.append(&many).ok());
    let page = eventually("a page", || fresh.read(None, NOW).ok());
    assert!(set(&page).is_superset(&many[..100].iter().copied().collect()));
    assert_eq!(page.lineage().id(), start.lineage().id());
}

#[test]
fn what_accepts_and_does_not_answer_is_an_error_in_time() {
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let silent = silent.local_addr().map(|address| (address.port(), silent)).unwrap();
    thread::scope(|scope| {
        for port in [silent.0, dripping(b"$"), dripping(b"1")] {
            for who in ["redis://", "redis://me:secret@", "rediss://"] {
                let url = format!("{who}127.0.0.1:{port}/1");
                scope.spawn(move || {
                    let log = RedisLog::new(&url, "shop").unwrap();
                    in_time(NOW, || log.append(&[session(1)]));
                    in_time(NOW, || log.read(None, LONG));
                });
            }
        }
    });
}

#[test]
fn a_full_server_refuses_facts_and_loses_none() {
    let server = RedisServer::start();
    let log = log(&server);
    log.append(&[session(0)]).unwrap();
    let used: usize = server.info("used_memory").parse().unwrap();
    server.command::<()>(&format!("CONFIG SET maxmemory {}", used + 8_000_000));

    let mut stored = HashSet::from([session(0)]);
    let error = (0..1_000).find_map(|part| {
        let facts: Vec<_> = (1..=1_000).map(|nth| session(part * 1_000 + nth)).collect();
        match log.append(&facts) {
            Ok(()) => {
                stored.extend(facts);
                None
            }
            Err(error) => Some(error),
        }
    });
    assert_error(&error.unwrap(), ErrorKind::Backend, "the server is full");
    assert!(stored.len() > 10_000);
    assert_eq!(whole(&log), stored);

    server.command::<()>("CONFIG SET maxmemory 0");
    log.append(&[session(5_000_000)]).unwrap();
    assert_eq!(whole(&log).len(), stored.len() + 1);
}

#[test]
fn a_server_that_comes_up_later_is_found() {
    let mut server = RedisServer::stopped(&[]);
    let log = log(&server);
    assert_error(&log.append(&[session(1)]).unwrap_err(), ErrorKind::Backend, "refused");
    assert_error(&log.read(None, LONG).unwrap_err(), ErrorKind::Backend, "refused");

    server.run();

    log.append(&[session(1)]).unwrap();
    assert_eq!(whole(&log), [session(1)].into());
}

#[test]
fn replicas_are_refused_also_when_a_primary_becomes_one() {
    let (primary, replica) = (RedisServer::start(), RedisServer::start());
    let follower = log(&replica);
    log(&primary).read(None, NOW).unwrap();
    follow(&replica, &primary);
    let log = log(&primary);
    for error in [follower.append(&[session(1)]), follower.read(None, NOW).map(drop)] {
        assert_error(&error.unwrap_err(), ErrorKind::Backend, "the address of the primary");
    }

    log.append(&[session(1)]).unwrap();
    let start = log.read(None, NOW).unwrap();
    thread::scope(|scope| {
        let reader = scope.spawn(|| log.read(Some(start.cursor()), LONG));
        blocked(&primary);
        replica.command::<()>("REPLICAOF NO ONE");
        follow(&primary, &replica);
        assert_error(&reader.join().unwrap().unwrap_err(), ErrorKind::Backend, "");
    });
    // A connection that was open all the time, to what is a replica now.
    let error = log.read(Some(start.cursor()), NOW).unwrap_err();
    assert_error(&error, ErrorKind::Backend, "the address of the primary");
    let error = log.append(&[session(2)]).unwrap_err();
    assert_error(&error, ErrorKind::Backend, "the address of the primary");
}

#[test]
fn a_replica_that_takes_over_without_the_latest_facts_is_noticed() {
    for late in [false, true] {
        let (primary, replica) = (RedisServer::start(), RedisServer::start());
        let proxy = Proxy::to(&primary);
        let log = RedisLog::new(&proxy.url(), "shop").unwrap();
        log.append(&[session(1)]).unwrap();
        follow(&replica, &primary);
        replica.command::<()>("REPLICAOF NO ONE");
        log.append(&[session(2)]).unwrap();
        let before = log.read(None, NOW).unwrap();

        proxy.switch(&replica);
        if late {
            // What a new primary is given first hides the gap behind a later id.
            self::log(&replica).append(&[session(3)]).unwrap();
        }

        // The connection is gone: an error. A new one says why the cursor is worth nothing.
        for _ in 0..2 {
            let error = log.read(Some(before.cursor()), NOW).unwrap_err();
            assert_error(&error, ErrorKind::Backend, "");
        }
        let fresh = RedisLog::new(&proxy.url(), "shop").unwrap();
        let error = fresh.read(Some(before.cursor()), NOW).unwrap_err();
        assert_error(&error, ErrorKind::Backend, "another one took its place");
        let page = fresh.read(None, NOW).unwrap();
        assert_eq!(page.lineage().id(), before.lineage().id());
        assert!(!set(&page).contains(&session(2)));
    }
}

#[test]
fn one_node_of_a_cluster_serves_and_the_others_say_which() {
    let nodes = [(); 2].map(|()| RedisServer::with(&["--cluster-enabled yes"]));
    let logs = [log(&nodes[0]), log(&nodes[1])];
    let error = logs[0].append(&[session(1)]).unwrap_err();
    assert_error(&error, ErrorKind::Backend, "of a cluster that does not hold the log");

    nodes[0].command::<()>("CLUSTER ADDSLOTSRANGE 0 8191");
    nodes[1].command::<()>("CLUSTER ADDSLOTSRANGE 8192 16383");
    nodes[1].command::<()>("CLUSTER SET-CONFIG-EPOCH 2");
    nodes[0].command::<()>(&format!("CLUSTER MEET 127.0.0.1 {}", nodes[1].port()));
    let slot: u16 = nodes[0].command("CLUSTER KEYSLOT {sealed-session:shop}:log");
    let (holds, other) = if slot < 8_192 { (0, 1) } else { (1, 0) };

    eventually("the cluster is up", || logs[holds].append(&[session(1)]).ok());
    assert_eq!(whole(&logs[holds]), [session(1)].into());
    eventually("a redirect", || {
        let error = format!("{:?}", logs[other].read(None, NOW).unwrap_err());
        error.contains(&format!("{slot} 127.0.0.1:{}", nodes[holds].port())).then_some(())
    });
}

/// That it fails for want of an answer, within the time that was promised and some for the machine.
#[track_caller]
fn in_time<T: std::fmt::Debug>(wait: Duration, call: impl FnOnce() -> Result<T, Error>) {
    let began = Instant::now();
    assert_error(&call().unwrap_err(), ErrorKind::Backend, "");
    let took = began.elapsed();
    assert!(took < wait + Duration::from_secs(3), "{took:?}");
}
