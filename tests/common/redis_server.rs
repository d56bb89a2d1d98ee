//! Redis servers of a test's own, a proxy in front of them, and facts to keep there.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "helpers of tests"
)]

use std::collections::HashSet;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use sealed_session::revocation::{Page, RedisLog, Revocation, RevocationLog as _};
use sealed_session::{Error, ErrorKind};

use crate::folder::Folder;

pub const DAY: Duration = Duration::from_secs(86_400);
pub const HOUR: Duration = Duration::from_secs(3_600);
pub const NOW: Duration = Duration::ZERO;
pub const LONG: Duration = Duration::from_secs(20);

/// A server with a port and a directory of its own, which ends when the test does.
pub struct RedisServer {
    folder: Folder,
    port: u16,
    options: Vec<String>,
    child: Option<Child>,
}

impl RedisServer {
    /// Without persistence.
    pub fn start() -> Self {
        Self::with(&["--appendonly no"])
    }

    /// With these options, each `--name value`.
    pub fn with(options: &[&str]) -> Self {
        let mut server = Self::stopped(options);
        server.run();
        server
    }

    /// Not yet running.
    pub fn stopped(options: &[&str]) -> Self {
        let options = options.iter().flat_map(|option| option.split(' ')).map(str::to_owned);
        Self { folder: Folder::new(), port: free_port(), options: options.collect(), child: None }
    }

    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// A connection of the test's own.
    pub fn connection(&self) -> redis::Connection {
        redis::Client::open(self.url()).unwrap().get_connection().unwrap()
    }

    /// Sends one command, with its arguments between spaces.
    #[track_caller]
    pub fn command<T: redis::FromRedisValue>(&self, command: &str) -> T {
        let mut words = command.split_whitespace();
        let mut sent = redis::cmd(words.next().unwrap());
        words.for_each(|word| {
            sent.arg(word);
        });
        sent.query(&mut self.connection()).unwrap_or_else(|error| panic!("{command}: {error}"))
    }

    /// A line of `INFO`.
    pub fn info(&self, name: &str) -> String {
        let info: String = self.command("INFO");
        let value = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value.unwrap_or_default().to_owned()
    }

    /// Starts it (again), with the data that it kept, and waits until it listens.
    pub fn run(&mut self) {
        let child = Command::new("redis-server")
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", ""])
            .args(["--dir", self.folder.path().to_str().unwrap(), "--logfile", "log"])
            .args(&self.options)
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is missing: tests/run installs it");
        self.child = Some(child);
        eventually("the server listens", || {
            let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).ok()?;
            connection.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
            connection.write_all(b"PING\r\n").ok()?;
            let mut answer = [0; 7];
            connection.read_exact(&mut answer).ok()?;
            // A password may be asked for: it listens all the same.
            (answer == *b"+PONG\r\n" || answer.starts_with(b"-NOAUTH")).then_some(())
        });
    }

    /// Starts it and waits only until something accepts: with TLS it says nothing in plain text.
    pub fn run_tls(&mut self) {
        let child = Command::new("redis-server")
            .args(["--port", "0", "--tls-port", &self.port.to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--dir", self.folder.path().to_str().unwrap(), "--logfile", "log"])
            .args(&self.options)
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is missing: tests/run installs it");
        self.child = Some(child);
        eventually("the server accepts", || {
            TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).ok()
        });
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Stops it as an operator does who wants to look at it: connections stay open, nothing answers.
    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Passes connections on to a server that can be exchanged.
pub struct Proxy {
    port: u16,
    target: Arc<AtomicU16>,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Proxy {
    pub fn to(server: &RedisServer) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let target = Arc::new(AtomicU16::new(server.port()));
        let open = Arc::new(Mutex::new(Vec::new()));
        let (to, kept) = (Arc::clone(&target), Arc::clone(&open));
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let port = to.load(Ordering::SeqCst);
                let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else { continue };
                let ends = [&client, &client, &server, &server].map(|end| end.try_clone().unwrap());
                let [from_client, to_client, from_server, to_server] = ends;
                kept.lock().unwrap().extend([client, server]);
                for (mut from, mut to) in [(from_client, to_server), (from_server, to_client)] {
                    thread::spawn(move || {
                        let _ = io::copy(&mut from, &mut to);
                        let _ = to.shutdown(Shutdown::Both);
                    });
                }
            }
        });
        Self { port, target, open }
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Cuts all connections; new ones go to `server`.
    pub fn switch(&self, server: &RedisServer) {
        self.target.store(server.port(), Ordering::SeqCst);
        for end in self.open.lock().unwrap().drain(..) {
            let _ = end.shutdown(Shutdown::Both);
        }
    }
}

/// Accepts connections and sends `drip` again and again, whatever it is told.
pub fn dripping(drip: &'static [u8]) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for mut client in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                while client.write_all(drip).is_ok() {
                    thread::sleep(Duration::from_millis(100));
                }
            });
        }
    });
    port
}

/// Asks until there is an answer, for half a minute at most.
#[track_caller]
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "not within 30 s: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

pub fn log(server: &RedisServer) -> RedisLog {
    RedisLog::new(&server.url(), "shop").unwrap()
}

/// All facts of the log.
#[track_caller]
pub fn whole(log: &RedisLog) -> HashSet<Revocation> {
    let mut page = log.read(None, NOW).unwrap();
    let mut all = set(&page);
    while page.has_more() {
        page = log.read(Some(page.cursor()), NOW).unwrap();
        all.extend(set(&page));
    }
    all
}

pub fn set(page: &Page) -> HashSet<Revocation> {
    page.facts().iter().copied().collect()
}

/// Until a reader of this server waits.
pub fn blocked(server: &RedisServer) {
    eventually("a reader waits", || (server.info("blocked_clients") == "1").then_some(()));
}

/// Makes one server a replica of the other, until it has all.
pub fn follow(replica: &RedisServer, primary: &RedisServer) {
    replica.command::<()>(&format!("REPLICAOF 127.0.0.1 {}", primary.port()));
    eventually("the replica is in step", || {
        let offset = primary.info("master_repl_offset");
        (replica.info("master_link_status") == "up" && replica.info("slave_repl_offset") == offset)
            .then_some(())
    });
}

#[track_caller]
pub fn assert_error(error: &Error, kind: ErrorKind, text: &str) {
    let shown = format!("{error} {error:?}");
    assert!(error.kind() == kind && shown.contains(text), "{shown}");
}

/// The end of one session.
pub fn session(number: usize) -> Revocation {
    let mut bytes = vec![1];
    bytes.extend((number as u128 + 1).to_be_bytes());
    bytes.extend(65_536_u32.to_be_bytes());
    bytes.extend(&4_000_000_000_000_u64.to_be_bytes()[2..]);
    sealed(bytes)
}

/// Adds a fact as if it were another time.
pub fn entry(server: &RedisServer, id: &str, fact: Revocation) {
    let mut add = redis::cmd("XADD");
    add.arg("{sealed-session:shop}:log").arg(id).arg("f").arg(fact.to_bytes());
    add.exec(&mut server.connection()).unwrap();
}

/// How long sessions live.
pub fn longest(lifetime: Duration) -> Revocation {
    let mut bytes = vec![4];
    bytes.extend(&u64::try_from(lifetime.as_millis()).unwrap().to_be_bytes()[2..]);
    sealed(bytes)
}

pub fn sealed(mut bytes: Vec<u8>) -> Revocation {
    let mut crc = !0_u32;
    for byte in &bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
        }
    }
    bytes.extend((!crc).to_be_bytes());
    Revocation::from_bytes(&bytes).unwrap()
}
