//! A change of a key file is whole or not there, at whatever point the command is killed or a system
//! call fails; and the next run finishes the work.
//!
//! Needs strace and the right to trace, which `tests/run` sees to.
#![cfg(all(feature = "cli", target_os = "linux"))]
#![allow(
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may panic"
)]

#[path = "common/shell.rs"]
mod shell;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::SystemTime;

use sealed_session::{KeyRing, KeyState, KeyStatus};
use shell::{BINARY, Place, Ran, TEMP};

/// A system call of a run: its name, and its number among those of that name.
type Call = (String, usize);

#[test]
fn a_rotation_that_is_killed_leaves_the_old_file_or_the_new_one() {
    let start = || Place::with_ring("kill-rotate").0;
    let rotated = |ring: &KeyRing| states(ring) == [KeyState::Active, KeyState::Pending];

    killed_everywhere(start, &["keys", "rotate"], rotated);
}

#[test]
fn a_revocation_that_is_killed_leaves_the_old_file_or_the_new_one() {
    let (first, id) = Place::with_ring("kill-first");
    let text = first.text();
    let start = || {
        let place = Place::new("kill-revoke");
        place.write("session.keys", &text, 0o640);
        place
    };
    let revoked = |ring: &KeyRing| states(ring) == [KeyState::Revoked, KeyState::Active];

    killed_everywhere(start, &["keys", "rotate", "--revoke", &id, "--now"], revoked);
}

#[test]
fn a_new_ring_that_is_killed_is_whole_or_not_there() {
    let args = ["keys", "new"];
    let start = || Place::new("kill-new");
    let (mut before, mut after) = (0, 0);

    for call in calls(&start(), &args) {
        let place = start();
        let killed = inject(&place, &args, &call, "signal=KILL");
        assert!(killed.status.code().is_none(), "{call:?}: {killed:?}");
        let made = place.path().join("session.keys").exists();
        *(if made { &mut after } else { &mut before }) += 1;
        if made {
            assert_eq!(states(&place.ring()), [KeyState::Active], "{call:?}");
        }

        let again = place.run(&args);

        assert_eq!(again.status, if made { 2 } else { 0 }, "{call:?}: {again:?}");
        assert_eq!(states(&place.ring()), [KeyState::Active], "{call:?}");
        assert_eq!(place.names(), ["session.keys"], "{call:?}");
    }
    assert!(before > 5 && after > 2, "killed {before} times before and {after} times after");
}

#[test]
fn a_file_is_on_the_disk_before_it_takes_its_place_and_its_place_thereafter() {
    for (args, place) in [
        (&["keys", "rotate"][..], Place::with_ring("order-rotate").0),
        (&["keys", "new"], Place::new("order-new")),
    ] {
        let calls = calls(&place, args);
        let after = |from: usize, names: &[&str]| {
            let found = calls.iter().skip(from).position(|call| names.contains(&&*call.0));
            from + found.unwrap_or_else(|| panic!("no {names:?} after {from}: {calls:?}"))
        };

        let in_place = after(after(after(0, &["write"]), &["fsync"]), &["rename", "linkat"]);
        let kept = after(in_place, &["fsync"]);
        assert!(kept < after(in_place, &["write"]), "told before it was done: {calls:?}");
    }
}

#[test]
fn a_run_that_another_one_overtakes_starts_again_and_loses_none_of_its_changes() {
    let (place, first) = Place::with_ring("overtaken");
    let temp = place.path().join(TEMP);
    let args = ["keys", "rotate", "--revoke", &first, "--now"];
    let slow = ["-o", "/dev/null", "-e", "inject=flock:delay_enter=4s:when=1", BINARY];
    let mut command = Command::new("strace");
    command.args(slow).args(args).current_dir(place.path());
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();

    // It has made the file, and waits before it locks it.
    while !temp.exists() {
        std::thread::yield_now();
    }
    let other = place.run(&["keys", "rotate"]);
    assert_eq!(other.status, 0, "{other:?}");
    let added = place.id(KeyState::Pending);
    let ran = Ran::from(child.wait_with_output().unwrap());

    assert_eq!(ran.status, 0, "{ran:?}");
    assert_eq!(place.id(KeyState::Revoked), first);
    assert_eq!(place.id(KeyState::Pending), added);
    assert_eq!(states(&place.ring()), [KeyState::Revoked, KeyState::Pending, KeyState::Active]);
    assert_eq!(place.names(), ["session.keys"]);
}

#[test]
fn a_file_that_appears_while_a_new_ring_is_made_is_not_replaced() {
    let place = Place::new("race-new");
    let (file, temp) = (place.path().join("session.keys"), place.path().join(TEMP));
    let mut command = Command::new("strace");
    let slow = "inject=linkat,rename,renameat2:delay_enter=4s";
    command.args(["-o", "/dev/null", "-e", slow, BINARY, "keys", "new"]).current_dir(place.path());
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();

    while !fs::read_to_string(&temp).unwrap_or_default().ends_with("Z\n") {
        std::thread::yield_now();
    }
    fs::write(&file, "of another").unwrap();
    let ran = Ran::from(child.wait_with_output().unwrap());

    assert_eq!(ran.status, 2, "{ran:?}");
    assert!(ran.err.contains("session.keys: nothing was made: File exists"), "{ran:?}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "of another");
    assert_eq!(place.names(), ["session.keys"]);
}

#[test]
fn a_rotation_that_fails_says_so_and_leaves_the_old_file_and_no_other() {
    let args = ["keys", "rotate"];
    let gave_away = Cell::new(false);
    let start = || {
        let place = Place::with_ring("fail-rotate").0;
        // So that the owner has to be kept; only root can give a file away.
        gave_away.set(chown(place.path().join("session.keys"), Some(12_345), Some(12_345)).is_ok());
        place
    };
    let mut failed = BTreeMap::new();

    for call in calls(&start(), &args) {
        // What cannot be taken away stays; the next run uses it.
        if call.0.starts_with("unlink") {
            continue;
        }
        let place = start();
        let before = place.text();
        let ran = Ran::from(inject(&place, &args, &call, "error=EIO"));

        let states = states(&place.ring());
        match ran.status {
            0 => assert_eq!(states, [KeyState::Active, KeyState::Pending], "{call:?}: {ran:?}"),
            2 if place.text() == before => *failed.entry(call.0).or_insert(0) += 1,
            _ => assert!(ran.err.contains("session.keys: written, but"), "{call:?}: {ran:?}"),
        }
        no_temporary_file_with_keys(&place, &ran);
    }
    for name in ["flock", "ftruncate", "write", "fsync", "rename", "fchmod"] {
        assert!(failed.contains_key(name), "{name} did not fail: {failed:?}");
    }
    assert_eq!(failed.contains_key("fchown"), gave_away.get(), "{failed:?}");
}

#[test]
fn a_new_ring_that_fails_says_so_and_leaves_no_file() {
    let args = ["keys", "new"];
    let mut failed = BTreeMap::new();

    for call in calls(&Place::new("fail-new"), &args) {
        if call.0.starts_with("unlink") {
            continue;
        }
        let place = Place::new("fail-new");
        let ran = Ran::from(inject(&place, &args, &call, "error=EIO"));

        no_temporary_file_with_keys(&place, &ran);
        if ran.status == 2 && !place.path().join("session.keys").exists() {
            *failed.entry(call.0).or_insert(0) += 1;
        } else {
            assert_eq!(states(&place.ring()), [KeyState::Active], "{call:?}: {ran:?}");
            assert!(ran.status == 0 || ran.err.contains("made, but"), "{call:?}: {ran:?}");
        }
    }
    for name in ["flock", "ftruncate", "write", "fsync", "linkat", "fchmod"] {
        assert!(failed.contains_key(name), "{name} did not fail: {failed:?}");
    }
}

/// An empty one may stay: one that could not be looked at after it was made, so that it might be
/// another run's.
fn no_temporary_file_with_keys(place: &Place, ran: &Ran) {
    let left = fs::read_to_string(place.path().join(TEMP)).unwrap_or_default();
    assert_eq!(left, "", "{ran:?}");
}

/// Kills the command at each of its system calls, looks at the file, and runs it once more.
fn killed_everywhere(start: impl Fn() -> Place, args: &[&str], is_new: impl Fn(&KeyRing) -> bool) {
    let (mut old, mut new) = (0, 0);
    for call in calls(&start(), args) {
        let place = start();
        let before = place.text();
        let killed = inject(&place, args, &call, "signal=KILL");
        assert!(killed.status.code().is_none(), "{call:?}: {killed:?}");
        if place.text() == before {
            old += 1;
        } else {
            assert!(is_new(&place.ring()), "{call:?}: {:?}", place.ring());
            new += 1;
        }

        let again = place.run(args);

        assert_eq!(again.status, 0, "{call:?}: {again:?}");
        assert!(is_new(&place.ring()), "{call:?}: {:?}", place.ring());
        assert_eq!(place.names(), ["session.keys"], "{call:?}");
    }
    assert!(old > 5 && new > 2, "killed {old} times before and {new} times after");
}

/// The system calls of a run, from the first one on the directory to the last of all.
fn calls(place: &Place, args: &[&str]) -> Vec<Call> {
    let log = Place::new(&format!("{}-log", args.join("-")));
    let log = log.path().join("calls");
    let ran = strace(place, args, &["-o", log.to_str().unwrap()]);
    assert!(ran.status.success(), "{ran:?}");

    let text = fs::read_to_string(log).unwrap();
    let mut counts = BTreeMap::new();
    let mut found = Vec::new();
    for line in text.lines() {
        let Some((name, rest)) = line.split_once('(') else { continue };
        let count: &mut usize = counts.entry(name.to_owned()).or_default();
        *count += 1;
        let begun = !found.is_empty() || rest.contains("session.keys") && name != "execve";
        if begun && !NOT_FILES.contains(&name) {
            found.push((name.to_owned(), *count));
        }
    }
    assert!(text.contains(TEMP) && found.len() > 20, "{text}");
    found
}

/// What has nothing to do with files, and does not fail or not survive failing.
const NOT_FILES: [&str; 7] =
    ["brk", "exit_group", "madvise", "mmap", "mremap", "munmap", "sigaltstack"];

fn inject(place: &Place, args: &[&str], (name, count): &Call, what: &str) -> Output {
    let inject = format!("inject={name}:{what}:when={count}");
    let trace = format!("trace={name}");
    strace(place, args, &["-o", "/dev/null", "-e", &trace, "-e", &inject])
}

fn strace(place: &Place, args: &[&str], options: &[&str]) -> Output {
    let mut command = Command::new("strace");
    command.args(options).arg(Path::new(BINARY)).args(args).current_dir(place.path());
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("strace: {error}: tests/run installs what tests need"));
    let refused = String::from_utf8_lossy(&output.stderr).contains("ptrace");
    assert!(!refused, "no right to trace; run tests/run: {output:?}");
    assert!(matches!(output.status.signal(), None | Some(9)), "{output:?}");
    output
}

fn states(ring: &KeyRing) -> Vec<KeyState> {
    ring.status(SystemTime::now()).iter().map(KeyStatus::state).collect()
}
