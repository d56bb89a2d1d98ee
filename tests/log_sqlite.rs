//! The log in a database file: what every log has to do, and several processes that use one.
//!
//! Needs python3, whose own `SQLite` is the other program that uses the file, and strace.
#![cfg(all(feature = "sqlite", target_os = "linux"))]
#![allow(
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may panic"
)]

#[path = "common/folder.rs"]
mod folder;
#[path = "common/sqlite_log.rs"]
mod sqlite_log;

use std::collections::HashSet;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use folder::Folder;
use sealed_session::ErrorKind;
use sealed_session::revocation::{Page, RevocationLog as _, SqliteLog};
use sqlite_log::{
    BATCH, LONG, Locked, NO_TIME, Process, all, batch, child, fact, fact_until, forever, hex,
    run_child, sql,
};

// What every log has to do.

#[test]
fn a_new_log_is_empty_young_and_stays_the_same_log() {
    let folder = Folder::new();
    let log = SqliteLog::new(folder.at("log.db"));
    let before = SystemTime::now();

    let first = log.read(None, LONG).unwrap();
    let again = SqliteLog::new(folder.at("log.db")).read(None, LONG).unwrap();

    assert!(first.facts().is_empty() && !first.has_more());
    assert_eq!(first.lineage().id(), again.lineage().id());
    assert!(again.lineage().age() <= before.elapsed().unwrap() + Duration::from_millis(1));
}

#[test]
fn what_was_added_is_there_at_once_for_every_handle_and_once() {
    let folder = Folder::new();
    let (here, there) = (SqliteLog::new(folder.at("log.db")), SqliteLog::new(folder.at("log.db")));
    let start = there.read(None, NO_TIME).unwrap();
    let before = SystemTime::now();

    here.append(&[fact(1), fact(2), fact(1)]).unwrap();
    let page = there.read(Some(start.cursor()), NO_TIME).unwrap();
    here.append(&[fact(2), fact(3), forever()]).unwrap();
    let next = there.read(Some(page.cursor()), NO_TIME).unwrap();

    assert_eq!(page.facts(), [fact(1), fact(2)]);
    assert_eq!(next.facts(), [fact(3), forever()]);
    assert!(there.read(Some(next.cursor()), NO_TIME).unwrap().facts().is_empty());
    assert_eq!(all(&here).len(), 4);
    let written = format!("{:?}", here.read(None, NO_TIME).unwrap());
    assert!(!written.contains("unreadable: Some"), "{written}");
    assert!(before.elapsed().is_ok());
}

#[test]
fn pages_add_up_to_the_whole_and_none_waits_while_there_are_more() {
    let folder = Folder::new();
    let log = SqliteLog::new(folder.at("log.db"));
    let facts: Vec<_> = (0..25_000).map(fact).collect();
    for part in facts.chunks(5_000) {
        log.append(part).unwrap();
    }

    let (mut pages, mut after) = (Vec::new(), None);
    loop {
        let page = log.read(after.as_ref(), LONG).unwrap();
        after = Some(page.cursor().clone());
        pages.push(page);
        if !pages[pages.len() - 1].has_more() {
            break;
        }
    }

    assert_eq!(
        pages.iter().map(|page| page.facts().len()).collect::<Vec<_>>(),
        [10_000, 10_000, 5_000]
    );
    assert_eq!(pages.iter().flat_map(Page::facts).copied().collect::<Vec<_>>(), facts);
}

#[test]
fn a_read_without_news_waits_as_long_as_it_was_told_and_is_empty() {
    let folder = Folder::new();
    let log = SqliteLog::new(folder.at("log.db"));
    log.append(&[fact(1)]).unwrap();
    let page = log.read(None, LONG).unwrap();
    let began = Instant::now();

    let wait = Duration::from_millis(300);
    let empty = log.read(Some(page.cursor()), wait).unwrap();

    assert!(began.elapsed() >= wait && began.elapsed() < LONG);
    assert!(empty.facts().is_empty());
    assert_eq!(empty.cursor(), page.cursor());
}

#[test]
fn a_reader_that_waits_is_woken_by_an_append_of_its_own_log_and_of_another() {
    let folder = Folder::new();
    let log = Arc::new(SqliteLog::new(folder.at("log.db")));
    let other = Arc::new(SqliteLog::new(folder.at("log.db")));
    let mut after = log.read(None, NO_TIME).unwrap().cursor().clone();

    for (number, writer) in [(1, &log), (2, &other)] {
        let reader = Arc::clone(&log);
        let reading = thread::spawn(move || reader.read(Some(&after), LONG).unwrap());
        // Until it waits; if it did not yet, it must see the fact all the same.
        thread::sleep(Duration::from_millis(30));
        let began = Instant::now();
        writer.append(&[fact(number)]).unwrap();
        let page = reading.join().unwrap();

        assert_eq!(page.facts(), [fact(number)]);
        assert!(began.elapsed() < LONG / 2);
        after = page.cursor().clone();
    }
}

#[test]
fn a_reader_that_follows_four_writers_sees_no_hole() {
    const EACH: u64 = 150;
    let folder = Folder::new();
    let path = folder.at("log.db");
    let log = SqliteLog::new(&path);
    let mut after = log.read(None, NO_TIME).unwrap().cursor().clone();
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let log = SqliteLog::new(&path);
            thread::spawn(move || {
                for number in 0..EACH {
                    // One that waits for too long among the others may be told so.
                    let mut tries = (0..20).map(|_| log.append(&[fact(writer * EACH + number)]));
                    assert!(tries.any(|done| done.is_ok()));
                }
            })
        })
        .collect();

    let mut seen = Vec::new();
    let deadline = Instant::now() + LONG;
    while seen.len() < 600 && Instant::now() < deadline {
        let page = log.read(Some(&after), Duration::from_secs(1)).unwrap();
        seen.extend_from_slice(page.facts());
        after = page.cursor().clone();
    }

    for writer in writers {
        writer.join().unwrap();
    }
    assert_eq!(seen.len(), 600);
    assert_eq!(seen.into_iter().collect::<HashSet<_>>(), (0..600).map(fact).collect());
}

#[test]
fn facts_go_an_hour_after_their_end_with_an_append_and_those_without_end_stay() {
    let folder = Folder::new();
    let log = SqliteLog::new(folder.at("log.db"));
    let minutes = |minutes: u64| SystemTime::now() - Duration::from_secs(60 * minutes);
    let ended: Vec<_> = (0..1_000).map(|number| fact_until(number, minutes(61))).collect();
    let kept = [fact_until(2_000, minutes(59)), fact_until(2_001, minutes(0)), forever()];
    log.append(&kept).unwrap();
    // More than one append deletes: in the past of the file, not in that of the log.
    for fact in &ended {
        assert!(fact.until().unwrap() < minutes(60));
    }
    log.append(&ended).unwrap();
    assert_eq!(all(&log), kept);

    let rows = "with recursive n(n) as (select 0 union all select n + 1 from n where n < 999) \
                insert into fact (fact, until, written_at) select cast(n + 1000 as blob), n, 0 from n";
    sql(&folder.at("log.db"), rows);
    log.append(&[]).unwrap();
    let left = sql(&folder.at("log.db"), "select count(*) from fact where length(fact) = 4");
    assert_eq!(left, "900", "one append does a bounded amount");
    for _ in 0..9 {
        log.append(&[]).unwrap();
    }
    assert_eq!(all(&log), kept);
}

// Several processes.

#[test]
fn processes_that_make_the_file_at_once_make_one_log() {
    for _ in 0..5 {
        let folder = Folder::new();
        let path = folder.at("log.db");
        let children: Vec<_> = (0..6).map(|number| child("add", &path, number)).collect();

        let told: Vec<_> = children.into_iter().map(Process::finish).collect();

        assert_eq!(told.iter().flatten().filter(|line| *line == "added").count(), 6, "{told:?}");
        let facts: HashSet<_> = all(&SqliteLog::new(&path)).into_iter().collect();
        assert_eq!(facts, (0..6).map(fact).collect());
    }
}

#[test]
fn another_program_can_add_to_the_file_and_look_at_it_while_it_is_followed() {
    let folder = Folder::new();
    let path = folder.at("log.db");
    let log = SqliteLog::new(&path);
    log.append(&[fact(1)]).unwrap();
    let page = log.read(None, NO_TIME).unwrap();

    let bytes = hex(&fact(2).to_bytes());
    let reading = {
        let (path, after) = (path.clone(), page.cursor().clone());
        thread::spawn(move || SqliteLog::new(path).read(Some(&after), LONG).unwrap())
    };
    sql(&path, &format!("insert into fact (fact, until, written_at) values (x'{bytes}', 9, 7)"));

    assert_eq!(reading.join().unwrap().facts(), [fact(2)]);
    assert_eq!(sql(&path, "select count(*) from fact"), "2");
    assert_eq!(sql(&path, "pragma integrity_check"), "ok");
    let known = sql(&path, "select hex(id) from lineage").to_lowercase();
    assert_eq!(known, hex(&page.lineage().id()));
}

#[test]
fn a_writer_that_is_killed_loses_nothing_it_was_told_of_and_leaves_no_part_of_a_batch() {
    let folder = Folder::new();
    let path = folder.at("log.db");

    for round in 0..12 {
        let mut writer = child("batches", &path, round * 1_000);
        let mut acknowledged = Vec::new();
        for line in writer.lines().take(usize::try_from(round).unwrap() % 4 + 2) {
            acknowledged.push(line.strip_prefix("batch ").unwrap().parse::<u64>().unwrap());
        }
        // Somewhere in the batches after those.
        thread::sleep(Duration::from_micros(700 * round));
        writer.kill();
        // What it wrote until then.
        let rest =
            writer.lines().filter_map(|line| line.strip_prefix("batch ")?.parse::<u64>().ok());
        acknowledged.extend(rest);

        let facts: HashSet<_> = all(&SqliteLog::new(&path)).into_iter().collect();
        for number in round * 1_000.. {
            let there = batch(number).iter().filter(|fact| facts.contains(fact)).count();
            assert!(there == 0 || there == BATCH, "{there} of batch {number}");
            if acknowledged.contains(&number) {
                assert_eq!(there, BATCH, "batch {number} was acknowledged");
            } else if there == 0 {
                break;
            }
        }
        assert_eq!(sql(&path, "pragma integrity_check"), "ok");
    }
}

#[test]
fn an_append_is_whole_or_not_there_at_whichever_write_it_is_killed() {
    let mut outcomes = HashSet::new();
    for call in ["pwrite64", "fdatasync", "fsync", "ftruncate"] {
        for number in 1.. {
            let folder = Folder::new();
            let path = folder.at("log.db");
            SqliteLog::new(&path).append(&batch(0)).unwrap();
            let inject = format!("inject={call}:signal=KILL:when={number}");
            let mut strace = Command::new("strace");
            strace.args(["-f", "-qq", "-o", "/dev/null", "-e"]).arg(format!("trace={call}"));
            strace.args(["-e", &inject]).arg(std::env::current_exe().unwrap());

            let done = run_child(strace, "one batch", &path, 1);

            let finished = done.iter().any(|line| line == "batch 1");
            let facts: HashSet<_> = all(&SqliteLog::new(&path)).into_iter().collect();
            let there = batch(1).iter().filter(|fact| facts.contains(fact)).count();
            assert!(there == 0 || there == BATCH, "{there} facts, {inject}");
            assert!(there == BATCH || !finished, "{inject}");
            assert!(batch(0).iter().all(|fact| facts.contains(fact)), "{inject}");
            assert_eq!(sql(&path, "pragma integrity_check"), "ok", "{inject}");
            outcomes.insert((finished, there == BATCH));
            if done.iter().any(|line| line == "end") {
                break;
            }
        }
    }
    assert!(outcomes.contains(&(false, false)), "killed before the commit: {outcomes:?}");
    assert!(outcomes.contains(&(true, true)), "finished: {outcomes:?}");
}

#[test]
fn a_lock_that_another_process_keeps_is_an_error_and_then_forgotten() {
    let folder = Folder::new();
    let path = folder.at("log.db");
    let log = SqliteLog::new(&path);
    log.append(&[fact(1)]).unwrap();
    let page = log.read(None, NO_TIME).unwrap();
    let locked = Locked::by_another_process(&path);
    let began = Instant::now();

    let error = log.append(&[fact(2)]).unwrap_err();
    // Readers do not mind.
    assert_eq!(all(&log), [fact(1)]);

    assert_eq!(error.kind(), ErrorKind::Backend);
    assert!(error.to_string().contains("another process held its lock"), "{error}");
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    drop(locked);
    log.append(&[fact(2)]).unwrap();
    assert_eq!(log.read(Some(page.cursor()), NO_TIME).unwrap().facts(), [fact(2)]);
}

#[test]
fn a_frozen_writer_costs_an_error_and_nothing_else() {
    let folder = Folder::new();
    let path = folder.at("log.db");
    let log = SqliteLog::new(&path);
    let mut writer = child("batches", &path, 0);
    writer.lines().next().unwrap();
    let began = Instant::now();

    // It has the lock most of the time, but not at each moment.
    let refused = (0..200).any(|number| {
        writer.signal("STOP");
        let refused = log.append(&[fact(1_000_000 + number)]).is_err();
        writer.signal("CONT");
        refused
    });

    assert!(refused && began.elapsed() < LONG);
    writer.kill();
    log.append(&[fact(2_000_000)]).unwrap();
    assert!(all(&log).contains(&fact(2_000_000)));
}
