//! How fast a revocation reaches a fleet: four processes on one backend, real servers on loopback.
//!
//! `cargo bench --bench fleet --features redis,postgres` starts a Redis and a PostgreSQL of its own on
//! spare ports, revokes 1,000 sessions one after the other on one of four processes, and notes when
//! each of the others refuses them. Then it measures what a list costs on these backends: the start
//! with a million facts, and 100,000 subjects revoked in one call. It prints a table and leaves it in
//! `target/reports/fleet-revocation.json`. Without `--bench`, or with `ROUNDS` below 100, it does all of
//! it on a small scale.
#![allow(clippy::print_stdout, reason = "the table is what it is for")]
#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "a bench may panic")]
#![allow(clippy::indexing_slicing, clippy::panic, reason = "a bench may panic")]

#[cfg(all(feature = "postgres", feature = "redis"))]
mod common;
#[cfg(all(feature = "postgres", feature = "redis"))]
#[path = "../tests/common/folder.rs"]
mod folder;
#[cfg(all(feature = "postgres", feature = "redis"))]
#[path = "../tests/common/postgres_server.rs"]
mod postgres_server;
#[cfg(all(feature = "postgres", feature = "redis"))]
#[path = "../tests/common/redis_server.rs"]
mod redis_server;

#[cfg(not(all(feature = "postgres", feature = "redis")))]
fn main() {
    println!("fleet: needs the features redis and postgres");
}

#[cfg(all(feature = "postgres", feature = "redis"))]
fn main() {
    fleet::main();
}

#[cfg(all(feature = "postgres", feature = "redis"))]
mod fleet {
    use std::env;
    use std::io::{self, BufRead as _, BufReader, Write as _};
    use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
    use std::thread;
    use std::time::{Duration, Instant, SystemTime};

    use sealed_session::revocation::{PostgresLog, RedisLog, RevocationLog, WhenMissing};
    use sealed_session::{KeyRing, Map, RevocationList, SessionId, SessionManager, Target};
    use serde::Serialize;

    use crate::common;
    use crate::postgres_server::Server;
    use crate::redis_server::RedisServer;

    pub(crate) fn main() {
        if let Ok(url) = env::var(URL) {
            return instance(&url);
        }
        let timed = env::args().any(|arg| arg == "--bench");
        let large = timed && common::rounds() >= 100;
        let (rounds, many, most) =
            if large { (1_000, 100_000, 1_000_000) } else { (5, 100, 1_000) };
        let redis = RedisServer::with(&["--appendonly", "yes"]);
        let postgres = Server::start();
        let urls = [("redis", redis.url()), ("postgres", postgres.url("postgres"))];
        let mut figures = Vec::new();
        for (backend, url) in &urls {
            figures.extend(reach(backend, url, rounds));
            figures.extend(costs(backend, url, many, most));
        }
        for Figure { backend, name, value, unit } in &figures {
            println!("{backend:10} {name:52} {value:12.3} {unit}");
        }
        if large {
            common::save("fleet-revocation", &figures);
        }
    }

    #[derive(Serialize)]
    struct Figure<'a> {
        backend: &'a str,
        name: &'static str,
        value: f64,
        unit: &'static str,
    }

    /// Set in a process that is an instance: the backend's address, and the keys of the fleet.
    const URL: &str = "FLEET_URL";
    const KEYS: &str = "FLEET_KEYS";

    /// Revokes on the first of four processes, and notes when the others refuse.
    fn reach<'a>(backend: &'a str, url: &str, rounds: usize) -> Vec<Figure<'a>> {
        let keys = KeyRing::for_tests().unwrap();
        let mut fleet: Vec<Instance> = (0..4).map(|_| Instance::start(url, &keys)).collect();
        for instance in &mut fleet {
            assert_eq!(instance.hear(), "ready");
        }
        let sessions = SessionManager::builder("shop", keys).build().unwrap();
        let mut delays = Vec::new();
        for _ in 0..rounds {
            let token = sessions.bearer::<Map>().issue("alice").unwrap();
            let id = sessions.bearer::<Map>().open(&token).unwrap().id();
            for other in &mut fleet[1..] {
                other.say(&format!("watch {token}"));
                assert_eq!(other.hear(), "watching");
            }
            fleet[0].say(&format!("revoke {id}"));
            let began: u128 = fleet[0].hear().parse().unwrap();
            for other in &mut fleet[1..] {
                let refused: u128 = other.hear().parse().unwrap();
                let nanoseconds = u32::try_from(refused.saturating_sub(began)).unwrap();
                delays.push(f64::from(nanoseconds) / 1e6);
            }
        }
        delays.sort_by(f64::total_cmp);
        let at = |part: usize| delays[(delays.len() * part / 100).min(delays.len() - 1)];
        let figure = |name, value| Figure { backend, name, value, unit: "ms" };
        vec![
            figure("refused on three other processes, median", at(50)),
            figure("refused on three other processes, 99 %", at(99)),
            figure("refused on three other processes, longest", at(100)),
        ]
    }

    struct Instance {
        process: Child,
        input: ChildStdin,
        output: BufReader<ChildStdout>,
    }

    impl Instance {
        fn start(url: &str, keys: &KeyRing) -> Self {
            let mut command = Command::new(env::current_exe().unwrap());
            command.env(URL, url).env(KEYS, &*keys.expose_text());
            let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut process = piped.spawn().unwrap();
            let input = process.stdin.take().unwrap();
            let output = BufReader::new(process.stdout.take().unwrap());
            Self { process, input, output }
        }

        fn say(&mut self, line: &str) {
            writeln!(self.input, "{line}").unwrap();
        }

        fn hear(&mut self) -> String {
            let mut line = String::new();
            self.output.read_line(&mut line).unwrap();
            line.trim_end().to_owned()
        }
    }

    impl Drop for Instance {
        fn drop(&mut self) {
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
    }

    /// What each process of the fleet does.
    fn instance(url: &str) {
        let list = list(url, 100_000);
        until(|| list.is_fresh());
        let keys: KeyRing = env::var(KEYS).unwrap().parse().unwrap();
        let sessions = SessionManager::builder("shop", keys).revocations(list).build().unwrap();
        let bearer = sessions.bearer::<Map>();
        println!("ready");
        for line in io::stdin().lines() {
            let line = line.unwrap();
            match line.split_once(' ').unwrap() {
                ("revoke", id) => {
                    let id: SessionId = id.parse().unwrap();
                    println!("{}", now());
                    sessions.revoke(Target::session(id)).unwrap().wait().unwrap();
                }
                ("watch", token) => {
                    assert!(bearer.open(token).is_ok());
                    println!("watching");
                    let began = Instant::now();
                    while bearer.open(token).is_ok() {
                        assert!(began.elapsed() < Duration::from_secs(30), "never refused");
                        thread::sleep(Duration::from_micros(50));
                    }
                    println!("{}", now());
                }
                (other, _) => panic!("{other}"),
            }
        }
    }

    /// All processes are on one machine, and so on one clock.
    fn now() -> u128 {
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos()
    }

    fn list(url: &str, max_entries: usize) -> RevocationList {
        list_of(log(url), max_entries)
    }

    fn list_of(log: impl RevocationLog, max_entries: usize) -> RevocationList {
        let builder = RevocationList::builder(log).when_missing(WhenMissing::StartEmpty);
        builder.settle(Duration::ZERO).max_entries(max_entries).build().unwrap()
    }

    fn log(url: &str) -> Box<dyn RevocationLog> {
        match url.split_once(':').unwrap().0 {
            "redis" => Box::new(RedisLog::new(url, "fleet").unwrap()),
            _ => Box::new(PostgresLog::new(url, "fleet").unwrap()),
        }
    }

    /// The start with so many facts, and so many subjects revoked at once.
    fn costs<'a>(backend: &'a str, url: &str, many: usize, most: usize) -> Vec<Figure<'a>> {
        let (one, other) = (list(url, 10 * most), list(url, 10 * most));
        let sessions = manager(&one);
        let names: Vec<String> = (0..many).map(|n| format!("visitor-{n}")).collect();
        let targets: Vec<Target<'_>> = names.iter().map(|name| Target::subject(name)).collect();
        let before = other.entries();
        let began = Instant::now();
        drop(sessions.revoke_all(&targets).unwrap());
        until(|| other.entries() >= before + many);
        let bulk = began.elapsed().as_secs_f64();
        until(|| one.status().unsaved == 0);

        let ids: Vec<SessionId> = (0..most).map(id).collect();
        for ids in ids.chunks(50_000) {
            let targets: Vec<Target<'_>> = ids.iter().map(|id| Target::session(*id)).collect();
            drop(sessions.revoke_all(&targets).unwrap());
            until(|| one.status().unsaved == 0);
        }
        let began = Instant::now();
        let fresh = list(url, 10 * most);
        until(|| fresh.is_fresh());
        let start = began.elapsed().as_secs_f64();
        assert!(fresh.entries() >= most + many);
        let figure = |name, value| Figure { backend, name, value, unit: "s" };
        vec![
            figure("100,000 subjects revoked at once, seen elsewhere", bulk),
            figure("start with 1,100,000 facts", start),
        ]
    }

    fn manager(list: &RevocationList) -> SessionManager {
        let builder = SessionManager::builder("shop", KeyRing::for_tests().unwrap());
        builder.revocations(list.clone()).build().unwrap()
    }

    fn id(n: usize) -> SessionId {
        let mut bytes = [0; 16];
        // An odd factor makes different numbers of different ones, all over the range.
        let spread = (n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        bytes[..8].copy_from_slice(&spread.to_be_bytes());
        bytes[8..].copy_from_slice(&spread.rotate_left(32).to_be_bytes());
        SessionId::from_bytes(bytes)
    }

    fn until(mut done: impl FnMut() -> bool) {
        let began = Instant::now();
        while !done() {
            assert!(began.elapsed() < Duration::from_secs(120), "not within two minutes");
            thread::sleep(Duration::from_millis(1));
        }
    }
}
