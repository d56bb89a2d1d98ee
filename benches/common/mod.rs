//! A race of contenders that take turns, and where its results are kept.
//!
//! What is told is the median, and the median of the ratios to the first contender within each
//! round. `ROUNDS=n` sets how many rounds.
#![allow(dead_code, unreachable_pub, reason = "each benchmark uses its own part")]

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{env, fs};

use serde::Serialize;

const ROUNDS: usize = 201;
/// How long a contender runs when it is its turn.
const TURN: Duration = Duration::from_micros(500);

pub struct Contender {
    pub name: &'static str,
    pub run: Box<dyn FnMut()>,
}

impl Contender {
    pub fn new<R>(name: &'static str, mut run: impl FnMut() -> R + 'static) -> Self {
        Self { name, run: Box::new(move || drop(black_box(run()))) }
    }
}

#[derive(Serialize)]
pub struct Row {
    pub operation: &'static str,
    pub contender: &'static str,
    pub nanoseconds: f64,
    pub to_first: f64,
}

pub fn race(operation: &'static str, contenders: &mut [Contender]) -> Vec<Row> {
    let rounds = rounds();
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

pub fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

/// Beside what cargo builds, so that it is found again and thrown away with it.
pub fn reports() -> PathBuf {
    let target = env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    Path::new(env!("CARGO_MANIFEST_DIR")).join(target).join("reports")
}

pub fn rounds() -> usize {
    env::var("ROUNDS").map_or(ROUNDS, |rounds| rounds.parse().unwrap())
}

/// Prints the rows and leaves them in a report.
pub fn tell(name: &str, rows: &[Row]) {
    for row in rows {
        let Row { operation, contender, nanoseconds, to_first } = row;
        println!("{operation:8} {contender:34} {nanoseconds:12.1} ns {to_first:7.2}");
    }
    save(name, rows);
}

/// Leaves a report.
pub fn save(name: &str, report: &(impl Serialize + ?Sized)) {
    fs::create_dir_all(reports()).unwrap();
    let path = reports().join(format!("{name}.json"));
    fs::write(path, serde_json::to_vec_pretty(report).unwrap()).unwrap();
}
