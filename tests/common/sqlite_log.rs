//! Facts, and other processes that use the file of a log.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::time::{Duration, SystemTime};

use sealed_session::Error;
use sealed_session::revocation::{Revocation, RevocationLog as _, SqliteLog};

pub const NO_TIME: Duration = Duration::ZERO;
/// Longer than anything takes, so that only what never happens gets here.
pub const LONG: Duration = Duration::from_secs(60);

/// That the session with this number has ended, until a day from 2026 that is far away.
pub fn fact(number: u64) -> Revocation {
    fact_until(number, SystemTime::UNIX_EPOCH + Duration::from_secs(8_000_000_000))
}

pub fn fact_until(number: u64, until: SystemTime) -> Revocation {
    let mut bytes = vec![1];
    // In no order, as ids are.
    bytes.extend(number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    bytes.extend(number.to_be_bytes());
    bytes.extend(65_536_u32.to_be_bytes());
    let millis = until.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
    bytes.extend(&u64::try_from(millis).unwrap().to_be_bytes()[2..]);
    with_crc(bytes)
}

/// How long sessions live: a fact without an end.
pub fn forever() -> Revocation {
    with_crc(vec![4, 0, 0, 0, 0, 1, 0])
}

fn with_crc(mut bytes: Vec<u8>) -> Revocation {
    let mut crc = !0_u32;
    for byte in &bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    bytes.extend((!crc).to_be_bytes());
    Revocation::from_bytes(&bytes).unwrap()
}

pub const BATCH: usize = 200;

pub fn batch(number: u64) -> Vec<Revocation> {
    let size = u64::try_from(BATCH).unwrap();
    (0..size).map(|at| fact(number * size + at)).collect()
}

pub fn all(log: &SqliteLog) -> Vec<Revocation> {
    let mut facts = Vec::new();
    let mut page = log.read(None, NO_TIME).unwrap();
    facts.extend_from_slice(page.facts());
    while page.has_more() {
        page = log.read(Some(page.cursor()), NO_TIME).unwrap();
        facts.extend_from_slice(page.facts());
    }
    facts
}

// Other processes.

/// What this file does when a test has started it as another process.
#[test]
fn as_another_process() {
    let Ok(role) = std::env::var("LOG_SQLITE_ROLE") else { return };
    let log = SqliteLog::new(std::env::var_os("LOG_SQLITE_PATH").unwrap());
    let number: u64 = std::env::var("LOG_SQLITE_NUMBER").unwrap().parse().unwrap();
    let tell = |line: &str| writeln!(std::io::stdout(), "\n: {line}").unwrap();
    let add = |number: u64| -> Result<(), Error> {
        log.append(&batch(number))?;
        tell(&format!("batch {number}"));
        Ok(())
    };
    match &*role {
        "add" => match log.append(&[fact(number)]) {
            Ok(()) => tell("added"),
            Err(error) => tell(&format!("{error:?}")),
        },
        "batches" => (number..number + 100_000).for_each(|number| add(number).unwrap()),
        "one batch" => {
            add(number).unwrap();
            drop(log);
            tell("end");
        }
        "until refused" => {
            let error = (number..1_000).find_map(|number| add(number).err()).unwrap();
            tell(&format!("refused {:?} {error:?}", error.kind()));
            tell(&format!("still {}", all(&log).len()));
        }
        "try" => match log.append(&[fact(number)]) {
            Ok(()) => tell("added"),
            Err(error) => tell(&format!("refused {error}")),
        },
        role => panic!("no role {role}"),
    }
}

pub struct Process {
    child: Child,
    output: Option<BufReader<std::process::ChildStdout>>,
}

pub fn child(role: &str, path: &Path, number: u64) -> Process {
    start_child(Command::new(std::env::current_exe().unwrap()), role, path, number)
}

fn start_child(mut command: Command, role: &str, path: &Path, number: u64) -> Process {
    command.args(["--exact", "sqlite_log::as_another_process", "--nocapture", "--test-threads=1"]);
    command.env("LOG_SQLITE_ROLE", role).env("LOG_SQLITE_PATH", path);
    command.env("LOG_SQLITE_NUMBER", number.to_string()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| {
        panic!("{}: {error}; tests/run installs it", command.get_program().display())
    });
    let output = child.stdout.take().map(BufReader::new);
    Process { child, output }
}

pub fn run_child(command: Command, role: &str, path: &Path, number: u64) -> Vec<String> {
    start_child(command, role, path, number).finish()
}

impl Process {
    /// The lines that it tells.
    pub fn lines(&mut self) -> impl Iterator<Item = String> {
        let lines = self.output.as_mut().unwrap().lines().map_while(Result::ok);
        lines.filter_map(|line| Some(line.strip_prefix(": ")?.to_owned()))
    }

    pub fn finish(mut self) -> Vec<String> {
        self.lines().collect()
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What python3's SQLite says to a script; the last value, if there is one.
pub fn sql(path: &Path, script: &str) -> String {
    let python = "
import sqlite3, sys
base = sqlite3.connect(sys.argv[1], timeout=30, isolation_level=None)
last = None
for statement in sys.stdin.read().split(';'):
    last = base.execute(statement).fetchone()
print(last[0] if last else '')
base.close()";
    let mut python = python3(python, path);
    python.stdin.take().unwrap().write_all(script.trim_end_matches(';').as_bytes()).unwrap();
    let Output { status, stdout, .. } = python.wait_with_output().unwrap();
    assert!(status.success(), "{script}");
    String::from_utf8(stdout).unwrap().trim().to_owned()
}

fn python3(script: &str, path: &Path) -> Child {
    let mut python = Command::new("python3");
    python.args(["-c", script]).arg(path).stdin(Stdio::piped()).stdout(Stdio::piped());
    python.spawn().unwrap_or_else(|error| panic!("python3: {error}; tests/run installs it"))
}

/// The lock of a writer, until it is dropped.
pub struct Locked {
    python: Child,
    _until: ChildStdin,
}

impl Locked {
    pub fn by_another_process(path: &Path) -> Self {
        let python = "
import sqlite3, sys
base = sqlite3.connect(sys.argv[1], timeout=30, isolation_level=None)
base.execute('begin immediate')
print('locked', flush=True)
sys.stdin.read()";
        let mut python = python3(python, path);
        let mut line = String::new();
        BufReader::new(python.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "locked\n");
        let until = python.stdin.take().unwrap();
        Self { python, _until: until }
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        let _ = self.python.kill();
        let _ = self.python.wait();
    }
}

/// As SQL writes bytes.
pub fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|digit| char::from_digit(u32::from(digit), 16).unwrap())
        .collect()
}
