//! A Postgres server of a test's own, on a free port, with its data in a temporary directory; and
//! facts to keep in it.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]
#![allow(
    clippy::arithmetic_side_effects,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests"
)]

use std::collections::HashSet;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use sealed_session::revocation::{Cursor, PostgresLog, Revocation, RevocationLog};

use super::folder::Folder;

pub struct Server {
    folder: Folder,
    pub port: u16,
}

/// The server refuses to run as root.
fn command(program: &str) -> Command {
    let as_root = Command::new("id").arg("-u").output().unwrap().stdout == b"0\n";
    let program = bin().join(program);
    if !as_root {
        return Command::new(program);
    }
    let mut command = Command::new("runuser");
    command.args(["-u", "postgres", "--"]).arg(program);
    command
}

/// The newest installed version's programs.
fn bin() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut versions: Vec<u32> =
        versions.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    versions.sort_unstable();
    let Some(newest) = versions.last() else { panic!("no PostgreSQL here: tests/run installs it") };
    PathBuf::from(format!("/usr/lib/postgresql/{newest}/bin"))
}

fn run(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&stderr);
    assert!(status.success(), "{command:?}: {stderr}");
    String::from_utf8(stdout).unwrap()
}

impl Server {
    /// A new server with a superuser `postgres` that needs no password on loopback.
    pub fn start() -> Self {
        Self::start_with("")
    }

    /// The same, with more lines of configuration.
    pub fn start_with(configuration: &str) -> Self {
        let server = Self::empty();
        server.initialize(configuration);
        server.resume();
        server
    }

    /// Makes the data anew, with nothing in it, while the server does not run.
    pub fn initialize(&self, configuration: &str) {
        let data = self.data();
        // The first time there is none.
        let _ = fs::remove_dir_all(&data);
        run(command("initdb").arg("--no-sync").arg("-A").arg("trust").arg("-D").arg(&data));
        let base = "shared_buffers = 32MB\nmax_connections = 60\nlog_min_messages = fatal\n";
        self.configure("postgresql.conf", &format!("{base}{configuration}"));
    }

    /// A read-only replica of this one.
    pub fn replica(&self) -> Self {
        let replica = Self::empty();
        let mut copy = command("pg_basebackup");
        copy.args(["-h", "127.0.0.1", "-U", "postgres", "-c", "fast", "-R", "-p"]);
        run(copy.arg(self.port.to_string()).arg("-D").arg(replica.data()));
        replica.resume();
        replica
    }

    fn empty() -> Self {
        let folder = Folder::new();
        folder.mode(0o777, "");
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Self { folder, port }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    fn data(&self) -> PathBuf {
        self.folder.at("data")
    }

    /// Adds lines to a file of configuration, read at the next start.
    pub fn configure(&self, file: &str, lines: &str) {
        let path = self.data().join(file);
        let before = fs::read_to_string(&path).unwrap();
        fs::write(path, format!("{before}\n{lines}\n")).unwrap();
    }

    /// Puts lines before those of the file that says who may connect how, and has it read.
    pub fn admit(&self, lines: &str) {
        let path = self.data().join("pg_hba.conf");
        let before = fs::read_to_string(&path).unwrap();
        fs::write(path, format!("{lines}\n{before}")).unwrap();
        self.psql("select pg_reload_conf()");
    }

    /// A file that the server may read and nobody else.
    pub fn install(&self, from: &Path, name: &str) {
        let to = self.data().join(name);
        fs::copy(from, &to).unwrap();
        run(Command::new("chown").arg("--reference").arg(self.data()).arg(&to));
        run(Command::new("chmod").arg("600").arg(&to));
    }

    pub fn resume(&self) {
        let port = self.port;
        let options =
            format!("-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories=''");
        let log = self.path().join("log");
        let mut start = command("pg_ctl");
        start.arg("-D").arg(self.data()).arg("-l").arg(&log).args(["-w", "-t", "60", "-o"]);
        // It would keep a pipe open for as long as it runs.
        start.arg(&options).arg("start").stdout(Stdio::null()).stderr(Stdio::null());
        let status = start.status().unwrap();
        assert!(status.success(), "{}", fs::read_to_string(log).unwrap_or_default());
    }

    pub fn stop(&self) {
        run(command("pg_ctl").arg("-D").arg(self.data()).args(["-w", "-m", "fast", "stop"]));
    }

    /// Every process of the server dies at once.
    pub fn kill(&self) {
        let processes = self.processes();
        signal("KILL", &processes);
        let gone = || processes.iter().all(|pid| !Path::new(&format!("/proc/{pid}/stat")).exists());
        until("the server is gone", gone);
    }

    /// Every process stops where it is: connections stay open, and nobody answers.
    pub fn freeze(&self) {
        signal("STOP", &self.processes());
    }

    pub fn thaw(&self) {
        signal("CONT", &self.processes());
    }

    /// The postmaster, which comes first, and what it started.
    fn processes(&self) -> Vec<String> {
        let Ok(file) = fs::read_to_string(self.data().join("postmaster.pid")) else {
            return Vec::new();
        };
        let postmaster = file.lines().next().unwrap().to_owned();
        let children = Command::new("pgrep").arg("-P").arg(&postmaster).output().unwrap().stdout;
        let children = String::from_utf8(children).unwrap();
        [postmaster].into_iter().chain(children.lines().map(str::to_owned)).collect()
    }

    /// Keeps the data as it is now, while the server does not run.
    pub fn back_up(&self) {
        run(Command::new("cp").arg("-a").arg(self.data()).arg(self.path().join("backup")));
    }

    pub fn restore(&self) {
        fs::remove_dir_all(self.data()).unwrap();
        run(Command::new("cp").arg("-a").arg(self.path().join("backup")).arg(self.data()));
    }

    /// The URL for a user, with a password or without: `alice` or `alice:secret`.
    pub fn url(&self, user: &str) -> String {
        format!("postgres://{user}@127.0.0.1:{}/postgres?sslmode=disable", self.port)
    }

    /// Runs SQL as superuser and gives what it prints.
    pub fn psql(&self, sql: &str) -> String {
        run(&mut self.client("psql", sql)).trim_end().to_owned()
    }

    /// Whether SQL succeeds, and what it says if not.
    pub fn try_psql(&self, sql: &str) -> Result<(), String> {
        let output = self.client("psql", sql).output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        if output.status.success() { Ok(()) } else { Err(error) }
    }

    fn client(&self, program: &str, sql: &str) -> Command {
        let mut client = Command::new(bin().join(program));
        let url = format!("postgres://postgres@127.0.0.1:{}/postgres", self.port);
        client.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql]).arg(url);
        client
    }

    /// A `psql` that reads what it is to do from its standard input.
    pub fn open_psql(&self) -> std::process::Child {
        let mut client = Command::new(bin().join("psql"));
        let url = format!("postgres://postgres@127.0.0.1:{}/postgres", self.port);
        client.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"]).arg(url);
        client.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        signal("KILL", &self.processes());
    }
}

fn signal(name: &str, pids: &[String]) {
    // Some may have ended by themselves.
    let kill =
        Command::new("kill").arg(format!("-{name}")).args(pids).stderr(Stdio::null()).status();
    kill.unwrap();
}

/// Waits until something holds, for a minute at most.
pub fn until(what: &str, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(60), "never: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

pub const NOW: Duration = Duration::ZERO;
pub const SECOND: Duration = Duration::from_secs(1);
pub const DAY: Duration = Duration::from_secs(86_400);

pub fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

pub fn decode(body: &[u8]) -> Revocation {
    Revocation::from_bytes(&[body, &crc32(body).to_be_bytes()].concat()).unwrap()
}

pub fn millis(at: SystemTime) -> u64 {
    at.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis().try_into().unwrap()
}

/// The end of one session; numbers give ids in no order.
pub fn fact_until(number: u64, until: SystemTime) -> Revocation {
    let mut body = vec![1];
    body.extend(number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes());
    body.extend([1; 8]);
    body.extend(65_536_u32.to_be_bytes());
    body.extend(millis(until).to_be_bytes().iter().skip(2));
    decode(&body)
}

pub fn fact(number: u64) -> Revocation {
    // The same bytes at every call.
    fact_until(number, SystemTime::UNIX_EPOCH + Duration::from_secs(4_000_000_000))
}

/// How long sessions live.
pub fn longest(lifetime: Duration) -> Revocation {
    let millis: u64 = lifetime.as_millis().try_into().unwrap();
    decode(&[&[4], &millis.to_be_bytes()[2..]].concat())
}

pub fn log(server: &Server) -> PostgresLog {
    PostgresLog::new(&server.url("postgres"), "sessions").unwrap()
}

/// Everything from a place on, at once, and the place after it.
pub fn all(log: &PostgresLog, after: Option<&Cursor>) -> (Vec<Revocation>, Cursor) {
    let mut page = log.read(after, NOW).unwrap();
    let mut facts = page.facts().to_vec();
    while page.has_more() {
        page = log.read(Some(page.cursor()), NOW).unwrap();
        facts.extend(page.facts());
    }
    (facts, page.cursor().clone())
}

pub fn set(facts: &[Revocation]) -> HashSet<Revocation> {
    facts.iter().copied().collect()
}
