//! What the key ring costs: reading one of 16 keys, and following its source while requests run.
//!
//! `cargo bench --bench keys` prints a table and leaves it in `target/reports/keys.json`. Contenders
//! take turns in every round; what is told is the median, and the median of the ratios to the first
//! contender within each round. `ROUNDS=n` sets how many rounds. Without `--bench` it checks that
//! every contender does its work, and times nothing.
#![allow(clippy::print_stdout, reason = "the table is what it is for")]
#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "a bench may panic")]
#![allow(clippy::indexing_slicing, reason = "small known sizes")]

use std::fmt::Write as _;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use std::{env, fs};

use arc_swap::ArcSwap;
use sealed_session::{
    Error, FileKeys, KeyRing, Keys, Map, RevocationList, SessionManager, Zeroizing,
};
use serde::Serialize;

const ROUNDS: usize = 201;
/// How long a contender runs when it is its turn.
const TURN: Duration = Duration::from_micros(500);

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
        for row in &rows {
            let Row { operation, contender, nanoseconds, to_first } = row;
            println!("{operation:5} {contender:26} {nanoseconds:10.1} ns {to_first:7.2}");
        }
        let reports = reports();
        fs::create_dir_all(&reports).unwrap();
        fs::write(reports.join("keys.json"), serde_json::to_vec_pretty(&rows).unwrap()).unwrap();
    }
}

struct Contender {
    name: &'static str,
    run: Box<dyn FnMut()>,
}

impl Contender {
    fn new<R>(name: &'static str, mut run: impl FnMut() -> R + 'static) -> Self {
        Self { name, run: Box::new(move || drop(black_box(run()))) }
    }
}

#[derive(Serialize)]
struct Row {
    operation: &'static str,
    contender: &'static str,
    nanoseconds: f64,
    to_first: f64,
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

fn race(operation: &'static str, contenders: &mut [Contender]) -> Vec<Row> {
    let rounds = env::var("ROUNDS").map_or(ROUNDS, |rounds| rounds.parse().unwrap());
    let mut times = vec![Vec::new(); contenders.len()];
    for _ in 0..rounds {
        for (contender, times) in contenders.iter_mut().zip(&mut times) {
            let (began, mut runs) = (Instant::now(), 0.0);
            while began.elapsed() < TURN {
                (contender.run)();
                runs += 1.0;
            }
            times.push(began.elapsed().as_secs_f64() * 1e9 / runs);
        }
    }
    let row = |(contender, own): (&Contender, &Vec<f64>)| Row {
        operation,
        contender: contender.name,
        nanoseconds: median(own.clone()),
        to_first: median(own.iter().zip(&times[0]).map(|(own, first)| own / first).collect()),
    };
    contenders.iter().zip(&times).map(row).collect()
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

/// Beside what cargo builds, so that it is found again and thrown away with it.
fn reports() -> std::path::PathBuf {
    let target = env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    Path::new(env!("CARGO_MANIFEST_DIR")).join(target).join("reports")
}
