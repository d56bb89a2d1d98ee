//! `PostgresLog` when something is wrong: with the server, the tables, the rights, the URL.
#![cfg(feature = "postgres")]
#![allow(
    clippy::arithmetic_side_effects,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test may panic"
)]

#[path = "common/folder.rs"]
mod folder;
#[path = "common/postgres_server.rs"]
mod postgres_server;

use std::collections::HashSet;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use postgres_server::{NOW, SECOND, Server, all, fact, fact_until, log, set, until};
use sealed_session::revocation::{Cursor, Lineage, PostgresLog, RevocationLog};
use sealed_session::{Error, ErrorKind};

/// What a log promises, and room for a machine that is busy with other tests.
const BOUND: Duration = Duration::from_secs(2 + 4);

/// What anybody would log of an error, its sources included.
fn text(error: &Error) -> String {
    let mut text = format!("{error} {error:?}");
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text} {cause} {cause:?}");
        source = cause.source();
    }
    text
}

/// Calls every method of a log and gives the errors, each of which came in time.
fn errors(log: &PostgresLog, after: &Cursor) -> Vec<Error> {
    let calls: [&dyn Fn() -> Option<Error>; 4] = [
        &|| log.append(&[fact(90)]).err(),
        &|| log.read(None, NOW).err(),
        &|| log.read(Some(after), NOW).err(),
        &|| log.read(Some(after), SECOND).err(),
    ];
    let call = |call: &dyn Fn() -> Option<Error>| {
        let began = Instant::now();
        let error = call();
        assert!(began.elapsed() < BOUND + SECOND, "{:?}", began.elapsed());
        error
    };
    calls.into_iter().filter_map(call).collect()
}

/// Reads anew until that works, as a list does.
fn recovered(log: &PostgresLog) -> Lineage {
    until("the log works again", || log.read(None, NOW).is_ok());
    until("the log follows again", || {
        let (_, after) = all(log, None);
        log.read(Some(&after), Duration::from_millis(1)).is_ok()
    });
    log.read(None, NOW).unwrap().lineage()
}

#[test]
fn a_server_that_is_killed_is_an_error_until_it_is_back_and_then_has_everything() {
    let server = Server::start();
    let log = log(&server);
    let facts: Vec<_> = (0..1_000).map(fact).collect();
    for part in facts.chunks(100) {
        log.append(part).unwrap();
    }
    let (_, after) = all(&log, None);
    let lineage = log.read(None, NOW).unwrap().lineage().id();
    drop(log.read(Some(&after), Duration::from_millis(1)).unwrap());

    thread::scope(|scope| {
        let waiting = scope.spawn(|| log.read(Some(&after), 60 * SECOND));
        server.kill();
        let began = Instant::now();
        assert_eq!(waiting.join().unwrap().unwrap_err().kind(), ErrorKind::Backend);
        assert!(began.elapsed() < 30 * SECOND, "a reader that waits is told");
    });
    let down = errors(&log, &after);
    assert_eq!(down.len(), 4);
    assert!(down.iter().all(|error| error.kind() == ErrorKind::Backend));

    server.resume();
    assert_eq!(recovered(&log).id(), lineage);
    assert_eq!(set(&all(&log, None).0), set(&facts), "what was acknowledged is there");
    let stale = log.read(Some(&after), NOW).unwrap_err();
    assert!(text(&stale).contains("restarted"), "numbers may have been given out again: {stale:?}");
}

#[test]
fn a_server_that_is_frozen_or_silent_is_an_error_in_time() {
    let server = Server::start();
    let warm = log(&server);
    warm.append(&[fact(1)]).unwrap();
    let (_, after) = all(&warm, None);
    drop(warm.read(Some(&after), Duration::from_millis(1)).unwrap());
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();

    server.freeze();
    assert_eq!(errors(&warm, &after).len(), 4, "connected before");
    assert_eq!(errors(&warm, &after).len(), 4, "connected anew");
    for mode in ["disable", "require"] {
        let url = format!("postgres://postgres@127.0.0.1:{port}/postgres?sslmode={mode}");
        let never = PostgresLog::new(&url, "sessions").unwrap();
        assert_eq!(errors(&never, &after).len(), 4, "accepts, and says nothing");
    }
    // Also those who wait for the same connection.
    thread::scope(|scope| {
        for _ in 0..5 {
            scope.spawn(|| {
                let began = Instant::now();
                warm.append(&[fact(2)]).unwrap_err();
                assert!(began.elapsed() < BOUND, "{:?}", began.elapsed());
            });
        }
    });

    server.thaw();
    recovered(&warm);
    warm.append(&[fact(2)]).unwrap();
    assert!(all(&warm, None).0.contains(&fact(2)));
}

#[test]
fn a_table_that_is_locked_costs_no_connections() {
    let server = Server::start();
    let log = log(&server);
    let (_, after) = all(&log, None);
    drop(log.read(Some(&after), Duration::from_millis(1)).unwrap());
    let mut user = server.open_psql();
    let mut input = user.stdin.take().unwrap();
    let lock = b"begin; lock table sealed_session_facts;\n";
    std::io::Write::write_all(&mut input, lock).unwrap();
    let locked = "select count(*) from pg_locks where mode = 'AccessExclusiveLock' and granted";
    until("it is locked", || server.psql(locked) != "0");

    for _ in 0..3 {
        assert_eq!(errors(&log, &after).len(), 4);
    }
    let ours = "select count(*) from pg_stat_activity where application_name = 'sealed-session'";
    until("no question is left waiting", || server.psql(ours) == "0");
    drop(input);
    user.wait().unwrap();
    recovered(&log);
}

#[test]
fn a_log_that_is_lost_in_any_way_is_noticed() {
    let server = Server::start();
    let log = log(&server);
    let anew: [(&str, bool); 5] = [
        ("drop table sealed_session_facts, sealed_session_lineage", true),
        ("drop table sealed_session_lineage", true),
        ("delete from sealed_session_lineage", true),
        ("drop table sealed_session_facts", false),
        ("truncate sealed_session_facts", false),
    ];
    for (sql, new_lineage) in anew {
        log.append(&[fact(1)]).unwrap();
        let (_, after) = all(&log, None);
        let old = log.read(Some(&after), Duration::from_millis(1)).unwrap().lineage().id();
        server.psql(sql);
        for wait in [NOW, SECOND] {
            let error = log.read(Some(&after), wait).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Backend, "{sql}");
        }
        let lineage = recovered(&log);
        assert_eq!(lineage.id() != old, new_lineage, "{sql}");
        assert!(log.read(Some(&after), NOW).is_err(), "{sql}: still not what it was");
        if new_lineage {
            assert!(lineage.age() < 30 * SECOND, "{sql}");
        }
    }
    // An instance that only writes makes a new log, too.
    let old = recovered(&log).id();
    server.psql("drop table sealed_session_facts, sealed_session_lineage");
    until("it is made", || log.append(&[fact(1)]).is_ok());
    assert_ne!(server.psql("select encode(id, 'hex') from sealed_session_lineage"), "");
    assert_ne!(recovered(&log).id(), old);
}

#[test]
fn a_backup_that_was_restored_is_noticed() {
    let server = Server::start();
    let log = log(&server);
    log.append(&[fact(1)]).unwrap();
    server.stop();
    server.back_up();
    server.resume();
    until("it is back", || log.append(&[fact(2)]).is_ok());
    let (facts, after) = all(&log, None);
    assert_eq!(facts.len(), 2);

    server.kill();
    server.restore();
    server.resume();
    recovered(&log);
    assert!(log.read(Some(&after), NOW).is_err());
    assert_eq!(all(&log, None).0, [fact(1)]);

    // A snapshot from the future, by a cursor of this server otherwise.
    let (_, after) = all(&log, None);
    let cursor = String::from_utf8_lossy(&after.as_bytes()[16..]).into_owned();
    let seen = cursor.split('\n').nth(1).unwrap();
    let later = cursor.replace(seen, "4000000000:4000000000:");
    let later = Cursor::new([&after.as_bytes()[..16], later.as_bytes()].concat());
    assert!(text(&log.read(Some(&later), NOW).unwrap_err()).contains("older"));
}

#[test]
fn rows_from_a_dump_of_another_server_hide_nothing() {
    let server = Server::start();
    let log = log(&server);
    log.append(&[fact(1), fact(2)]).unwrap();
    server.psql("update sealed_session_facts set xid = '4000000000'");

    let (facts, after) = all(&log, None);
    assert_eq!(set(&facts), set(&[fact(1), fact(2)]));
    assert!(all(&log, Some(&after)).0.is_empty(), "and do not come again and again");
    log.append(&[fact(3)]).unwrap();
    assert_eq!(all(&log, Some(&after)).0, [fact(3)]);
}

#[test]
fn facts_go_an_hour_after_their_end_by_the_clock_of_the_server() {
    let server = Server::start();
    let log = log(&server);
    let hour = 3_600 * SECOND;
    let now = SystemTime::now();
    let dead: Vec<_> = (0..50).map(|n| fact_until(n, now - hour - 60 * SECOND)).collect();
    let kept = [fact_until(60, now - hour + 60 * SECOND), fact(61)];
    log.append(&dead).unwrap();
    log.append(&kept).unwrap();
    log.append(&kept).unwrap();

    assert_eq!(set(&all(&log, None).0), set(&kept));
    assert_eq!(server.psql("select count(*) from sealed_session_facts"), "2");
}

const OWN_RIGHTS: &str = "
    create role shop login; revoke create on schema public from public;
    grant usage on schema public to shop;
    grant select, insert on sealed_session_lineage to shop;
    grant select, insert, delete on sealed_session_facts to shop";

#[test]
fn a_role_needs_only_the_rights_that_the_documentation_names() {
    let server = Server::start();
    log(&server).append(&[]).unwrap();
    server.psql("delete from sealed_session_lineage");
    server.psql(OWN_RIGHTS);
    let shop = PostgresLog::new(&server.url("shop"), "sessions").unwrap();

    let old = fact_until(9, SystemTime::now() - 7_300 * SECOND);
    shop.append(&[fact(1), old]).unwrap();
    shop.append(&[fact(2)]).unwrap();
    let (facts, after) = all(&shop, None);
    assert_eq!(set(&facts), set(&[fact(1), fact(2)]), "it may also delete");
    assert!(shop.read(Some(&after), SECOND).unwrap().facts().is_empty());
    server.psql(
        "create role app login; grant insert on sealed_session_facts to app;
         grant select on sealed_session_facts, sealed_session_lineage to app;
         set role app; select sealed_session_revoke_everyone('sessions', 'shop')",
    );
    assert_eq!(all(&shop, Some(&after)).0.len(), 1);

    // Without them, what to do is said.
    server.psql("drop table sealed_session_facts, sealed_session_lineage");
    let error = until_kind(&shop, ErrorKind::Config);
    assert!(text(&error).contains("postgres.sql"), "{error:?}");
}

/// Calls until the old connection is gone.
fn until_kind(log: &PostgresLog, kind: ErrorKind) -> Error {
    until("the error", || log.append(&[]).is_err_and(|error| error.kind() == kind));
    log.append(&[]).unwrap_err()
}

#[test]
fn a_table_of_another_shape_and_a_database_that_is_not_there_are_for_the_operator() {
    let server = Server::start();
    let nowhere = server.url("postgres").replace("/postgres?", "/nowhere?");
    let error = PostgresLog::new(&nowhere, "sessions").unwrap().append(&[]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error:?}");

    server.psql("create table sealed_session_facts (fact text)");
    server.psql("create table sealed_session_lineage (id text)");
    for error in
        [log(&server).append(&[]).unwrap_err(), log(&server).read(None, NOW).map(drop).unwrap_err()]
    {
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(text(&error).contains("shape"), "{error:?}");
    }
}

#[test]
fn a_replica_is_refused_with_what_to_do() {
    let server = Server::start();
    let primary = log(&server);
    primary.append(&[fact(1)]).unwrap();
    let replica = server.replica();

    let (_, after) = all(&primary, None);
    let refused = errors(&log(&replica), &after);
    assert_eq!(refused.len(), 4);
    for error in refused {
        assert!(text(&error).contains("replica"), "{error:?}");
    }
    // Both, in the wrong order, and the log finds the one that can be written to.
    let hosts = format!("127.0.0.1:{},127.0.0.1:{}", replica.port, server.port);
    let url = format!(
        "postgres://postgres@{hosts}/postgres?sslmode=disable&target_session_attrs=read-write"
    );
    PostgresLog::new(&url, "sessions").unwrap().append(&[fact(2)]).unwrap();
    assert_eq!(all(&primary, Some(&after)).0, [fact(2)]);
}

#[test]
fn a_wrong_password_is_refused_and_no_password_ever_shows() {
    let server = Server::start();
    server.psql("create role alice login superuser password 'right-secret'");
    server.admit("host all alice 127.0.0.1/32 scram-sha-256");
    let right = PostgresLog::new(&server.url("alice:right-secret"), "sessions").unwrap();
    right.append(&[fact(1)]).unwrap();

    let wrong = PostgresLog::new(&server.url("alice:wrong-secret"), "sessions").unwrap();
    let error = wrong.append(&[fact(1)]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(text(&error).contains("password authentication failed"), "{error:?}");
    assert!(text(&error).contains(&format!("127.0.0.1:{}", server.port)), "{error:?}");

    let (_, after) = all(&right, None);
    server.kill();
    for log in [&right, &wrong] {
        for shown in errors(log, &after)
            .iter()
            .map(text)
            .chain([format!("{log:?} {log:#?}"), log.name().into_owned()])
        {
            assert!(!shown.contains("secret"), "{shown}");
        }
    }
}

#[test]
fn a_url_or_name_that_cannot_be_used_is_refused_with_what_to_write() {
    let good = "postgres://alice@db.example/shop";
    let too_much = "x".repeat(65);
    for list in ["", "a b", "größe", "a/b", "a'b", &too_much] {
        let error = PostgresLog::new(good, list).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(text(&error).contains("1 to 64"), "{error:?}");
    }
    for list in ["a", "shop_1.live-EU", &too_much[..64]] {
        let log = PostgresLog::new(good, list).unwrap();
        assert_eq!(log.name(), format!("PostgreSQL db.example:5432/shop, list {list}"));
    }
    for url in [
        "",
        "db.example",
        "mysql://alice:secret@db.example",
        "postgres://alice:secret@db.example/shop?sslmode=verify-full",
        "postgres://alice:secret@db.example/shop?sslrootcert=ca.pem",
        "postgres://alice:secret@db.example:port/shop",
        "host=db.example password=my secret",
        "host=db.example password=my secret=word",
        "user=alice password=secret",
    ] {
        let error = PostgresLog::new(url, "sessions").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{url}");
        assert!(!text(&error).contains("secret"), "{error:?}");
    }
}

#[test]
fn it_works_inside_a_runtime_and_is_dropped_there() {
    let server = Server::start();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let log = log(&server);
        log.append(&[fact(1)]).unwrap();
        let (facts, after) = all(&log, None);
        assert_eq!(facts, [fact(1)]);
        assert!(log.read(Some(&after), Duration::from_millis(10)).unwrap().facts().is_empty());
        drop(log);
        let log = postgres_server::log(&server);
        log.append(&[]).unwrap();
        server.kill();
        assert_eq!(errors(&log, &after).len(), 4);
    });
}

/// A certificate for 127.0.0.1 and who signed it, made by openssl.
fn certificate(server: &Server, name: &str) -> [PathBuf; 3] {
    let [root, key, cert] =
        ["root", "key", "cert"].map(|part| server.path().join(format!("{name}-{part}.pem")));
    let openssl = |line: &str| {
        let line = line.replace("ROOT", root.to_str().unwrap());
        let line = line.replace("KEY", key.to_str().unwrap());
        let line = line.replace("CERT", cert.to_str().unwrap());
        let output = Command::new("openssl").args(line.split_whitespace()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let new = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2";
    openssl(&format!("req -x509 {new} -keyout ROOT.key -out ROOT -subj /CN={name}"));
    openssl(&format!(
        "req -x509 {new} -keyout KEY -out CERT -subj /CN=db -CA ROOT -CAkey ROOT.key \
         -addext subjectAltName=IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE"
    ));
    [root, key, cert]
}

#[test]
fn tls_verifies_the_certificate_against_the_roots_that_were_given() {
    let server = Server::start();
    let [root, key, cert] = certificate(&server, "right");
    let [wrong, ..] = certificate(&server, "wrong");
    server.install(&key, "server.key");
    server.install(&cert, "server.crt");
    server.configure("postgresql.conf", "ssl = on");
    server.psql("create role tls login superuser password 'right-secret'");
    server.admit("hostssl all tls 127.0.0.1/32 scram-sha-256\nhost all tls 127.0.0.1/32 reject");
    server.stop();
    server.resume();
    let url = |mode: &str| {
        server.url("tls:right-secret").replace("sslmode=disable", &format!("sslmode={mode}"))
    };
    let log = |url: &str| PostgresLog::new(url, "sessions").unwrap();

    for mode in ["require", "prefer"] {
        let right = log(&url(mode)).root_certificates(&root).unwrap();
        right.append(&[fact(1)]).unwrap();
        assert_eq!(all(&right, None).0, [fact(1)]);
        let by = "select count(*) from pg_stat_ssl join pg_stat_activity using (pid)
            where usename = 'tls' and ssl";
        assert_eq!(server.psql(by), "2", "each connection is encrypted");

        let other = log(&url(mode)).root_certificates(&wrong).unwrap();
        for refused in [other, log(&url(mode))] {
            let error = refused.append(&[fact(2)]).unwrap_err();
            assert!(text(&error).contains("UnknownIssuer"), "{mode}: {error:?}");
        }
        // The certificate is for the address and not for this name.
        let named = url(mode).replace("127.0.0.1", "localhost");
        let named = log(&named).root_certificates(&root).unwrap();
        assert!(text(&named.append(&[fact(2)]).unwrap_err()).contains("NotValidForName"));
        drop(right);
        until("they are gone", || server.psql(by) == "0");
    }
    let plain = log(&url("disable")).root_certificates(&root).unwrap();
    assert_eq!(plain.append(&[]).unwrap_err().kind(), ErrorKind::Config, "the server insists");
    log(&server.url("postgres")).append(&[fact(3)]).unwrap();

    for (file, why) in [(key, "no certificate"), (server.path().join("none"), "none")] {
        let error = log(&url("require")).root_certificates(&file).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(text(&error).contains(why), "{error:?}");
    }
}

#[test]
fn many_who_come_first_find_one_log() {
    let server = Server::start();
    let start = Arc::new(Barrier::new(12));
    let comers: Vec<_> = (0..12)
        .map(|number| {
            let (log, start) = (log(&server), Arc::clone(&start));
            thread::spawn(move || {
                start.wait();
                // One may be too slow where many compile or test: then it comes again, as a list does.
                until("appended", || log.append(&[fact(number)]).is_ok());
                recovered(&log).id()
            })
        })
        .collect();
    let ids: HashSet<_> = comers.into_iter().map(|comer| comer.join().unwrap()).collect();
    assert_eq!(ids.len(), 1);
    assert_eq!(all(&log(&server), None).0.len(), 12);
}
