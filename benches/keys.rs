//! What the key ring costs: reading one of 16 keys, and following its source while requests run.
//!
//! `cargo bench --bench keys` prints a table and leaves it in `target/reports/keys.json`. Without
//! `--bench` it checks that every contender does its work, and times nothing.
#![allow(clippy::print_stdout, reason = "the table is what it is for")]
#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "a bench may panic")]
#![allow(clippy::indexing_slicing, reason = "small known sizes")]

mod common;

use std::fmt::Write as _;
use std::hint::black_box;
use std::sync::Arc;
use std::time::SystemTime;
use std::{env, fs};

use arc_swap::ArcSwap;
use sealed_session::{
    Error, FileKeys, KeyRing, Keys, Map, RevocationList, SessionManager, Zeroizing,
};

use common::{Contender, race, reports};

fn main() {
    let timed = env::args().any(|arg| arg == "--bench");
    let mut rows = Vec::new();
    for (operation, mut contenders) in [load(), swap(), open()] {
        for contender in &mut contenders {
            (contender.run)();
        }
        if timed {
            rows.extend(race(operation, &mut contenders));
        }
    }
    if timed {
        common::tell("keys", &rows);
    }
}

/// Reading, checking and deriving a ring of 16 keys: from text, and from its file, with the rights
/// of file and directory, as the thread that follows it does.
fn load() -> (&'static str, Vec<Contender>) {
    let text = text_of_16();
    let directory = reports();
    fs::create_dir_all(&directory).unwrap();
    let path = directory.join("bench.keys");
    fs::write(&path, &*text).unwrap();
    let keys = KeyRing::watch(FileKeys::new(path)).unwrap();
    assert_eq!(keys.ring().status(SystemTime::now()).len(), 16);
    let contenders = vec![
        Contender::new("text", move || text.parse::<KeyRing>().unwrap()),
        Contender::new("file", move || keys.reload_now().unwrap()),
    ];
    ("load", contenders)
}

/// What a request pays so that the ring can be exchanged under it.
fn swap() -> (&'static str, Vec<Contender>) {
    const TIMES: usize = 1_000;
    let plain = Arc::new(KeyRing::for_tests().unwrap());
    let swapped = ArcSwap::new(Arc::clone(&plain));
    let contenders = vec![
        Contender::new("plain pointer, 1000 times", move || {
            for _ in 0..TIMES {
                black_box(&*plain);
            }
        }),
        Contender::new("exchangeable, 1000 times", move || {
            for _ in 0..TIMES {
                black_box(swapped.load());
            }
        }),
    ];
    ("swap", contenders)
}

/// A request with a session, beside one whose ring is followed.
fn open() -> (&'static str, Vec<Contender>) {
    let text = KeyRing::for_tests().unwrap().expose_text();
    let fixed: KeyRing = text.parse().unwrap();
    let watched = KeyRing::watch(move || Ok::<_, Error>(Zeroizing::new(text.to_string()))).unwrap();
    let request = |keys: Keys| {
        let builder = SessionManager::builder("shop", keys);
        let sessions = builder.revocations(RevocationList::in_process()).build().unwrap();
        let cookie = sessions.cookie_for::<Map>("alice").unwrap();
        move || {
            let session = sessions.open::<Map>(Some(&cookie)).unwrap();
            assert!(session.subject().is_some());
        }
    };
    let contenders = vec![
        Contender::new("fixed ring", request(fixed.into())),
        Contender::new("watched ring", request(watched.into())),
    ];
    ("open", contenders)
}

fn text_of_16() -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(4096));
    for day in 1..=16 {
        let key = KeyRing::generate().unwrap().expose_text();
        let key = key.lines().nth(1).unwrap();
        writeln!(text, "{key} seal_from=2020-01-{day:02}T00:00:00Z").unwrap();
    }
    text
}
