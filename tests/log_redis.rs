//! The log in Redis, on real servers: what every log promises, and who is let in to it.
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
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use folder::Folder;
use redis_server::{
    DAY, HOUR, LONG, NOW, RedisServer, assert_error, blocked, entry, eventually, log, longest,
    session, set, whole,
};
use sealed_session::revocation::conformance::Suite;
use sealed_session::revocation::{Cursor, RedisLog, RevocationLog};
use sealed_session::{Error, ErrorKind};

#[test]
fn it_keeps_the_rules_of_every_log() {
    let server = RedisServer::start();
    let wipe = || {
        server.command::<()>("FLUSHALL");
        Ok(())
    };
    Suite::new(|| RedisLog::new(&server.url(), "shop")).wiped_by(wipe).run().unwrap();
}

#[test]
fn handles_of_one_list_share_its_facts_and_those_of_another_do_not() {
    let server = RedisServer::start();
    let (one, two) = (log(&server), log(&server));
    let other = RedisLog::new(&server.url(), "other").unwrap();

    let empty = one.read(None, LONG).unwrap();
    assert!(empty.facts().is_empty() && !empty.has_more());
    assert_eq!(two.read(None, NOW).unwrap().lineage().id(), empty.lineage().id());
    assert_ne!(other.read(None, NOW).unwrap().lineage().id(), empty.lineage().id());
    assert!(empty.lineage().age() < Duration::from_secs(60));

    one.append(&[session(1), session(2)]).unwrap();
    two.append(&[session(2), session(3)]).unwrap();
    for log in [&one, &two] {
        let page = log.read(Some(empty.cursor()), NOW).unwrap();
        assert_eq!(set(&page), HashSet::from([1, 2, 3].map(session)));
        assert!(log.read(Some(page.cursor()), NOW).unwrap().facts().is_empty());
    }
    assert!(other.read(None, NOW).unwrap().facts().is_empty());
    let keys: HashSet<String> = server.command("KEYS *");
    let expected = ["shop}:log", "shop}:lineage", "other}:lineage"];
    assert_eq!(keys, expected.map(|key| format!("{{sealed-session:{key}")).into());
}

#[test]
fn pages_add_up_to_the_whole_without_waiting() {
    let server = RedisServer::start();
    let log = log(&server);
    let facts: Vec<_> = (0..25_000).map(session).collect();
    facts.chunks(5_000).for_each(|batch| log.append(batch).unwrap());
    log.append(&[longest(DAY)]).unwrap();

    let began = Instant::now();
    let (mut all, mut pages, mut cursor) = (HashSet::new(), 0, None::<Cursor>);
    loop {
        // A whole hour: pages that are there already are not waited for.
        let page = log.read(cursor.as_ref(), HOUR).unwrap();
        assert!(page.facts().len() <= 10_000 && began.elapsed() < HOUR / 2);
        all.extend(set(&page));
        pages += 1;
        cursor = Some(page.cursor().clone());
        if !page.has_more() {
            break;
        }
    }
    assert_eq!((all.len(), pages), (25_001, 4));
    assert!(log.read(cursor.as_ref(), NOW).unwrap().facts().is_empty());
}

#[test]
fn a_reader_waits_for_news_and_gives_an_empty_page_if_there_is_none() {
    let server = RedisServer::start();
    let (log, writer) = (log(&server), log(&server));
    let start = log.read(None, NOW).unwrap();

    let began = Instant::now();
    let page = log.read(Some(start.cursor()), Duration::from_millis(300)).unwrap();
    assert!(page.facts().is_empty() && began.elapsed() >= Duration::from_millis(250));

    for fact in [session(1), longest(DAY)] {
        let page = thread::scope(|scope| {
            let reader = scope.spawn(|| log.read(Some(start.cursor()), LONG).unwrap());
            blocked(&server);
            writer.append(&[fact]).unwrap();
            // Neither the other read nor the append stand in line behind the one that waits.
            assert!(!log.read(None, NOW).unwrap().facts().is_empty());
            log.append(&[session(9)]).unwrap();
            reader.join().unwrap()
        });
        assert!(set(&page).contains(&fact), "{page:?}");
        server.command::<()>("DEL {sealed-session:shop}:kept {sealed-session:shop}:log");
    }
}

#[test]
fn a_tailing_reader_misses_nothing_of_eight_writers() {
    let server = RedisServer::start();
    let (logs, reader) = ([(); 8].map(|()| log(&server)), log(&server));
    let mut page = reader.read(None, NOW).unwrap();

    let mut seen = HashSet::new();
    thread::scope(|scope| {
        for (nth, log) in logs.iter().enumerate() {
            scope.spawn(move || {
                for part in 0..250 {
                    log.append(&[session(nth * 1_000 + part)]).unwrap();
                }
            });
        }
        eventually("all facts", || {
            page = reader.read(Some(page.cursor()), Duration::from_millis(500)).unwrap();
            seen.extend(set(&page));
            (seen.len() == 2_000).then_some(())
        });
    });
}

#[test]
fn an_append_is_stored_whole_or_not_at_all() {
    let server = RedisServer::start();
    let log = log(&server);
    server.command::<()>("SET {sealed-session:shop}:kept nonsense");

    let error = log.append(&[session(1)]).and_then(|()| log.read(None, NOW)).unwrap_err();
    assert_error(&error, ErrorKind::Config, "use another list name");

    server.command::<()>("DEL {sealed-session:shop}:kept");
    server.command::<()>("XTRIM {sealed-session:shop}:log MAXLEN 0");
    let reader = self::log(&server);
    let mut cursor = reader.read(None, NOW).unwrap().cursor().clone();
    thread::scope(|scope| {
        let writing = scope.spawn(|| {
            for part in 0..40 {
                let facts: Vec<_> = (0..1_000).map(|nth| session(part * 1_000 + nth)).collect();
                log.append(&facts).unwrap();
            }
        });
        let mut count = 0;
        while !writing.is_finished() || count < 40_000 {
            let page = reader.read(Some(&cursor), NOW).unwrap();
            // Up to a full page, which ends somewhere.
            assert!(page.has_more() || (count + page.facts().len()) % 1_000 == 0);
            count += page.facts().len();
            cursor = page.cursor().clone();
        }
    });
}

#[test]
fn a_stream_that_was_deleted_alone_is_an_error() {
    let server = RedisServer::start();
    let log = log(&server);
    log.append(&[session(1)]).unwrap();
    let before = log.read(None, NOW).unwrap();

    server.command::<()>("DEL {sealed-session:shop}:log");

    let error = log.read(Some(before.cursor()), NOW).unwrap_err();
    assert_error(&error, ErrorKind::Backend, "the log ends before what was read");
    log.read(None, NOW).unwrap();
}

#[test]
fn a_server_that_may_evict_the_log_is_refused() {
    let server = RedisServer::with(&["--maxmemory-policy allkeys-lru"]);
    let log = log(&server);

    for _ in 0..2 {
        let error = log.read(None, NOW).unwrap_err();
        assert_error(
            &error,
            ErrorKind::Config,
            "allkeys-lru, so it may drop the revocations: set it",
        );
    }
    assert_error(&log.append(&[session(1)]).unwrap_err(), ErrorKind::Config, "noeviction");

    for policy in ["noeviction", "volatile-ttl"] {
        server.command::<()>(&format!("CONFIG SET maxmemory-policy {policy}"));
        self::log(&server).append(&[session(1)]).unwrap();
        log.append(&[session(1)]).unwrap();
    }
}

#[test]
fn user_password_and_database_are_taken_from_the_url_and_the_password_is_never_shown() {
    let server = RedisServer::with(&["--requirepass s3cr=t/"]);
    let at = |who: &str| {
        RedisLog::new(&format!("redis://{who}127.0.0.1:{}/3", server.port()), "shop").unwrap()
    };
    for who in ["", ":wr0ng@", "default:wr0ng@", "nobody:s3cr%3Dt%2F@"] {
        let error = at(who).read(None, NOW).unwrap_err();
        assert_error(&error, ErrorKind::Config, "password of the URL");
        assert!(!format!("{error:?}").contains("wr0ng"));
    }
    for who in [":s3cr%3Dt%2F@", "default:s3cr%3Dt%2F@"] {
        let log = at(who);
        log.append(&[session(1)]).unwrap();
        let shown = format!("{log:?} {}", log.name());
        assert!(shown.contains("127.0.0.1") && shown.contains("/3 list shop"), "{shown}");
        assert!(!shown.contains("s3cr"), "{shown}");
    }
    let mut connection =
        redis::Client::open(format!("redis://:s3cr%3Dt%2F@127.0.0.1:{}/3", server.port()))
            .unwrap()
            .get_connection()
            .unwrap();
    assert_eq!(redis::cmd("DBSIZE").query::<i64>(&mut connection).unwrap(), 2);
}

#[test]
fn a_user_with_the_documented_permissions_can_do_all_and_with_one_less_cannot() {
    let server = RedisServer::with(&["--stream-node-max-entries 1"]);
    let documented = include_str!("../src/revocation/redis.rs");
    let (_, line) = documented.split_once("/// ACL SETUSER ").unwrap();
    let line = line.split_once("```").unwrap().0.replace("///", " ");
    let url = format!("redis://shop:password@127.0.0.1:{}", server.port());
    let all = || -> Result<(), Error> {
        server.command::<()>("FLUSHALL");
        entry(&server, "1-1", session(1));
        let log = RedisLog::new(&url, "shop").unwrap();
        log.append(&[longest(DAY), session(2)])?;
        let page = log.read(None, NOW)?;
        // An append does not fail if it cannot delete what is old, so look.
        let trimmed = set(&page) == [longest(DAY), session(2)].into();
        if trimmed { Ok(()) } else { Err(Error::backend("not trimmed")) }
    };
    server.command::<()>(&format!("ACL SETUSER {line}"));
    all().unwrap();

    let commands: Vec<_> =
        line.split_whitespace().filter_map(|word| word.strip_prefix('+')).collect();
    assert_eq!(commands.len(), 12);
    for command in commands {
        server.command::<()>(&format!("ACL SETUSER {line}"));
        server.command::<()>(&format!("ACL SETUSER shop -{command}"));
        let error = all().expect_err(command);
        if command != "xtrim" {
            assert_error(&error, ErrorKind::Config, "INFO, TIME, MULTI");
        }
    }
}

#[test]
fn what_is_over_is_deleted_once_the_longest_life_is_known_and_kept_facts_never() {
    let server = RedisServer::with(&["--stream-node-max-entries 1"]);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let minute = Duration::from_secs(60);
    for (nth, age) in [DAY + HOUR + minute, DAY + minute * 59, minute].into_iter().enumerate() {
        let id = format!("{}-0", now.as_millis() - age.as_millis());
        entry(&server, &id, session(nth));
    }
    log(&server).append(&[session(3)]).unwrap();
    assert_eq!(whole(&log(&server)), [0, 1, 2, 3].map(session).into());

    // The longest counts, also if this process has never heard of it.
    log(&server).append(&[longest(DAY), longest(minute)]).unwrap();
    let log = log(&server);
    log.append(&[session(4)]).unwrap();
    let left: HashSet<_> = [1, 2, 3, 4].map(session).into_iter().collect();
    assert_eq!(whole(&log), &left | &[longest(DAY), longest(minute)].into());

    // One that slept through the entry of a kept fact gets it all the same.
    let asleep = log.read(None, NOW).unwrap();
    log.append(&[longest(DAY * 2)]).unwrap();
    server.command::<()>("XTRIM {sealed-session:shop}:log MAXLEN 0");
    assert!(set(&log.read(Some(asleep.cursor()), NOW).unwrap()).contains(&longest(DAY * 2)));
    assert_eq!(whole(&log).len(), 3);
}

#[test]
fn a_socket_serves_as_an_address() {
    let server = RedisServer::with(&["--unixsocket socket"]);
    let path = server.folder().at("socket");
    let log = RedisLog::new(&format!("unix:{}?db=2", path.display()), "shop").unwrap();
    log.append(&[session(1)]).unwrap();
    assert_eq!(whole(&log), [session(1)].into());
    assert!(log.name().ends_with("socket/2 list shop"), "{}", log.name());
}

#[test]
fn tls_wants_a_certificate_for_the_host_by_a_root_that_is_trusted() {
    const TRUSTED: &str = "SSL_CERT_FILE";
    const HERE: &str = "SEALED_SESSION_TEST_TLS";
    if let Ok(urls) = std::env::var(HERE) {
        let trusted = std::env::var(TRUSTED).unwrap().ends_with("/ca.crt");
        let [named, unnamed] = ["localhost", "127.0.0.1"].map(|host| {
            RedisLog::new(&urls.replace("HOST", host), "shop").unwrap().read(None, NOW)
        });
        if trusted {
            assert!(named.unwrap().facts().is_empty());
            assert_error(&unnamed.unwrap_err(), ErrorKind::Backend, "not valid for name");
        } else {
            assert_error(&named.unwrap_err(), ErrorKind::Backend, "UnknownIssuer");
            assert_error(&unnamed.unwrap_err(), ErrorKind::Backend, "UnknownIssuer");
        }
        return;
    }
    let mut server = RedisServer::stopped(&[
        "--tls-cert-file server.crt --tls-key-file server.key --tls-ca-cert-file ca.crt",
        "--tls-auth-clients no --requirepass s3cret",
    ]);
    let folder = server.folder();
    folder.file("names", "subjectAltName=DNS:localhost");
    for ca in ["ca", "other"] {
        openssl(
            folder,
            &format!(
                "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN={ca} -keyout {ca}.key -out {ca}.crt"
            ),
        );
    }
    openssl(
        folder,
        "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost -keyout server.key -out server.csr",
    );
    openssl(
        folder,
        "x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile names -out server.crt",
    );
    server.run_tls();
    // The variable counts for a whole process: one for each root.
    for ca in ["ca.crt", "other.crt"] {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "tls_wants_a_certificate_for_the_host_by_a_root_that_is_trusted"])
            .env(HERE, format!("rediss://:s3cret@HOST:{}", server.port()))
            .env(TRUSTED, server.folder().at(ca))
            .env_remove("SSL_CERT_DIR")
            .output()
            .unwrap();
        let output = String::from_utf8_lossy(&child.stdout);
        assert!(child.status.success() && output.contains("1 passed"), "{output}");
    }
}

#[test]
fn bad_addresses_and_names_are_refused_with_what_to_write_instead() {
    let list = |list: &str| RedisLog::new("redis://localhost", list);
    for name in ["a", "shop", "Shop_2.eu-west", &"x".repeat(64)] {
        list(name).unwrap();
    }
    for name in ["", "a b", "a}", "\u{e4}", &"x".repeat(65)] {
        assert_error(&list(name).unwrap_err(), ErrorKind::Config, "1 to 64 letters");
    }
    for (url, reason) in [
        ("", "redis://[user:password@]host"),
        ("localhost:6379", "redis://[user:password@]host"),
        ("http://s3cret@localhost", "redis://[user:password@]host"),
        ("redis://:s3cret@localhost/x", "redis://[user:password@]host"),
        ("redis://:s3cr/et@localhost", "redis://[user:password@]host"),
        ("redis://s3cret@localhost", "a user without a password"),
        ("rediss://:s3cret@localhost#insecure", "SSL_CERT_FILE"),
    ] {
        let error = RedisLog::new(url, "shop").unwrap_err();
        assert_error(&error, ErrorKind::Config, reason);
        assert!(!format!("{error:?}").contains("s3cr"), "{error:?}");
    }
}

#[test]
fn a_fact_that_is_damaged_is_not_left_out_in_silence() {
    let server = RedisServer::start();
    let log = log(&server);
    log.append(&[session(1)]).unwrap();
    server.command::<()>("XADD {sealed-session:shop}:log * f damaged");
    server.command::<()>("XADD {sealed-session:shop}:log * g other");
    let page = log.read(None, NOW).unwrap();
    assert_eq!(set(&page), [session(1)].into());
    assert!(format!("{page:?}").contains("unreadable: Some"), "{page:?}");
}

fn openssl(folder: &Folder, arguments: &str) {
    let output = Command::new("openssl")
        .args(arguments.split(' '))
        .current_dir(folder.path())
        .output()
        .expect("openssl is missing: tests/run installs it");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
