//! The backends, and what goes wrong with them.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]

use std::fs::{self, OpenOptions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sealed_session::revocation::{PostgresLog, RedisLog, RevocationLog, SqliteLog};

use crate::folder::Folder;
use crate::postgres_server::Server;
use crate::redis_server::RedisServer;
use crate::sqlite_log::sql;

/// A backend that can fail in each of these ways.
pub trait Backend: Send + Sync {
    fn name(&self) -> &'static str;
    /// What [`open`] makes a log of, in any process.
    fn address(&self) -> String;
    fn port(&self) -> u16;
    /// How old a log must be before it is believed.
    fn settle(&self) -> Duration {
        Duration::from_secs(4)
    }
    /// Stops it at once.
    fn kill(&mut self);
    /// Starts it again, with what it kept.
    fn run(&mut self);
    /// Kills it, and starts it without its data.
    fn wipe(&mut self);
    /// Keeps a copy of its data.
    fn back_up(&mut self);
    /// Kills it, and starts it with the copy.
    fn fall_back(&mut self);
    /// It takes connections, if it has any, and does not answer.
    fn freeze(&self);
    fn thaw(&self);
    /// It takes no more facts.
    fn fill(&self);
    fn make_room(&self);
}

pub fn open(address: &str) -> Box<dyn RevocationLog> {
    let (kind, address) = address.split_once(' ').unwrap();
    match kind {
        "redis" => Box::new(RedisLog::new(address, "shop").unwrap()),
        "postgres" => Box::new(PostgresLog::new(address, "shop").unwrap()),
        _ => Box::new(SqliteLog::new(address)),
    }
}

/// How old a log must be, if it is not what the log says.
pub fn settle(address: &str) -> Option<Duration> {
    (!address.starts_with("sqlite")).then_some(Duration::from_secs(4))
}

pub struct Redis(RedisServer);

impl Redis {
    pub fn start() -> Self {
        Self(RedisServer::with(&["--appendonly yes", "--appendfsync everysec"]))
    }

    /// Deletes everything while it runs.
    pub fn flush(&self) {
        self.0.command::<()>("FLUSHALL");
    }

    fn files(&self) -> PathBuf {
        self.0.folder().at("appendonlydir")
    }
}

impl Backend for Redis {
    fn name(&self) -> &'static str {
        "redis"
    }

    fn address(&self) -> String {
        format!("redis {}", self.0.url())
    }

    fn port(&self) -> u16 {
        self.0.port()
    }

    fn kill(&mut self) {
        self.0.kill();
    }

    fn run(&mut self) {
        self.0.run();
    }

    fn wipe(&mut self) {
        self.kill();
        fs::remove_dir_all(self.files()).unwrap();
        self.run();
    }

    /// Nothing: what it falls back to is the beginning of its file.
    fn back_up(&mut self) {}

    fn fall_back(&mut self) {
        self.kill();
        let files = fs::read_dir(self.files()).unwrap().map(|entry| entry.unwrap().path());
        let is_last = |path: &PathBuf| path.to_str().unwrap().ends_with(".incr.aof");
        let last = files.into_iter().find(is_last).unwrap();
        let file = OpenOptions::new().write(true).open(last).unwrap();
        // In the middle of a command.
        file.set_len(file.metadata().unwrap().len().checked_sub(4_321).unwrap()).unwrap();
        self.run();
    }

    fn freeze(&self) {
        self.0.freeze();
    }

    fn thaw(&self) {
        self.0.thaw();
    }

    fn fill(&self) {
        self.0.command::<()>("CONFIG SET maxmemory 1");
    }

    fn make_room(&self) {
        self.0.command::<()>("CONFIG SET maxmemory 0");
    }
}

pub struct Postgres(Server);

impl Postgres {
    pub fn start() -> Self {
        Self(Server::start())
    }

    pub fn drop_tables(&self) {
        self.0.psql("drop table sealed_session_facts, sealed_session_lineage");
    }

    fn read_only(&self, on: &str) {
        self.0.psql(&format!("alter system set default_transaction_read_only = {on}"));
        self.0.psql("select pg_reload_conf()");
    }
}

impl Backend for Postgres {
    fn name(&self) -> &'static str {
        "postgres"
    }

    fn address(&self) -> String {
        format!("postgres {}", self.0.url("postgres"))
    }

    fn port(&self) -> u16 {
        self.0.port
    }

    fn kill(&mut self) {
        self.freeze();
        self.0.kill();
    }

    fn run(&mut self) {
        self.0.resume();
    }

    fn wipe(&mut self) {
        self.kill();
        self.0.initialize("");
        self.0.resume();
    }

    fn back_up(&mut self) {
        self.0.stop();
        self.0.back_up();
        self.0.resume();
    }

    fn fall_back(&mut self) {
        self.kill();
        self.0.restore();
        self.0.resume();
    }

    fn freeze(&self) {
        // Once more, for what was started while the first was under way.
        self.0.freeze();
        self.0.freeze();
    }

    fn thaw(&self) {
        self.0.thaw();
    }

    fn fill(&self) {
        self.read_only("on");
    }

    fn make_room(&self) {
        self.read_only("off");
    }
}

/// A file in a directory that can go as a whole, as that of a disk does that is unmounted.
pub struct Sqlite(Folder);

impl Sqlite {
    pub fn start() -> Self {
        let folder = Folder::new();
        folder.directory("disk");
        Self(folder)
    }

    pub fn path(&self) -> PathBuf {
        self.0.at("disk").join("log.db")
    }

    fn exchange(&self, from: &str, to: &str) {
        fs::rename(self.0.at(from), self.0.at(to)).unwrap();
    }
}

impl Backend for Sqlite {
    fn name(&self) -> &'static str {
        "sqlite"
    }

    fn address(&self) -> String {
        format!("sqlite {}", self.path().display())
    }

    fn port(&self) -> u16 {
        0
    }

    fn settle(&self) -> Duration {
        SqliteLog::new(Path::new("")).settle()
    }

    /// There is no server: its disk goes.
    fn kill(&mut self) {
        self.freeze();
    }

    fn run(&mut self) {
        self.thaw();
    }

    /// Deletes the files while they are in use.
    fn wipe(&mut self) {
        for file in ["log.db", "log.db-wal", "log.db-shm"] {
            // The last two are not always there.
            let gone = fs::remove_file(self.0.at("disk").join(file));
            assert!(gone.is_ok() || file != "log.db");
        }
    }

    fn back_up(&mut self) {
        let copy = self.0.directory("copy").join("log.db");
        sql(&self.path(), &format!("vacuum into '{}'", copy.display()));
        fs::set_permissions(copy, fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn fall_back(&mut self) {
        self.exchange("disk", "old");
        self.exchange("copy", "disk");
    }

    fn freeze(&self) {
        self.exchange("disk", "away");
    }

    fn thaw(&self) {
        self.exchange("away", "disk");
    }

    fn fill(&self) {
        panic!("that is done to a process");
    }

    fn make_room(&self) {
        panic!("that is done to a process");
    }
}
