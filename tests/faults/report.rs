//! What a fault did, printed and kept.
#![allow(clippy::print_stdout, reason = "the table is what it is for")]

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::{env, fs};

use serde::Serialize;

/// Times are from the beginning of the fault to the first refusal, and from its end to the moment when
/// every instance answers.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) fault: &'static str,
    pub(crate) backend: &'static str,
    pub(crate) first_refusal_after_ms: Option<u128>,
    pub(crate) clear_again_after_ms: Option<u128>,
    pub(crate) revoked: usize,
    pub(crate) lost: usize,
    pub(crate) signed_out_wrongly: usize,
}

static ROWS: Mutex<Vec<Row>> = Mutex::new(Vec::new());

/// Beside what cargo builds, as the reports of the benchmarks.
fn reports() -> PathBuf {
    let target = env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    Path::new(env!("CARGO_MANIFEST_DIR")).join(target).join("reports")
}

/// Keeps a row with those before it, and prints it.
pub(crate) fn keep(row: Row) {
    let mut rows = ROWS.lock().unwrap();
    let shown = |millis: Option<u128>| millis.map_or_else(|| "-".to_owned(), |it| it.to_string());
    let [refusal, clear] = [row.first_refusal_after_ms, row.clear_again_after_ms].map(shown);
    let Row { fault, backend, revoked, lost, signed_out_wrongly, .. } = &row;
    println!(
        "{fault:38} {backend:9} first refusal {refusal:>6} ms  clear {clear:>6} ms  revoked {revoked:5}  \
         lost {lost}  signed out wrongly {signed_out_wrongly}"
    );
    rows.push(row);
    rows.sort_by_key(|row| (row.fault, row.backend));
    fs::create_dir_all(reports()).unwrap();
    let path = reports().join("faults.json");
    fs::write(path, serde_json::to_vec_pretty(&*rows).unwrap()).unwrap();
}
