//! The log in a database file: what can happen to the file, and who may write it.
//!
//! Needs python3, whose own `SQLite` is the other program that uses the file.
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

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use folder::Folder;
use sealed_session::ErrorKind;
use sealed_session::revocation::{Cursor, RevocationLog as _, SqliteLog};
use sqlite_log::{BATCH, LONG, NO_TIME, all, batch, fact, run_child, sql};

// What can happen to the file.

#[test]
fn a_file_that_is_deleted_under_a_reader_is_an_error_and_then_a_new_log() {
    for names in [&["log.db"][..], &["log.db", "log.db-wal", "log.db-shm"]] {
        let folder = Folder::new();
        let log = Arc::new(SqliteLog::new(folder.at("log.db")));
        log.append(&[fact(1)]).unwrap();
        let old = log.read(None, NO_TIME).unwrap();
        let reading = {
            let (log, after) = (Arc::clone(&log), old.cursor().clone());
            thread::spawn(move || log.read(Some(&after), LONG))
        };
        thread::sleep(Duration::from_millis(30));
        let began = Instant::now();

        for name in names {
            fs::remove_file(folder.at(name)).unwrap();
        }

        let error = reading.join().unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Backend);
        assert!(began.elapsed() < LONG / 2);
        let new = log.read(Some(old.cursor()), LONG).unwrap();
        assert_ne!(new.lineage().id(), old.lineage().id());
        assert!(new.facts().is_empty());
        log.append(&[fact(2)]).unwrap();
        assert_eq!(all(&SqliteLog::new(folder.at("log.db"))), [fact(2)]);
    }
}

#[test]
fn an_append_into_a_file_that_is_gone_is_not_acknowledged() {
    for name in ["log.db", "log.db-wal", "log.db-shm"] {
        let folder = Folder::new();
        let log = SqliteLog::new(folder.at("log.db"));
        log.append(&[fact(1)]).unwrap();

        fs::remove_file(folder.at(name)).unwrap();

        assert_eq!(log.append(&[fact(2)]).unwrap_err().kind(), ErrorKind::Backend, "{name}");
        log.append(&[fact(3)]).unwrap();
        assert!(all(&SqliteLog::new(folder.at("log.db"))).contains(&fact(3)), "{name}");
    }
}

#[test]
fn an_older_copy_in_its_place_is_an_error_also_when_it_has_grown_past_the_reader() {
    let folder = Folder::new();
    let path = folder.at("log.db");
    let log = SqliteLog::new(&path);
    log.append(&[fact(1), fact(2)]).unwrap();
    sql(&path, &format!("vacuum into '{}'", folder.at("copy.db").display()));
    log.append(&[fact(3)]).unwrap();
    let page = log.read(None, NO_TIME).unwrap();
    drop(log);
    fs::set_permissions(folder.at("copy.db"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::rename(folder.at("copy.db"), &path).unwrap();

    let log = SqliteLog::new(&path);
    log.append(&[fact(4), fact(5)]).unwrap();
    let error = log.read(Some(page.cursor()), NO_TIME).unwrap_err();

    assert_eq!(error.kind(), ErrorKind::Backend);
    let copy = log.read(None, NO_TIME).unwrap();
    assert_eq!(copy.lineage().id(), page.lineage().id());
    assert_eq!(copy.facts().len(), 4);
}

#[test]
fn a_log_that_has_fallen_behind_its_reader_is_an_error() {
    let folder = Folder::new();
    let path = folder.at("log.db");
    let log = SqliteLog::new(&path);
    log.append(&[fact(1), fact(2)]).unwrap();
    let page = log.read(None, NO_TIME).unwrap();

    sql(&path, "delete from fact where seq = 2; update sqlite_sequence set seq = 1");

    let error = log.read(Some(page.cursor()), NO_TIME).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Backend);
}

#[test]
fn a_log_whose_id_was_deleted_gets_another() {
    let folder = Folder::new();
    let path = folder.at("log.db");
    let log = SqliteLog::new(&path);
    log.append(&[fact(1)]).unwrap();
    let old = log.read(None, NO_TIME).unwrap();

    sql(&path, "delete from lineage");

    assert_eq!(log.append(&[fact(2)]).unwrap_err().kind(), ErrorKind::Backend);
    log.append(&[fact(2)]).unwrap();
    let new = log.read(Some(old.cursor()), NO_TIME).unwrap();
    assert_ne!(new.lineage().id(), old.lineage().id());
    assert_eq!(new.facts(), [fact(1), fact(2)]);
}

#[test]
fn a_cursor_that_is_none_is_an_error() {
    let folder = Folder::new();
    let log = SqliteLog::new(folder.at("log.db"));
    let whole = log.read(None, NO_TIME).unwrap().cursor().as_bytes().to_vec();

    for length in (0..whole.len()).chain([whole.len() + 1]) {
        let mut bytes = whole.clone();
        bytes.resize(length, 0);
        let error = log.read(Some(&Cursor::new(bytes)), LONG).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Backend);
    }
}

#[test]
fn what_is_no_log_is_refused_with_what_to_do_and_left_as_it_is() {
    let folder = Folder::new();
    let ours = folder.at("ours.db");
    SqliteLog::new(&ours).append(&[fact(1)]).unwrap();
    let copy = |name: &str, change: &str| {
        fs::copy(&ours, folder.at(name)).unwrap();
        sql(&folder.at(name), change);
        folder.at(name)
    };
    let foreign = folder.file("foreign.db", "");
    sql(&foreign, "create table customers (name text)");
    let empty = folder.file("marked.db", "");
    sql(&empty, "pragma user_version = 7");
    let shape = "the tables of this database";

    for (path, expected) in [
        (folder.file("text.db", "This is a text.\n".repeat(500)), "no SQLite database"),
        (foreign, "a database of something else"),
        (empty, "a database of something else"),
        (copy("newer.db", "pragma user_version = 2"), "newer release"),
        (copy("column.db", "alter table fact rename column fact to bytes"), shape),
        (copy("table.db", "drop table fact"), shape),
        (copy("type.db", "update lineage set id = 'text'"), shape),
        (copy("short.db", "update lineage set id = x'00'"), shape),
        (copy("text-fact.db", "update fact set fact = 'text'"), shape),
    ] {
        let before = fs::read(&path).unwrap();
        let log = SqliteLog::new(&path);
        let both = [log.read(None, NO_TIME).map(drop), log.append(&[fact(2)])];
        let error = both[0].clone().unwrap_err();

        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(error.to_string().contains(expected), "{expected}: {error}");
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        if expected != shape {
            assert!(both[1].is_err(), "{expected}");
            assert!(fs::read(&path).unwrap() == before, "{} was changed", path.display());
        }
    }
}

#[test]
fn a_path_that_cannot_be_is_refused() {
    let folder = Folder::new();
    symlink(folder.at("nowhere/log.db"), folder.at("dangling.db")).unwrap();

    for (path, expected) in [
        ("".into(), "the path is empty"),
        (folder.directory("in"), "not a file"),
        (folder.at("missing/log.db"), "make the directory"),
        (folder.at("dangling.db"), "make the directory"),
    ] {
        let error = SqliteLog::new(path).read(None, NO_TIME).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(error.to_string().contains(expected), "{expected}: {error}");
    }
}

#[test]
fn a_damaged_page_is_an_error_and_not_an_empty_page() {
    let folder = Folder::new();
    let path = folder.at("log.db");
    SqliteLog::new(&path).append(&(0..5_000).map(fact).collect::<Vec<_>>()).unwrap();
    let whole = fs::read(&path).unwrap();
    let pages = whole.chunks(4096).count();
    let mut errors = 0;

    for page in 1..pages {
        let mut bytes = whole.clone();
        bytes[page * 4096..page * 4096 + 64].fill(0xa5);
        let path = folder.file("damaged.db", bytes);
        let log = SqliteLog::new(&path);
        match log.read(None, NO_TIME) {
            // A page of an index, which reading does not need.
            Ok(page) => assert_eq!(page.facts().len(), 5_000),
            Err(error) => {
                errors += 1;
                let kind = error.kind();
                assert!(matches!(kind, ErrorKind::Backend | ErrorKind::Config), "{error}");
            }
        }
        drop(log);
        for name in ["damaged.db-wal", "damaged.db-shm"] {
            let _ = fs::remove_file(folder.at(name));
        }
    }
    assert!(errors > pages / 4, "{errors} errors in {pages} pages");
}

#[test]
fn a_full_disk_is_an_error_and_loses_nothing() {
    let folder = Folder::new();
    let path = folder.at("log.db");
    SqliteLog::new(&path).append(&batch(0)).unwrap();
    let mut shell = Command::new("sh");
    // 500 KiB a file; without the signal, which would kill.
    shell.args(["-c", "trap '' XFSZ; ulimit -f 1000; exec \"$0\" \"$@\""]);
    shell.arg(std::env::current_exe().unwrap());

    let told = run_child(shell, "until refused", &path, 1);

    let refused = told.iter().find_map(|line| line.strip_prefix("refused ")).unwrap();
    assert!(refused.starts_with("Backend"), "{told:?}");
    let acknowledged = told.iter().filter(|line| line.starts_with("batch ")).count();
    assert!(acknowledged > 2, "{told:?}");
    assert!(told.contains(&format!("still {}", (acknowledged + 1) * BATCH)), "{told:?}");
    let log = SqliteLog::new(&path);
    assert_eq!(all(&log).len(), (acknowledged + 1) * BATCH);
    log.append(&batch(5_000)).unwrap();
    assert_eq!(sql(&path, "pragma integrity_check"), "ok");
}

// Who may write it.

#[test]
fn the_files_are_for_their_owner_alone() {
    let folder = Folder::new();
    let log = SqliteLog::new(folder.at("log.db"));

    log.append(&[fact(1)]).unwrap();

    for name in ["log.db", "log.db-wal", "log.db-shm"] {
        assert_eq!(fs::metadata(folder.at(name)).unwrap().mode() & 0o777, 0o600, "{name}");
    }
}

#[test]
fn a_place_that_others_may_write_is_refused() {
    let refused = |path: &Path, expected: &str| {
        let error = SqliteLog::new(path).read(None, NO_TIME).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(error.to_string().contains(expected), "{expected}: {error}");
    };
    let folder = Folder::new();
    folder.directory("in");
    let path = folder.at("in/log.db");

    for mode in [0o775, 0o757, 0o1777] {
        folder.mode(mode, "in");
        refused(&path, "may write the directory");
        assert!(!path.exists(), "a refusal leaves nothing behind");
    }
    folder.mode(0o755, "in");
    SqliteLog::new(&path).append(&[fact(1)]).unwrap();
    for mode in [0o620, 0o602] {
        folder.mode(mode, "in/log.db");
        refused(&path, "may write this file");
    }
    folder.mode(0o644, "in/log.db");
    assert_eq!(all(&SqliteLog::new(&path)), [fact(1)]);

    folder.directory("links");
    symlink(&path, folder.at("links/log.db")).unwrap();
    assert_eq!(all(&SqliteLog::new(folder.at("links/log.db"))), [fact(1)]);
    folder.mode(0o777, "links");
    refused(&folder.at("links/log.db"), "may write the directory");
    folder.mode(0o755, "links");
    folder.mode(0o777, "in");
    refused(&folder.at("links/log.db"), "may write the directory");
}

#[test]
fn a_file_or_directory_that_the_process_may_not_write_is_refused_with_advice() {
    let folder = Folder::new();
    let root = fs::metadata(folder.path()).unwrap().uid() == 0;
    // Where any user can start it.
    let program = folder.at("program");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    folder.mode(0o755, "program");
    let try_it = |path: &Path| {
        let mut command = Command::new(&program);
        if root {
            command.uid(65_534).gid(65_534);
        }
        run_child(command, "try", path, 1)
    };
    let of_nobody = |name: &str| {
        if root {
            std::os::unix::fs::chown(folder.at(name), Some(65_534), Some(65_534)).unwrap();
        }
    };
    folder.directory("in");
    let path = folder.at("in/log.db");
    let told = "the user of this process has to be able to write";

    folder.mode(0o555, "in");
    of_nobody("in");
    let no_directory = try_it(&path);
    folder.mode(0o755, "in");
    SqliteLog::new(&path).append(&[fact(1)]).unwrap();
    of_nobody("in/log.db");
    folder.mode(0o444, "in/log.db");
    let no_file = try_it(&path);
    folder.mode(0o600, "in/log.db");
    folder.mode(0o555, "in");
    let nothing_beside = try_it(&path);
    folder.mode(0o755, "in");

    for lines in [no_directory, no_file, nothing_beside] {
        let refused = lines.iter().find_map(|line| line.strip_prefix("refused ")).unwrap();
        assert!(refused.contains(told), "{lines:?}");
    }
    assert_eq!(all(&SqliteLog::new(&path)), [fact(1)]);
}

#[test]
fn nothing_is_opened_before_the_first_call_and_the_name_is_the_path() {
    let folder = Folder::new();
    let log = SqliteLog::new(folder.at("log.db"));

    assert_eq!(log.name(), folder.at("log.db").to_str().unwrap());
    assert_eq!(log.settle(), Duration::from_secs(1));
    assert!(format!("{log:?}").starts_with("SqliteLog { path: "));
    assert!(!folder.at("log.db").exists());
}
