//! The command that ends sessions beside servers that run, and those that look into the log: against
//! a database file that a list in this process follows.
#![cfg(all(feature = "cli", feature = "sqlite", unix))]
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test may panic"
)]

#[cfg(feature = "redis")]
#[path = "common/folder.rs"]
mod folder;
#[cfg(feature = "redis")]
#[path = "common/redis_server.rs"]
mod redis_server;
#[path = "common/shell.rs"]
mod shell;

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use sealed_session::revocation::{RevocationLog as _, SqliteLog};
use sealed_session::{
    ErrorKind, Map, Policy, RevocationList, SessionId, SessionManager, SignIn, Target,
};
use shell::{Place, Ran};

const SHOP: &str = "realm = \"shop\"\nkeys = { source = \"file\", path = \"session.keys\" }\n\
                    revocation = { backend = \"sqlite\", path = \"r.db\" }\n";
const CONFIG: [&str; 2] = ["--config", "shop.toml"];
/// Bounds a wait; decides nothing.
const LONG: Duration = Duration::from_secs(30);

/// A directory with a ring, a configuration and a log, and a server that follows it.
struct Shop {
    place: Place,
    sessions: SessionManager,
}

impl Shop {
    fn open(name: &str) -> Self {
        let place = place(name, SHOP);
        let list = RevocationList::builder(SqliteLog::new(place.path().join("r.db")))
            .settle(Duration::ZERO)
            .when_missing(sealed_session::revocation::WhenMissing::StartEmpty)
            .build()
            .unwrap();
        assert!(list.is_fresh());
        let sessions = SessionManager::builder("shop", place.ring());
        let sessions = sessions.revocations(list).build().unwrap();
        Self { place, sessions }
    }

    fn issue(&self, sign_in: impl Into<SignIn<Map>>) -> Live {
        let bearer = self.sessions.bearer::<Map>();
        let token = bearer.issue(sign_in).unwrap();
        let id = bearer.open(&token).unwrap().id();
        Live { token, id }
    }

    /// Why a token is refused, if it is.
    fn refused(&self, live: &Live) -> Option<ErrorKind> {
        let opened = self.sessions.bearer::<Map>().open(&live.token);
        opened.err().map(|error| error.kind())
    }

    #[track_caller]
    fn ends(&self, live: &Live) {
        eventually("the session is refused", || {
            (self.refused(live) == Some(ErrorKind::Revoked)).then_some(())
        });
    }

    #[track_caller]
    fn lives(&self, live: &Live) {
        // All that is durable in the log is known here after this.
        self.sessions.revocations().unwrap().catch_up().wait().unwrap();
        assert_eq!(self.refused(live), None);
    }

    #[track_caller]
    fn revoke(&self, args: &[&str]) -> Ran {
        let ran = self.place.run(&[&["revoke"], &CONFIG[..], args].concat());
        assert_eq!((ran.status, &*ran.err), (0, ""), "{ran:?}");
        ran
    }
}

struct Live {
    token: String,
    id: SessionId,
}

fn place(name: &str, config: &str) -> Place {
    let (place, _) = Place::with_ring(name);
    place.write("shop.toml", config, 0o600);
    place
}

#[track_caller]
fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(began.elapsed() < LONG, "not within 30 s: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_subject_ends_in_a_server_that_runs_and_nobody_else_does() {
    let shop = Shop::open("subject");
    let (alice, bob) = (shop.issue("alice"), shop.issue("bob"));

    let ran = shop.revoke(&["--subject", "alice"]);

    assert!(ran.out.starts_with("revoked the subject's sessions that were issued until 20"));
    assert!(ran.out.ends_with("durable in r.db: servers that follow it refuse them now\n"));
    assert!(!ran.out.contains("alice"), "{ran:?}");
    shop.ends(&alice);
    shop.lives(&bob);
    shop.lives(&shop.issue("alice"));
}

#[test]
fn a_session_a_tag_and_everyone_are_ended_and_one_can_be_spared() {
    let shop = Shop::open("targets");
    let live: Vec<Live> = (0..6).map(|_| shop.issue(SignIn::new("alice").tag("phone"))).collect();
    let other = shop.issue("bob");

    shop.revoke(&["--session", &live[0].id.to_string()]);
    shop.ends(&live[0]);
    shop.lives(&live[1]);

    shop.revoke(&["--subject", "alice", "--except", &live[1].id.to_string()]);
    live[2..].iter().for_each(|live| shop.ends(live));
    shop.lives(&live[1]);

    shop.revoke(&["--tag", "laptop"]);
    shop.lives(&live[1]);
    shop.revoke(&["--tag", "phone"]);
    shop.ends(&live[1]);
    shop.lives(&other);

    let spared = shop.issue("carol");
    shop.revoke(&["--everyone", "--yes", "--except", &spared.id.to_string()]);
    shop.ends(&other);
    shop.lives(&spared);
}

#[test]
fn an_id_or_a_name_may_begin_like_an_option() {
    let shop = Shop::open("hyphen");
    let mut bytes = [0xfb; 16];
    bytes[0] = 0xf9;
    let id = SessionId::from_bytes(bytes).to_string();
    assert!(id.starts_with('-'), "{id}");
    let live = shop.issue("--yes");

    shop.revoke(&["--session", &id]);
    shop.revoke(&["--subject", "--yes", "--except", &id]);

    shop.ends(&live);
    assert!(shop.place.run(&["revocations", "list", CONFIG[0], CONFIG[1]]).out.contains(&id));
}

#[test]
fn a_subject_is_read_from_standard_input_byte_for_byte() {
    let shop = Shop::open("stdin");
    let args = [&["revoke"], &CONFIG[..], &["--subject", "-"]].concat();
    for (input, subject) in
        [("alice\n", "alice"), ("bob", "bob"), (" eve \r\n", " eve "), ("-\n", "-"), ("ä\n", "ä")]
    {
        let (live, other) = (shop.issue(subject), shop.issue("mallory"));

        let ran = shop.place.feed(&args, input.as_bytes());

        assert_eq!(ran.status, 0, "{ran:?}");
        shop.ends(&live);
        shop.lives(&other);
    }
    let long = "x".repeat(256);
    for (input, why) in [
        (&b""[..], "the subject must have 1 to 255 bytes"),
        (b"\n", "the subject must have 1 to 255 bytes"),
        (long.as_bytes(), "the subject must have 1 to 255 bytes"),
        (b"alice\nbob\n", "standard input: more than one line: give one subject"),
        (b"\xff\n", "standard input: not text: give one subject"),
    ] {
        let ran = shop.place.feed(&args, input);

        assert_eq!((ran.status, ran.err), (2, format!("sealed-session: {why}\n")));
    }
}

#[test]
fn everyone_is_ended_only_by_those_who_say_so_twice() {
    let shop = Shop::open("everyone");
    let live = shop.issue("alice");

    let ran = shop.place.run(&["revoke", CONFIG[0], CONFIG[1], "--everyone"]);

    assert_eq!(ran.status, 2);
    assert!(ran.err.contains("anonymous ones too: add --yes"), "{ran:?}");
    shop.lives(&live);
}

#[test]
fn a_fact_is_kept_for_as_long_as_the_longest_session_of_any_server() {
    let shop = Shop::open("longest");
    let month = Duration::from_secs(30 * 86_400);
    let year = month * 12;
    let limits = sealed_session::Limits { absolute_timeout: year, idle_timeout: None };
    let list = shop.sessions.revocations().unwrap().clone();
    let _longer = SessionManager::builder("other", shop.place.ring())
        .policy(Policy::default().remember(limits))
        .revocations(list)
        .build()
        .unwrap();
    let log = SqliteLog::new(shop.place.path().join("r.db"));
    // The list tells the log in its own time.
    let facts = || log.read(None, Duration::ZERO).unwrap().facts().to_vec();
    let before = eventually("the year is in the log", || {
        let stats = shop.place.run(&["revocations", "stats", CONFIG[0], CONFIG[1]]);
        stats.out.contains("longest life    360d").then(facts)
    });

    shop.revoke(&["--subject", "alice"]);

    let facts = facts();
    let mut new = facts.iter().filter(|fact| !before.contains(fact));
    let until = new.next().unwrap().until().unwrap();
    let kept = until.duration_since(SystemTime::now()).unwrap();
    assert!(kept > year && kept < year + Duration::from_secs(300), "{kept:?}");
    assert!(new.next().is_none());
}

#[test]
fn the_first_use_signs_nobody_out_and_decides_nothing() {
    let place = place("first", SHOP);

    let ran = place.run(&["revoke", CONFIG[0], CONFIG[1], "--subject", "alice"]);

    assert_eq!(ran.status, 0, "{ran:?}");
    assert!(ran.err.contains("no server has used this log yet"), "{ran:?}");
    let log = SqliteLog::new(place.path().join("r.db"));
    let page = log.read(None, Duration::ZERO).unwrap();
    // Kind 2: no "everyone", and no word that the log is whole.
    let kinds: Vec<u8> = page.facts().iter().map(|fact| fact.to_bytes()[0]).collect();
    assert_eq!(kinds, [2]);
    let list = place.run(&["revocations", "list", CONFIG[0], CONFIG[1]]);
    assert!(list.out.contains("subject-or-tag") && !list.out.contains("every"), "{list:?}");

    // A server that starts with it has the fact, and decides for itself.
    let list = RevocationList::builder(log)
        .settle(Duration::ZERO)
        .when_missing(sealed_session::revocation::WhenMissing::StartEmpty)
        .build()
        .unwrap();
    assert!(list.is_fresh());
    assert_eq!(list.entries(), 1);
}

#[test]
fn asked_about_one_subject_it_says_until_when_and_shows_the_facts() {
    let shop = Shop::open("asked");
    let live = shop.issue("alice");
    let ask =
        |args: &[&str]| shop.place.run(&[&["revocations", "list"], &CONFIG[..], args].concat());

    let none = ask(&["--subject", "alice"]);
    assert_eq!((none.status, &*none.out), (1, "revoked  no\n\n0 facts in r.db\n"));

    shop.revoke(&["--subject", "alice", "--except", &live.id.to_string()]);
    let some = ask(&["--subject", "alice"]);
    assert_eq!(some.status, 0);
    assert!(some.out.starts_with("revoked  if issued until 20"), "{some:?}");
    assert!(some.out.contains(&format!("  {}\n1 fact in r.db\n", live.id)), "{some:?}");
    assert_eq!(ask(&["--subject", "bob"]).status, 1);
    assert_eq!(ask(&["--tag", "alice"]).status, 1);

    let id = live.id.to_string();
    assert_eq!(ask(&["--session", &id]).status, 1);
    shop.revoke(&["--everyone", "--yes", "--except", &id]);
    assert_eq!(ask(&["--session", &id]).status, 1);
    shop.revoke(&["--everyone", "--yes"]);
    let session = ask(&["--session", &id]);
    assert!(session.out.starts_with("revoked  if issued until 20"), "{session:?}");
    assert!(ask(&["--subject", "alice"]).out.ends_with("3 facts in r.db\n"));
    shop.revoke(&["--session", &id]);
    assert!(ask(&["--session", &id]).out.starts_with("revoked  yes\n"));

    let json = ask(&["--session", &id, "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!((&json["revoked"], &json["all"]), (&true.into(), &true.into()), "{json}");
    assert_eq!(json["facts"].as_array().unwrap().len(), 2, "{json}");
}

#[test]
fn stats_count_the_facts_of_each_kind() {
    let shop = Shop::open("stats");
    let live = shop.issue("alice");
    let renewed = shop.sessions.cookie_for::<Map>("bob").unwrap();
    let session: sealed_session::Session<Map> = shop.sessions.open(Some(&*renewed)).unwrap();
    session.renew().unwrap().wait().unwrap();
    let _ = session.close();
    shop.revoke(&["--session", &live.id.to_string()]);
    shop.revoke(&["--subject", "alice"]);
    shop.revoke(&["--tag", "phone"]);
    shop.revoke(&["--everyone", "--yes"]);

    let stats = eventually("the log is whole", || {
        let ran = shop.place.run(&["revocations", "stats", CONFIG[0], CONFIG[1], "--json"]);
        assert_eq!(ran.status, 0, "{ran:?}");
        let stats: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
        (stats["whole"] == true && !stats["longest_life"].is_null()).then_some(stats)
    });

    let facts = &stats["facts"];
    for (kind, count) in [
        ("session", 1),
        ("generations", 1),
        ("subject_or_tag", 2),
        ("everyone", 1),
        ("every_realm", 0),
    ] {
        assert_eq!(facts[kind], count, "{kind}: {stats}");
    }
    assert_eq!((&stats["log"], &stats["over"]), (&"r.db".into(), &0.into()), "{stats}");
    assert_eq!(stats["longest_life"], 30 * 86_400);
    // One clock, but for how long the reading took.
    let apart = stats["clock_ahead_ms"].as_i64().unwrap().abs();
    assert!(apart <= stats["read_ms"].as_i64().unwrap() / 2 + 100, "{stats}");
    let text = shop.place.run(&["revocations", "stats", CONFIG[0], CONFIG[1]]).out;
    assert!(text.contains("whole           yes\nsessions        1\ngenerations     1\n"), "{text}");
}

/// `revocations follow`, and what it says.
struct Follower {
    child: Child,
    lines: Receiver<String>,
    errors: Receiver<String>,
}

impl Follower {
    fn start(place: &Place, args: &[&str]) -> Self {
        let mut child = Self::spawn(place, args);
        let lines = lines(child.stdout.take().unwrap());
        Self::ready(child, lines)
    }

    fn spawn(place: &Place, args: &[&str]) -> Child {
        let mut command = place.command();
        command.args(["revocations", "follow"]).args(CONFIG).args(args);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    fn ready(mut child: Child, lines: Receiver<String>) -> Self {
        let errors = self::lines(child.stderr.take().unwrap());
        let follower = Self { child, lines, errors };
        let ready = follower.error();
        assert!(ready.starts_with("following r") && ready.ends_with(" facts; Ctrl-C ends it"));
        follower
    }

    #[track_caller]
    fn line(&self) -> String {
        self.lines.recv_timeout(LONG).unwrap()
    }

    #[track_caller]
    fn error(&self) -> String {
        self.errors.recv_timeout(LONG).unwrap()
    }

    #[track_caller]
    fn ended(&mut self) -> std::process::ExitStatus {
        eventually("it ends", || self.child.try_wait().unwrap())
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines(from: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    receiver
}

#[test]
fn a_follower_shows_each_fact_once_as_it_arrives() {
    let shop = Shop::open("follow");
    let id = shop.issue("early").id.to_string();
    shop.revoke(&["--session", &id]);
    let text = Follower::start(&shop.place, &[]);
    let json = Follower::start(&shop.place, &["--json"]);
    let other = SessionId::from_bytes([7; 16]).to_string();

    shop.sessions.revoke(Target::subject("alice")).unwrap().wait().unwrap();
    shop.revoke(&["--everyone", "--yes", "--except", &id]);
    shop.revoke(&["--session", &other]);

    // The server may still have had to tell how long sessions live.
    let of = |follower: &Follower| -> Vec<String> {
        let lines = std::iter::repeat_with(|| follower.line());
        lines.filter(|line| !line.contains("lifetime") && !line.contains("whole")).take(3).collect()
    };
    let lines = of(&text);
    assert!(lines[0].contains("Z subject-or-tag ") && lines[0].contains(" issued until 20"));
    assert!(lines[1].contains("Z everyone - ") && lines[1].contains(&format!(" except {id} ")));
    assert!(lines[2].contains(&format!("Z session {other} kept until 20")), "{lines:?}");
    let lines = of(&json);
    let facts: Vec<serde_json::Value> =
        lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(facts[0]["kind"], "subject_or_tag");
    assert_eq!(facts[1]["kind"], "everyone");
    assert_eq!(facts[1]["except"], id);
    assert_eq!(facts[2]["kind"], "session");
    assert_eq!(facts[2]["session"], other);
}

#[test]
fn a_follower_says_that_the_log_is_away_and_goes_on_when_it_is_back() {
    let place = place("restart", SHOP);
    let revoke = |name: &str| {
        let ran = place.run(&["revoke", CONFIG[0], CONFIG[1], "--subject", name]);
        assert_eq!(ran.status, 0, "{ran:?}");
    };
    revoke("alice");
    let follower = Follower::start(&place, &[]);
    revoke("bob");
    assert!(follower.line().contains("subject-or-tag"));
    let names = ["r.db", "r.db-wal", "r.db-shm"].map(|name| place.path().join(name));

    // In its place something that cannot be read, so that nobody makes a new one meanwhile.
    for name in &names {
        let _ = std::fs::remove_file(name);
    }
    std::fs::create_dir(&names[0]).unwrap();
    let warning = follower.error();
    assert!(warning.starts_with("warning: ") && warning.contains("goes on trying"), "{warning}");
    std::fs::remove_dir(&names[0]).unwrap();

    let said = std::iter::repeat_with(|| follower.error());
    let back = said.take_while(|line| !line.starts_with("following r.db again")).last();
    assert!(back.unwrap().contains("it was lost or replaced"));
    revoke("carol");
    assert!(follower.line().contains("subject-or-tag"));
}

#[test]
fn a_follower_ends_when_nobody_reads_any_more_and_when_it_is_told_to() {
    let shop = Shop::open("ends");
    let mut child = Follower::spawn(&shop.place, &[]);
    let out: ChildStdout = child.stdout.take().unwrap();
    let mut follower = Follower::ready(child, mpsc::channel().1);
    drop(out);
    shop.revoke(&["--subject", "alice"]);
    assert_eq!(follower.ended().code(), Some(0));
    let mut rest = follower.errors.try_iter();
    assert_eq!(rest.next(), None);

    for signal in ["-INT", "-TERM"] {
        let mut follower = Follower::start(&shop.place, &[]);
        let pid = follower.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
        assert!(!follower.ended().success(), "{signal}");
    }
}

#[test]
fn a_log_that_cannot_be_written_is_an_error_and_nothing_is_in_force() {
    let place = place("unwritable", SHOP);
    std::fs::create_dir(place.path().join("r.db")).unwrap();

    for args in [
        &["revoke", "--subject", "alice"][..],
        &["revocations", "list"],
        &["revocations", "stats"],
        &["revocations", "follow"],
    ] {
        let ran = place.run(&[args, &CONFIG[..]].concat());

        assert_eq!(ran.status, 2, "{ran:?}");
        assert!(ran.err.contains("r.db"), "{ran:?}");
        let revokes = args[0] == "revoke";
        assert_eq!(ran.err.contains("sealed-session: nothing is in force: "), revokes, "{ran:?}");
    }
    let ran = place.run(&["config", "check", "shop.toml"]);
    assert_eq!(ran.status, 0, "{ran:?}");
    let ran = place.run(&["config", "check", "shop.toml", "--connect"]);
    assert_eq!(ran.status, 2, "{ran:?}");
    assert!(ran.out.contains("wrong: ") && ran.out.contains("r.db"), "{ran:?}");
}

#[test]
fn a_check_reads_the_log_only_if_asked_to() {
    let place = place("connect", SHOP);

    let quiet = place.run(&["config", "check", "shop.toml"]);
    assert_eq!(quiet.status, 0, "{quiet:?}");
    assert!(!place.path().join("r.db").exists());
    let asked = place.run(&["config", "check", "shop.toml", "--connect"]);

    assert_eq!(asked.status, 0, "{asked:?}");
    assert!(place.path().join("r.db").exists());
    assert!(asked.out.contains("\nr.db: 0 facts, read in "), "{asked:?}");
    let json = place.run(&["config", "check", "shop.toml", "--connect", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(json["revocation_readable"], true);
    assert_eq!(json["revocation"]["max_staleness"], "30s");
}

#[test]
fn the_documented_table_shows_what_is_in_force_by_default() {
    let documented = include_str!("../src/config/session.toml");
    let documented = documented.replace("/etc/shop/session.keys", "session.keys");
    let place = place("documented", &SHOP.replace("r.db", "revocations.db"));
    place.write("documented.toml", &documented, 0o600);
    let shown = |file: &str| {
        let ran = place.run(&["config", "check", file, "--json"]);
        let json: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
        json["revocation"].clone()
    };

    assert!(shown("shop.toml").is_object());
    assert_eq!(shown("documented.toml"), shown("shop.toml"));
}

#[cfg(feature = "redis")]
#[test]
fn a_follower_outlives_a_restart_of_the_server_and_shows_nothing_twice() {
    let mut server = redis_server::RedisServer::with(&["--appendonly yes", "--appendfsync always"]);
    let table = format!("{{ backend = \"redis\", url = \"{}\" }}", server.url());
    let config = SHOP.replace("{ backend = \"sqlite\", path = \"r.db\" }", &table);
    let place = place("redis", &config);
    let revoke = |id: u8| {
        let id = SessionId::from_bytes([id; 16]).to_string();
        let ran = place.run(&["revoke", CONFIG[0], CONFIG[1], "--session", &id]);
        assert_eq!(ran.status, 0, "{ran:?}");
        id
    };
    revoke(1);
    let follower = Follower::start(&place, &[]);
    let second = revoke(2);
    assert!(follower.line().contains(&second));

    server.kill();
    let warning = follower.error();
    assert!(warning.starts_with("warning: ") && warning.contains("goes on trying"), "{warning}");
    server.run();
    let mut said = std::iter::repeat_with(|| follower.error());
    let again = said.find(|line| line.starts_with("following redis://")).unwrap();
    assert!(again.ends_with("again, which holds 2 facts"), "{again}");

    let third = revoke(3);
    let line = follower.line();
    assert!(line.contains(&third), "{line}");
}

#[cfg(feature = "redis")]
#[test]
fn a_backend_that_is_down_or_silent_is_an_error_soon_and_its_password_does_not_show() {
    use std::net::TcpListener;

    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    // It accepts, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    for address in [nobody, silent.local_addr().unwrap()] {
        let url = format!("redis://:s3cret@{address}");
        for table in [
            format!("{{ backend = \"redis\", url = \"{url}\" }}"),
            "{ backend = \"redis\", url_variable = \"SHOP_REDIS\" }".to_owned(),
        ] {
            let config = SHOP.replace("{ backend = \"sqlite\", path = \"r.db\" }", &table);
            let place = place("down", &config);
            for args in [
                &["revoke", "--subject", "alice", CONFIG[0], CONFIG[1]][..],
                &["revocations", "list", CONFIG[0], CONFIG[1]],
                &["revocations", "follow", CONFIG[0], CONFIG[1]],
                &["config", "check", "shop.toml", "--connect"],
                &["config", "check", "shop.toml", "--connect", "--json"],
            ] {
                let began = Instant::now();

                let ran = Ran::of(place.command().args(args).env("SHOP_REDIS", &url));

                assert_eq!(ran.status, 2, "{ran:?}");
                assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
                let shown = format!("{}{}", ran.out, ran.err);
                assert!(shown.contains(&address.to_string()), "{ran:?}");
                assert!(!shown.contains("s3cret"), "{ran:?}");
            }
        }
    }
}
