//! `PostgresLog` against a real server: what every log promises, and what this one does beyond.
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
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use postgres_server::{DAY, NOW, SECOND, Server, all, fact, log, longest, set, until};
use sealed_session::revocation::conformance::Suite;
use sealed_session::revocation::{PostgresLog, RevocationLog};

#[test]
fn what_was_appended_is_read_by_everyone_once_and_for_all() {
    let server = Server::start();
    let (one, two) = (log(&server), log(&server));
    let facts: Vec<_> = (0..20).map(fact).collect();

    one.append(&facts).unwrap();
    one.append(&facts[..5]).unwrap();
    one.append(&[facts[0], facts[0]]).unwrap();

    let (found, after) = all(&two, None);
    assert_eq!((found.len(), set(&found)), (20, set(&facts)));
    let page = two.read(Some(&after), NOW).unwrap();
    assert!(page.facts().is_empty() && !page.has_more());
    assert_eq!(page.lineage().id(), one.read(None, NOW).unwrap().lineage().id());
    assert!(page.lineage().age() < 60 * SECOND);

    one.append(&[fact(20)]).unwrap();
    assert_eq!(all(&two, Some(&after)).0, [fact(20)]);
    assert_eq!(all(&one, Some(&after)).0, [fact(20)], "cursors are of the log, not of the handle");
}

#[test]
fn a_log_is_made_by_one_of_many_who_come_first() {
    let server = Server::start();
    for _ in 0..20 {
        server.psql("drop table if exists sealed_session_facts, sealed_session_lineage");
        let start = Arc::new(Barrier::new(2));
        let comers: Vec<_> = [0, 1]
            .map(|number| {
                let (log, start) = (log(&server), Arc::clone(&start));
                thread::spawn(move || {
                    start.wait();
                    match number {
                        0 => log.append(&[fact(0)]).unwrap(),
                        _ => drop(log.read(None, NOW).unwrap()),
                    }
                    log.read(None, NOW).unwrap().lineage().id()
                })
            })
            .into();
        let ids: HashSet<_> = comers.into_iter().map(|comer| comer.join().unwrap()).collect();
        assert_eq!(ids.len(), 1);
    }
}

#[test]
fn lists_in_one_database_do_not_meet() {
    let server = Server::start();
    let url = server.url("postgres");
    let [one, two] = ["one", "two"].map(|list| PostgresLog::new(&url, list).unwrap());
    one.append(&[fact(1)]).unwrap();
    two.append(&[fact(2)]).unwrap();

    let [first, second] = [&one, &two].map(|log| log.read(None, NOW).unwrap());
    assert_ne!(first.lineage().id(), second.lineage().id());
    assert_eq!((first.facts(), second.facts()), (&[fact(1)][..], &[fact(2)][..]));
    assert!(one.read(Some(second.cursor()), NOW).is_err(), "a cursor of another list");
}

#[test]
fn pages_and_what_comes_meanwhile_make_up_the_whole() {
    let server = Server::start();
    let log = log(&server);
    let facts: Vec<_> = (0..25_000).map(fact).collect();
    for part in facts.chunks(5_000) {
        log.append(part).unwrap();
    }
    // One transaction as large as a page, and what is added while the pages are read.
    let mut page = log.read(None, SECOND).unwrap();
    let mut found = page.facts().to_vec();
    let mut added = 30_000;
    let mut count = 1;
    while page.has_more() {
        log.append(&[fact(added)]).unwrap();
        added += 1;
        let began = Instant::now();
        page = log.read(Some(page.cursor()), 60 * SECOND).unwrap();
        assert!(began.elapsed() < 30 * SECOND, "a read that pages does not wait");
        found.extend(page.facts());
        assert!(page.facts().len() <= 10_000);
        count += 1;
    }
    found.extend(all(&log, Some(page.cursor())).0);
    let wanted: Vec<_> = facts.into_iter().chain((30_000..added).map(fact)).collect();
    assert_eq!(set(&found), set(&wanted));
    assert!(count >= 3, "{count}");

    // The same in the tail, all of one transaction.
    let (_, after) = all(&log, None);
    server.psql(
        "insert into sealed_session_facts (list, fact)
         select 'sessions', '\\x00'::bytea || int4send(n) from generate_series(1, 30000) n",
    );
    let mut page = log.read(Some(&after), NOW).unwrap();
    let mut pages = 1;
    let began = Instant::now();
    while page.has_more() {
        page = log.read(Some(page.cursor()), 60 * SECOND).unwrap();
        pages += 1;
    }
    assert!(began.elapsed() < 30 * SECOND, "nor where the last page is empty");
    assert_eq!(pages, 4, "three are full, and then it is known that this was all");
    assert!(!log.read(Some(page.cursor()), NOW).unwrap().has_more());
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
}

#[test]
fn what_is_committed_between_two_pages_is_not_passed_over() {
    let server = Server::start();
    let log = log(&server);
    log.append(&[]).unwrap();
    let mut user = server.open_psql();
    let mut input = user.stdin.take().unwrap();
    let mut output = BufReader::new(user.stdout.take().unwrap()).lines();
    let revoke = "select sealed_session_revoke_everyone('sessions', 'shop')";
    writeln!(input, "begin; {revoke}; \\echo done").unwrap();
    while output.next().unwrap().unwrap() != "done" {}
    for part in 0..3 {
        log.append(&(part * 5_000..(part + 1) * 5_000).map(fact).collect::<Vec<_>>()).unwrap();
    }

    let first = log.read(None, NOW).unwrap();
    assert!(first.has_more());
    writeln!(input, "commit; \\echo done").unwrap();
    while output.next().unwrap().unwrap() != "done" {}
    let (rest, after) = all(&log, Some(first.cursor()));
    assert_eq!(first.facts().len() + rest.len(), 15_000, "its place was on the first page");
    assert_eq!(all(&log, Some(&after)).0.len(), 1);
    drop(input);
    user.wait().unwrap();
}

#[test]
fn pages_follow_numbers_and_not_their_digits() {
    let server = Server::start();
    let log = log(&server);
    log.append(&[]).unwrap();
    // From 1 to 25,000: as text, 9,999 is the greatest.
    let rows: Vec<_> = (1..=25_000)
        .map(|n| format!("('sessions', '\\x{}', '{n}')", hex(&fact(n).to_bytes())))
        .collect();
    for part in rows.chunks(1_000) {
        let values = part.join(",");
        server.psql(&format!("insert into sealed_session_facts (list, fact, xid) values {values}"));
    }

    let mut page = log.read(None, NOW).unwrap();
    let mut found = page.facts().to_vec();
    while page.has_more() {
        page = log.read(Some(page.cursor()), NOW).unwrap();
        found.extend(page.facts());
        assert!(found.len() <= 25_000, "each once");
    }
    assert_eq!(set(&found).len(), 25_000);
}

/// Eight writers of 250 facts each, and what two readers saw of them: this log, and one that
/// remembers the greatest number instead, as everybody does first.
#[test]
fn writers_that_finish_out_of_order_leave_no_hole() {
    let server = Server::start();
    let reader = log(&server);
    reader.append(&[]).unwrap();
    server.psql("alter table sealed_session_facts add seq bigserial");
    let writing = AtomicUsize::new(8);
    let (seen, naive) = thread::scope(|scope| {
        for writer in 0..8 {
            let (server, writing) = (&server, &writing);
            scope.spawn(move || {
                let mut session = server.open_psql();
                let mut input = session.stdin.take().unwrap();
                for number in 0..250 {
                    let bytes = fact(writer * 250 + number).to_bytes();
                    let hex = hex(&bytes);
                    // Every transaction ends at another distance from its beginning.
                    writeln!(
                        input,
                        "begin; insert into sealed_session_facts (list, fact) values ('sessions', \
                         '\\x{hex}'); select pg_sleep(random() * 0.005); commit;"
                    )
                    .unwrap();
                }
                drop(input);
                assert!(session.wait_with_output().unwrap().status.success());
                writing.fetch_sub(1, Ordering::SeqCst);
            });
        }
        let naive = scope.spawn(|| {
            let (mut greatest, mut seen) = (0_u64, 0_usize);
            loop {
                let last = writing.load(Ordering::SeqCst) == 0;
                let rows = server.psql(&format!(
                    "select count(*), coalesce(max(seq), {greatest}) from sealed_session_facts
                     where seq > {greatest}"
                ));
                let (count, max) = rows.split_once('|').unwrap();
                seen += count.parse::<usize>().unwrap();
                greatest = max.parse().unwrap();
                if last {
                    return seen;
                }
            }
        });
        let (mut seen, mut after) = all(&reader, None);
        loop {
            let last = writing.load(Ordering::SeqCst) == 0;
            let (news, next) = all(&reader, Some(&after));
            (seen, after) = ([seen, news].concat(), next);
            if last {
                return (seen, naive.join().unwrap());
            }
        }
    });
    assert_eq!(set(&seen).len(), 2_000);
    assert_eq!(seen.len(), 2_000, "each once");
    assert!(naive < 2_000, "the writers did not overtake each other: this test shows nothing");
}

#[test]
fn a_waiting_reader_is_woken_by_a_fact_and_otherwise_comes_back_in_time() {
    let server = Server::start();
    let (reader, writer) = (log(&server), log(&server));
    let (_, after) = all(&reader, None);

    let began = Instant::now();
    let page = reader.read(Some(&after), SECOND).unwrap();
    assert!(page.facts().is_empty() && began.elapsed() >= SECOND, "the heartbeat");

    let mut cursor = page.cursor().clone();
    // Behind a pooler nothing is notified: as if inserted by hand.
    let insert = "insert into sealed_session_facts (list, fact) values ('sessions', '\\x00')";
    let add: [&dyn Fn(); 2] =
        [&|| writer.append(&[fact(1)]).unwrap(), &|| drop(server.psql(insert))];
    for add in add {
        let (log, after) = (&reader, &cursor);
        let page = thread::scope(|scope| {
            let waiting = scope.spawn(move || log.read(Some(after), 60 * SECOND).unwrap());
            until("it listens and sleeps", || asleep(&server));
            add();
            let began = Instant::now();
            let page = waiting.join().unwrap();
            assert!(began.elapsed() < 30 * SECOND);
            page
        });
        assert_ne!(page.cursor(), &cursor);
        cursor = page.cursor().clone();
    }
    let (facts, _) = all(&reader, Some(&after));
    assert_eq!(facts, [fact(1)], "what does not decode makes the page unreadable, not empty");
}

/// Whether the connection that listens has asked and now waits.
fn asleep(server: &Server) -> bool {
    let asleep = "select count(*) from pg_stat_activity where application_name = 'sealed-session'
        and state = 'idle' and query like '%with page%' and state_change < now()";
    server.psql(asleep) != "0"
}

#[test]
fn a_notification_wakes_before_the_poll_does() {
    let server = Server::start();
    let (reader, writer) = (log(&server), log(&server));
    let (_, mut after) = all(&reader, None);
    let insert = |number| {
        let hex = hex(&fact(number).to_bytes());
        server.psql(&format!(
            "insert into sealed_session_facts (list, fact) values ('sessions', '\\x{hex}')"
        ));
    };
    let revoke = "select sealed_session_revoke_everyone('sessions', 'shop')";
    let mut took = [Duration::ZERO; 3];
    for number in 0..60 {
        let way = usize::try_from(number % 3).unwrap();
        let (log, cursor) = (&reader, &after);
        let (time, next) = thread::scope(|scope| {
            let waiting = scope.spawn(move || {
                let page = log.read(Some(cursor), 60 * SECOND).unwrap();
                (Instant::now(), page.cursor().clone())
            });
            until("it listens and sleeps", || asleep(&server));
            match way {
                0 => insert(number),
                1 => writer.append(&[fact(number)]).unwrap(),
                _ => drop(server.psql(revoke)),
            }
            let added = Instant::now();
            let (found, next) = waiting.join().unwrap();
            (found.saturating_duration_since(added), next)
        });
        took[way] += time;
        after = next;
    }
    let [polled, appended, called] = took;
    assert!(appended < polled / 2, "{appended:?} appended, {polled:?} polled");
    assert!(called < polled / 2, "{called:?} by the function, {polled:?} polled");
}

#[test]
fn a_long_transaction_hides_no_fact_and_keeps_no_reader_busy() {
    let server = Server::start();
    let (reader, writer) = (log(&server), log(&server));
    writer.append(&[longest(DAY)]).unwrap();
    let (_, after) = all(&reader, None);

    let mut user = server.open_psql();
    let mut input = user.stdin.take().unwrap();
    let mut output = BufReader::new(user.stdout.take().unwrap()).lines();
    writeln!(
        input,
        "begin; select sealed_session_revoke_everyone('sessions', 'shop'); \\echo done"
    )
    .unwrap();
    while output.next().unwrap().unwrap() != "done" {}

    writer.append(&[fact(1)]).unwrap();
    let page = reader.read(Some(&after), 60 * SECOND).unwrap();
    assert_eq!(page.facts(), [fact(1)], "others' facts are not held up, nor is the open one seen");

    // What the transaction holds back is no news: the read goes on waiting.
    let began = Instant::now();
    let page = reader.read(Some(page.cursor()), 2 * SECOND).unwrap();
    assert!(page.facts().is_empty() && began.elapsed() >= 2 * SECOND);

    writeln!(input, "commit; \\echo done").unwrap();
    while output.next().unwrap().unwrap() != "done" {}
    let page = reader.read(Some(page.cursor()), 60 * SECOND).unwrap();
    assert_eq!(page.facts().len(), 1);
    assert_eq!(page.facts()[0].to_bytes()[0], 2);
    drop(input);
    user.wait().unwrap();
}

/// The key that the session manager derives, by another implementation.
fn key(label: &str, parts: &[&str]) -> Vec<u8> {
    let program = "import sys, hashlib
label, *parts = [part.encode('utf-8', 'surrogateescape') for part in sys.argv[1:]]
text = label + b''.join(len(part).to_bytes(2, 'big') + part for part in parts)
print(hashlib.sha256(text).hexdigest()[:32])";
    let python = Command::new("python3").args(["-c", program, label]).args(parts).output().unwrap();
    let hex = String::from_utf8(python.stdout).unwrap();
    let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..32).step_by(2).map(byte).collect()
}

#[test]
fn sql_functions_add_the_facts_that_a_session_manager_would() {
    let server = Server::start();
    let log = log(&server);
    let call = |sql: &str| {
        let (_, after) = all(&log, None);
        let before = SystemTime::now();
        server.psql(&format!("select {sql}"));
        let after_call = SystemTime::now();
        let (facts, _) = all(&log, Some(&after));
        assert_eq!(facts.len(), 1, "{sql}");
        (facts[0].to_bytes(), facts[0].until().unwrap(), before..=after_call)
    };
    let at = |bytes: &[u8]| {
        let millis = u64::from_be_bytes([&[0, 0], bytes].concat().try_into().unwrap());
        SystemTime::UNIX_EPOCH + Duration::from_millis(millis)
    };
    let margin = 120 * SECOND;
    let minute = 60 * SECOND;

    log.append(&[]).unwrap();
    for lifetime in [400 * DAY, DAY, 7 * DAY] {
        if lifetime < 400 * DAY {
            log.append(&[longest(lifetime), longest(SECOND)]).unwrap();
        }
        for (realm, subject) in [("shop", "alice"), ("größer", "o'hara 日本"), ("", "x")] {
            let quoted = subject.replace('\'', "''");
            let sql = format!("sealed_session_revoke_subject('sessions', '{realm}', '{quoted}')");
            let (bytes, until, called) = call(&sql);
            assert_eq!(bytes[1..17], key("sealed-session v1 subject", &[realm, subject]));
            let cut_off = at(&bytes[17..23]);
            let tick = Duration::from_millis(1);
            assert!((*called.start() + minute..=*called.end() + minute + tick).contains(&cut_off));
            assert_eq!((bytes[0], until), (2, cut_off + lifetime + margin));

            let sql = format!("sealed_session_revoke_everyone('sessions', '{realm}', '0 s')");
            let (bytes, until, called) = call(&sql);
            assert_eq!(bytes[1..17], key("sealed-session v1 realm", &[realm]));
            let cut_off = at(&bytes[17..23]);
            assert!((*called.start() - tick..=*called.end() + tick).contains(&cut_off));
            assert_eq!((bytes[0], until), (2, cut_off + lifetime + margin));
        }
        let id = format!("{:032x}", lifetime.as_secs());
        let (bytes, until, called) =
            call(&format!("sealed_session_revoke_session('sessions', '\\x{id}')"));
        assert_eq!(bytes[1..17], u128::from(lifetime.as_secs()).to_be_bytes());
        assert_eq!((bytes[0], &bytes[17..21]), (1, &[0, 1, 0, 0][..]));
        let late = *called.start() + minute + lifetime + margin;
        assert!((late..=late + minute).contains(&until));
    }
}

#[test]
fn sql_functions_refuse_what_would_revoke_nothing() {
    let server = Server::start();
    let log = log(&server);
    log.append(&[]).unwrap();
    for (call, why) in [
        ("subject('session', 'shop', 'alice')", "there is no list"),
        ("subject(null, 'shop', 'alice')", "there is no list"),
        ("subject('sessions', null, 'alice')", "must not be null"),
        ("subject('sessions', 'shop', null)", "must not be null"),
        ("subject('sessions', 'shop', '')", "must not be null"),
        ("subject('sessions', 'shop', 'alice', null)", "must not be null"),
        ("everyone('sessions', null)", "must not be null"),
        ("session('sessions', null)", "16 bytes"),
        ("session('sessions', '\\x00')", "16 bytes"),
    ] {
        let error = server.try_psql(&format!("select sealed_session_revoke_{call}")).unwrap_err();
        assert!(error.contains(why), "{call}: {error}");
    }
    assert!(all(&log, None).0.is_empty());
}

#[test]
fn a_transaction_that_is_rolled_back_leaves_no_fact() {
    let server = Server::start();
    let log = log(&server);
    let (_, after) = all(&log, None);

    server.psql("begin; select sealed_session_revoke_everyone('sessions', 'shop'); rollback");
    assert!(all(&log, Some(&after)).0.is_empty() && all(&log, None).0.is_empty());

    server.psql("begin; select sealed_session_revoke_everyone('sessions', 'shop'); commit");
    assert_eq!((all(&log, Some(&after)).0.len(), all(&log, None).0.len()), (1, 1));
}

#[test]
fn it_passes_the_suite_for_every_log() {
    let server = Server::start();
    let wipe = || {
        server.psql("drop table sealed_session_facts, sealed_session_lineage");
        Ok(())
    };
    Suite::new(|| PostgresLog::new(&server.url("postgres"), "sessions"))
        .wiped_by(wipe)
        .run()
        .unwrap();
}
