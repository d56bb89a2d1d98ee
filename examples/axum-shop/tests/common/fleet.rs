//! Several servers of one shop, each with a key file of its own and all with one revocation log, and
//! the operator who rotates.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]
#![allow(clippy::arithmetic_side_effects, reason = "helpers of tests")]
#![allow(clippy::indexing_slicing, reason = "helpers of tests")]

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sealed_session::{KeyRing, KeyState};

use super::command::operate;
use super::common::{CONFIG, KEYS, Server, configure, configured_command, directory};

/// What the servers are told about keys.
#[derive(Clone, Copy)]
pub struct Timing {
    pub poll_every: &'static str,
    pub activation_delay: &'static str,
}

/// Servers that follow one ring, which the operator brings to each of them.
pub struct Fleet {
    pub servers: Vec<Server>,
    pub operator: Operator,
}

impl Fleet {
    pub const SIZE: usize = 4;

    /// Starts the servers with a ring of one key.
    pub fn start(name: &str, timing: Timing) -> Self {
        Self::start_each(name, [timing; Self::SIZE])
    }

    /// Starts servers with settings of their own. Those of the first are the operator's as well.
    pub fn start_each(name: &str, timings: [Timing; Self::SIZE]) -> Self {
        let root = directory(name);
        let list = root.join("revocations.db");
        let operator = Operator::new(&root.join("operator"), &settings(timings[0], &list));
        let servers = timings.into_iter().zip(0..).map(|(timing, at)| {
            let place = root.join(format!("server-{at}"));
            configure(&place, &settings(timing, &list));
            put(&place, &operator.ring_text());
            Server::spawn(configured_command(&place), &place)
        });
        Self { servers: servers.collect(), operator }
    }

    pub fn addrs(&self) -> Vec<String> {
        self.servers.iter().map(|server| server.addr.clone()).collect()
    }

    /// Brings the operator's present ring to one server.
    pub fn deliver(&self, server: usize) {
        put(&self.servers[server].data, &self.operator.ring_text());
    }

    pub fn deliver_to_all(&self) {
        (0..Self::SIZE).for_each(|server| self.deliver(server));
    }

    /// Brings any text in place of the ring to one server.
    pub fn deliver_text(&self, server: usize, text: &[u8]) {
        put(&self.servers[server].data, text);
    }

    /// Waits until each server has loaded the operator's present ring.
    pub fn await_ring(&self) {
        (0..Self::SIZE).for_each(|server| self.await_ring_at(server));
    }

    pub fn await_ring_at(&self, server: usize) {
        self.servers[server].await_log(0, &self.operator.ring().fingerprint());
    }
}

/// Whoever keeps the ring: uses the command, on a file that no server reads.
pub struct Operator {
    place: PathBuf,
}

impl Operator {
    fn new(place: &Path, settings: &str) -> Self {
        configure(place, settings);
        put(place, KeyRing::generate().unwrap().expose_text().as_bytes());
        Self { place: place.to_owned() }
    }

    pub fn ring_text(&self) -> Vec<u8> {
        fs::read(self.place.join(KEYS)).unwrap()
    }

    pub fn ring(&self) -> KeyRing {
        String::from_utf8(self.ring_text()).unwrap().parse().unwrap()
    }

    /// The key that seals now.
    pub fn active(&self) -> String {
        let keys = self.ring().status(SystemTime::now());
        keys.iter().find(|key| key.state() == KeyState::Active).unwrap().id().to_string()
    }

    pub fn state(&self, id: &str) -> KeyState {
        let keys = self.ring().status(SystemTime::now());
        keys.iter().find(|key| key.id().to_string() == id).unwrap().state()
    }

    /// Adds a key to the ring; its id.
    pub fn rotate(&self) -> String {
        let before = self.ids();
        self.run(&["keys", "rotate"]);
        let added: Vec<_> = self.ids().into_iter().filter(|id| !before.contains(id)).collect();
        assert_eq!(added.len(), 1, "keys added: {added:?}");
        added.into_iter().next().unwrap()
    }

    /// Marks a key as leaked.
    pub fn revoke(&self, id: &str) {
        self.run(&["keys", "rotate", "--revoke", id, "--now"]);
        assert_eq!(self.state(id), KeyState::Revoked);
    }

    fn ids(&self) -> Vec<String> {
        let keys = self.ring().status(SystemTime::now());
        keys.iter().map(|key| key.id().to_string()).collect()
    }

    fn run(&self, arguments: &[&str]) {
        operate(arguments, &self.place.join(CONFIG));
    }
}

/// The shortest limits that a policy may have, so that a key ends two minutes after its successor
/// took over.
fn settings(Timing { poll_every, activation_delay }: Timing, list: &Path) -> String {
    let list = list.display();
    format!(
        r#"poll_every = "{poll_every}"
activation_delay = "{activation_delay}"
reload_lag = "5s"

[session.policy]
clock_skew = "0s"
browser = {{ absolute_timeout = "1h", idle_timeout = "2m" }}
remember = {{ absolute_timeout = "1h", idle_timeout = "2m" }}

[session.revocation]
backend = "sqlite"
path = '{list}'"#
    )
}

/// Puts a text in the place of the key file, whole or not at all.
fn put(place: &Path, text: &[u8]) {
    let new = place.join("session.keys.new");
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new).unwrap();
    file.write_all(text).unwrap();
    fs::rename(new, place.join(KEYS)).unwrap();
}
