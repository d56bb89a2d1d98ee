//! What the revocation list costs: the check of each request, a revocation, memory, and the start.
//!
//! `cargo bench --bench revocation` prints a table and leaves it in `target/reports/revocation.json`.
//! With the feature `sqlite` it measures that back end, too. Without `--bench` it checks that every
//! contender does its work on small lists, and times nothing; with `ROUNDS` below 100 lists are small.
#![allow(clippy::print_stdout, reason = "the table is what it is for")]
#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "a bench may panic")]
#![allow(clippy::indexing_slicing, clippy::cast_precision_loss, reason = "small known sizes")]

mod common;

use std::env;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::{Contender, median, race};
use sealed_session::revocation::{MemoryLog, RevocationLog};
use sealed_session::{
    Bearer, KeyRing, Map, RevocationList, SessionId, SessionManager, SignIn, Target,
};
use serde::Serialize;

fn main() {
    if let Ok(kind) = env::var(MEMORY) {
        println!("{}", memory(&kind));
        return;
    }
    let timed = env::args().any(|arg| arg == "--bench");
    let large = timed && common::rounds() >= 100;
    let (many, most) = if large { (100_000, 1_000_000) } else { (100, 1_000) };
    let mut contenders = checks(many, most);
    for contender in &mut contenders {
        (contender.run)();
    }
    if large {
        common::tell("revocation", &race("open", &mut contenders));
    }
    drop(contenders);

    let mut figures = Vec::new();
    if large {
        figures.push(Figure::new("bytes a fact, sessions", memory_of("sessions")));
        figures.push(Figure::new("bytes a fact, subjects", memory_of("subjects")));
    }
    figures.extend(inserts(most));
    figures.push(starts("start with all of it, memory", &MemoryLog::new().unwrap(), most));
    figures.push(bulk(
        "subjects revoked at once, seen elsewhere, memory",
        &MemoryLog::new().unwrap(),
        many,
    ));
    #[cfg(feature = "sqlite")]
    {
        let file = common::reports().join("bench-revocation.db");
        std::fs::create_dir_all(common::reports()).unwrap();
        for end in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{end}", file.display()));
        }
        let log = || Arc::new(sealed_session::revocation::SqliteLog::new(&file));
        figures.push(starts("start with all of it, sqlite", &log(), most));
        figures.push(bulk("subjects revoked at once, seen elsewhere, sqlite", &log(), many));
    }
    if large {
        for Figure { name, value } in &figures {
            println!("{name:52} {value:14.3}");
        }
        common::save("revocation-costs", &figures);
    }
}

#[derive(Serialize)]
struct Figure {
    name: &'static str,
    value: f64,
}

impl Figure {
    fn new(name: &'static str, value: f64) -> Self {
        Self { name, value }
    }
}

/// Opening a token of 295 bytes of data, beside lists of several sizes.
fn checks(many: usize, most: usize) -> Vec<Contender> {
    let open = |list: Option<RevocationList>| opening(&manager(list));
    let since = |entries: usize| {
        let sessions = filled(entries, |n| Target::subject(name(n))).1;
        let open = opening(&sessions);
        drop(sessions.revoke(Target::subject("mallory")).unwrap());
        open
    };
    let empty = || Some(RevocationList::in_process());
    let fresh = || Some(RevocationList::builder(MemoryLog::new().unwrap()).build().unwrap());
    vec![
        Contender::new("no list", open(None)),
        Contender::new("empty list in process", open(empty())),
        Contender::new("empty list that follows a log", open(fresh())),
        Contender::new("100,000 sessions revoked", open(Some(of_sessions(many)))),
        Contender::new("1,000,000 sessions revoked", open(Some(of_sessions(most)))),
        Contender::new("100,000 subjects revoked before", open(Some(of_subjects(many)))),
        Contender::new("1,000,000 subjects revoked before", open(Some(of_subjects(most)))),
        Contender::new("100,000 subjects revoked since", since(many)),
        Contender::new("1,000,000 subjects revoked since", since(most)),
    ]
}

/// What opens a session that is issued now: a list that was filled before has nothing to say of it,
/// one in which somebody is revoked since is looked through.
fn opening(sessions: &SessionManager) -> impl FnMut() + use<> {
    let bearer: Bearer<Map> = sessions.bearer();
    let data = Map::from_iter([("cart".to_owned(), "x".repeat(284).into())]);
    let token = bearer.issue(SignIn::new("alice").data(data)).unwrap();
    move || assert_eq!(bearer.open(&token).unwrap().subject(), "alice")
}

fn manager(list: Option<RevocationList>) -> SessionManager {
    let builder = SessionManager::builder("shop", KeyRing::for_tests().unwrap());
    let builder = match list {
        Some(list) => builder.revocations(list),
        None => builder,
    };
    builder.build().unwrap()
}

/// A list in this process that holds so many entries, beside the manager that put them there.
fn filled(
    entries: usize,
    target: impl Fn(usize) -> Target<'static>,
) -> (RevocationList, SessionManager) {
    let list = RevocationList::in_process().max_entries(2 * entries + 10_000);
    let sessions = SessionManager::builder("shop", KeyRing::for_tests().unwrap());
    let sessions = sessions.revocations(list.clone()).build().unwrap();
    let targets: Vec<Target<'_>> = (0..entries).map(target).collect();
    for some in targets.chunks(5_000) {
        drop(sessions.revoke_all(some).unwrap());
    }
    assert_eq!(list.entries(), entries);
    (list, sessions)
}

fn of_sessions(entries: usize) -> RevocationList {
    filled(entries, |n| Target::session(id(n))).0
}

fn of_subjects(entries: usize) -> RevocationList {
    filled(entries, |n| Target::subject(name(n))).0
}

fn name(n: usize) -> &'static str {
    format!("visitor-{n}").leak()
}

/// An id as random ones are: the list hashes by its first bytes.
fn id(n: usize) -> SessionId {
    let mut x = n as u64;
    let mut next = || {
        // SplitMix64 by Steele, Lea and Flood, 2014.
        x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)).to_be_bytes()
    };
    let bytes = [next(), next()].concat();
    SessionId::from_bytes(bytes.try_into().unwrap())
}

/// Set in a process of its own that measures memory and does nothing else.
const MEMORY: &str = "BENCH_MEMORY";

fn memory_of(kind: &str) -> f64 {
    let mut command = std::process::Command::new(env::current_exe().unwrap());
    let output = command.env(MEMORY, kind).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

/// Resident memory that a list of a million entries takes, by entry, in bytes.
fn memory(kind: &str) -> f64 {
    const ENTRIES: usize = 1_000_000;
    const STEP: usize = 20;
    let list = RevocationList::in_process().max_entries(2 * ENTRIES);
    let sessions = SessionManager::builder("shop", KeyRing::for_tests().unwrap());
    let sessions = sessions.revocations(list.clone()).build().unwrap();
    let before = resident();
    for step in 0..ENTRIES / STEP {
        let names: Vec<String> = (0..STEP).map(|n| format!("{step}-{n}")).collect();
        let target = |n: usize| match kind {
            "subjects" => Target::subject(&names[n]),
            _ => Target::session(id(step * STEP + n)),
        };
        let targets: Vec<Target<'_>> = (0..STEP).map(target).collect();
        drop(sessions.revoke_all(&targets).unwrap());
    }
    assert_eq!(list.entries(), ENTRIES);
    resident().saturating_sub(before) as f64 / ENTRIES as f64
}

/// Bytes of memory that this process has, as the kernel counts them.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|line| line.trim().split(' ').next()?.parse::<u64>().ok());
    kibibytes.unwrap_or(0) * 1024
}

/// One revocation after the other into a full list, while a thread opens sessions all the time.
fn inserts(entries: usize) -> Vec<Figure> {
    let (list, sessions) = filled(entries, |n| Target::session(id(n)));
    let bearer = sessions.bearer::<Map>();
    let token = bearer.issue("alice").unwrap();
    let (stop, longest) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let reader = {
        let (stop, longest) = (Arc::clone(&stop), Arc::clone(&longest));
        thread::spawn(move || {
            let mut waits = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let began = Instant::now();
                bearer.open(&token).unwrap();
                let nanoseconds = u64::try_from(began.elapsed().as_nanos()).unwrap();
                longest.fetch_max(nanoseconds, Ordering::Relaxed);
                waits.push(nanoseconds as f64);
            }
            waits
        })
    };
    let mut times = Vec::new();
    for n in 0..5_000 {
        let id = id(entries + n);
        let began = Instant::now();
        drop(sessions.revoke(Target::session(id)).unwrap());
        times.push(began.elapsed().as_nanos() as f64 / 1_000.0);
    }
    stop.store(true, Ordering::Relaxed);
    let waits = reader.join().unwrap();
    times.sort_by(f64::total_cmp);
    assert_eq!(list.entries(), entries + 5_000);
    vec![
        Figure::new("one more revocation, median, us", median(times.clone())),
        Figure::new("one more revocation, 99 %, us", times[times.len() * 99 / 100]),
        Figure::new("one more revocation, longest, us", *times.last().unwrap()),
        Figure::new("a request meanwhile, median, us", median(waits) / 1_000.0),
        Figure::new(
            "a request meanwhile, longest, us",
            longest.load(Ordering::Relaxed) as f64 / 1_000.0,
        ),
    ]
}

/// How long a new instance takes to read a log of so many facts, in seconds.
fn starts<L: RevocationLog + Clone>(name: &'static str, log: &L, entries: usize) -> Figure {
    let (list, sessions) = instance(log);
    let targets: Vec<Target<'_>> = (0..entries).map(|n| Target::session(id(n))).collect();
    let receipt = sessions.revoke_all(&targets).unwrap();
    until(|| list.status().unsaved == 0);
    drop(receipt);
    let began = Instant::now();
    let (other, _sessions) = instance(log);
    until(|| other.is_fresh());
    let seconds = began.elapsed().as_secs_f64();
    assert!(other.entries() >= entries, "and perhaps one about everyone");
    Figure::new(name, seconds)
}

/// How long it takes until an instance refuses the last of many subjects that another one revokes in
/// one call, in seconds.
fn bulk<L: RevocationLog + Clone>(name: &'static str, log: &L, entries: usize) -> Figure {
    let (_list, sessions) = instance(log);
    let (other, _others) = instance(log);
    until(|| other.is_fresh());
    let names: Vec<String> = (0..entries).map(|n| format!("visitor-{n}")).collect();
    let targets: Vec<Target<'_>> = names.iter().map(|name| Target::subject(name)).collect();
    let before = other.entries();
    let began = Instant::now();
    drop(sessions.revoke_all(&targets).unwrap());
    until(|| other.entries() >= before + entries);
    Figure::new(name, began.elapsed().as_secs_f64())
}

fn instance(log: &(impl RevocationLog + Clone)) -> (RevocationList, SessionManager) {
    let list = RevocationList::builder(log.clone()).max_entries(10_000_000).build().unwrap();
    let sessions = SessionManager::builder("shop", KeyRing::for_tests().unwrap());
    let sessions = sessions.revocations(list.clone()).build().unwrap();
    (list, sessions)
}

fn until(mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < Duration::from_secs(120), "not within two minutes");
        thread::sleep(Duration::from_millis(1));
    }
}
