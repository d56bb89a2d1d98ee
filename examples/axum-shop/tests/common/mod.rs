//! What the tests share: the real binary on a port of its own, and a browser's cookie jar.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]
#![allow(clippy::arithmetic_side_effects, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};
use std::{io, thread};

use sealed_session::KeyRing;
use serde_json::Value;

/// Longer than anything here takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// An empty directory of this test's own.
pub fn directory(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    match fs::remove_dir_all(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => panic!("{error}"),
        _ => path,
    }
}

/// The command that starts the shop, with its streams piped.
pub fn command(data: &Path) -> Command {
    command_of(Path::new(SHOP), data)
}

/// The same, for a copy of the program.
pub fn command_of(program: &Path, data: &Path) -> Command {
    prepared(Command::new(program), data)
}

/// The same, in a shell that sets the umask.
pub fn command_under_umask(umask: &str, data: &Path) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("umask {umask}; exec \"$0\""), SHOP]);
    prepared(command, data)
}

pub const SHOP: &str = env!("CARGO_BIN_EXE_axum-shop");

fn prepared(mut command: Command, data: &Path) -> Command {
    command
        .env("ADDR", "127.0.0.1:0")
        .env("DATA", data)
        .env_remove("INSECURE_HTTP_COOKIE")
        .env_remove("CONFIG")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Makes the directory `data` and the settings in it, for keys beside them. What is to follow
/// `path` stands in `more`.
pub fn configure(data: &Path, more: &str) {
    fs::create_dir_all(data).unwrap();
    let keys = data.join(KEYS);
    let (keys, realm) = (keys.display(), "realm = \"axum-shop\"");
    let table = format!("[session.keys]\nsource = \"file\"\npath = '{keys}'\n{more}");
    fs::write(data.join(CONFIG), format!("[session]\n{realm}\n\n{table}\n")).unwrap();
}

/// The same, and makes the keys.
pub fn configure_with_keys(data: &Path, more: &str) {
    configure(data, more);
    fs::write(data.join(KEYS), KeyRing::generate().unwrap().expose_text()).unwrap();
}

/// The command that starts the shop with the settings in `data`.
pub fn configured_command(data: &Path) -> Command {
    let mut command = command(data);
    command.env("CONFIG", data.join(CONFIG));
    command
}

pub const CONFIG: &str = "shop.toml";
pub const KEYS: &str = "session.keys";

/// A shop that runs until it is dropped.
pub struct Server {
    child: Child,
    pub addr: String,
    pub data: PathBuf,
    log: Log,
}

impl Server {
    /// Starts the shop with an empty directory of that name.
    pub fn start(name: &str) -> Self {
        Self::start_in(&directory(name))
    }

    /// Starts the shop with the keys in `data`.
    pub fn start_in(data: &Path) -> Self {
        Self::spawn(command(data), data)
    }

    /// Starts `command` and waits for the address that it prints.
    pub fn spawn(mut command: Command, data: &Path) -> Self {
        let mut child = command.spawn().unwrap();
        let log = Log::of(child.stderr.take().unwrap());
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            let mut line = String::new();
            stdout.read_line(&mut line).unwrap();
            // The test may have given up already.
            let _ = sender.send(line);
        });
        // Dropped, and so killed, if what follows fails.
        let mut server = Self { child, addr: String::new(), data: data.to_owned(), log };
        let line = receiver.recv_timeout(PATIENCE).expect("the shop prints its address");
        let addr = line.trim_end().strip_prefix("http://").and_then(|line| line.strip_suffix('/'));
        addr.unwrap_or_else(|| panic!("no address: {line:?}\n{}", server.log()))
            .clone_into(&mut server.addr);
        server
    }

    pub fn browser(&self) -> Browser {
        Browser { addr: self.addr.clone(), cookies: BTreeMap::new() }
    }

    /// What the shop has logged up to now.
    pub fn log(&self) -> String {
        self.log.text.lock().unwrap().clone()
    }

    /// What the shop answers on this page to a copy of the visitor's cookie.
    pub fn asked(&self, path: &str, visitor: &Browser) -> Answer {
        visitor.at(self).get(path)
    }

    /// Whether a copy of the visitor's cookie is signed in here.
    #[track_caller]
    pub fn knows(&self, visitor: &Browser) -> bool {
        visitor.at(self).subject().is_some()
    }

    /// Waits until `word` stands in what is logged after the first `seen` bytes.
    #[track_caller]
    pub fn await_log(&self, seen: usize, word: &str) {
        let found = || self.log()[seen..].contains(word);
        assert!(eventually(found), "no {word:?} in the log:\n{}", self.log());
    }

    /// Sends a signal, as a service manager does.
    pub fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    /// `kill -9`.
    pub fn kill(self) {
        drop(self);
    }

    /// Stops the shop; how it ended, and its log.
    pub fn stop(mut self) -> (ExitStatus, String) {
        self.signal("TERM");
        let status = wait(&mut self.child);
        self.log.reader.take().unwrap().join().unwrap();
        (status, self.log())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Fails only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The log of a shop, as it is written.
struct Log {
    text: Arc<Mutex<String>>,
    reader: Option<thread::JoinHandle<()>>,
}

impl Log {
    fn of(stderr: ChildStderr) -> Self {
        let text = Arc::new(Mutex::new(String::new()));
        let written = Arc::clone(&text);
        let reader = thread::spawn(move || {
            for line in BufReader::new(stderr).lines() {
                let mut text = written.lock().unwrap();
                text.push_str(&line.unwrap());
                text.push('\n');
            }
        });
        Self { text, reader: Some(reader) }
    }
}

/// Asks again and again; whether the answer came to be yes in time.
pub fn eventually(holds: impl FnMut() -> bool) -> bool {
    eventually_within(PATIENCE, holds)
}

pub fn eventually_within(patience: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let begun = Instant::now();
    loop {
        // Asked once more after the time is over: what counts is what holds.
        let late = begun.elapsed() >= patience;
        if holds() {
            return true;
        }
        if late {
            return false;
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Waits for a process to end, and kills it if it does not.
pub fn wait(child: &mut Child) -> ExitStatus {
    if !eventually(|| child.try_wait().unwrap().is_some()) {
        child.kill().unwrap();
        panic!("the process does not end");
    }
    child.wait().unwrap()
}

/// Starts a shop that refuses to run; what it says.
pub fn refused(mut command: Command) -> String {
    let mut child = command.spawn().unwrap();
    let status = wait(&mut child);
    assert!(!status.success());
    let mut told = String::new();
    child.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    told
}

/// A visitor's browser: keeps the cookies it is sent, and sends them back.
#[derive(Clone)]
pub struct Browser {
    addr: String,
    pub cookies: BTreeMap<String, String>,
}

impl Browser {
    /// The same browser after the shop has moved.
    pub fn at(&self, server: &Server) -> Self {
        Self { addr: server.addr.clone(), cookies: self.cookies.clone() }
    }

    /// Goes on at another server of the shop, which the visitor does not notice.
    pub fn turn_to(&mut self, addr: &str) {
        addr.clone_into(&mut self.addr);
    }

    pub fn get(&mut self, path: &str) -> Answer {
        self.try_get(path).unwrap()
    }

    pub fn try_get(&mut self, path: &str) -> io::Result<Answer> {
        self.request("GET", path, &[], "")
    }

    /// Sends a form as it stands, without the token.
    pub fn post_bare(&mut self, path: &str, headers: &[&str], fields: &[(&str, &str)]) -> Answer {
        self.try_post(path, headers, fields).unwrap()
    }

    /// Like [`post_bare`](Self::post_bare).
    pub fn try_post(
        &mut self,
        path: &str,
        headers: &[&str],
        fields: &[(&str, &str)],
    ) -> io::Result<Answer> {
        self.request("POST", path, headers, &encode(fields))
    }

    /// Opens the home page and sends one of its forms.
    pub fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let token = self.get("/").csrf();
        let fields = [&[("csrf", token.as_str())], fields].concat();
        self.post_bare(path, &["Sec-Fetch-Site: same-origin"], &fields)
    }

    pub fn sign_in(&mut self, user: &str, password: &str) -> Answer {
        self.post("/sign-in", &[("user", user), ("password", password)])
    }

    pub fn whoami(&mut self) -> Value {
        let answer = self.get("/whoami");
        assert_eq!(answer.status, 200);
        serde_json::from_str(&answer.body).unwrap()
    }

    /// Who the shop takes the visitor for.
    pub fn subject(&mut self) -> Option<String> {
        self.whoami().get("subject")?.as_str().map(str::to_owned)
    }

    fn request(
        &mut self,
        method: &str,
        path: &str,
        headers: &[&str],
        body: &str,
    ) -> io::Result<Answer> {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n", self.addr);
        head.push_str("Connection: close\r\n");
        for (name, value) in &self.cookies {
            write!(head, "Cookie: {name}={value}\r\n").unwrap();
        }
        for header in headers {
            write!(head, "{header}\r\n").unwrap();
        }
        if method == "POST" {
            head.push_str("Content-Type: application/x-www-form-urlencoded\r\n");
            write!(head, "Content-Length: {}\r\n", body.len()).unwrap();
        }
        let mut stream = TcpStream::connect(&self.addr)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(format!("{head}\r\n{body}").as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let answer = Answer::read(&answer).ok_or(io::ErrorKind::InvalidData)?;
        answer.header("set-cookie").into_iter().for_each(|set_cookie| self.take(set_cookie));
        Ok(answer)
    }

    /// Does what a browser does with one `Set-Cookie` value.
    fn take(&mut self, set_cookie: &str) {
        let (name, value) = set_cookie.split(';').next().unwrap().split_once('=').unwrap();
        if set_cookie.contains("Max-Age=0") {
            self.cookies.remove(name);
        } else {
            self.cookies.insert(name.to_owned(), value.to_owned());
        }
    }
}

/// What the shop answered.
pub struct Answer {
    pub status: u16,
    pub body: String,
    headers: Vec<(String, String)>,
}

impl Answer {
    /// None if the text is no whole answer.
    fn read(text: &str) -> Option<Self> {
        let (head, body) = text.split_once("\r\n\r\n")?;
        let mut lines = head.lines();
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let headers = lines
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        Some(Self { status, body: body.to_owned(), headers })
    }

    /// The one value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(known, _)| known == name);
        let value = values.next().map(|(_, value)| value.as_str());
        assert_eq!(values.next(), None, "{name} twice");
        value
    }

    /// The token in the page's forms.
    pub fn csrf(&self) -> String {
        let (_, rest) = self.body.split_once("name=\"csrf\" value=\"").expect("a form");
        rest.split('"').next().unwrap().to_owned()
    }

    /// Asserts that the answer is the redirect which follows a form.
    #[track_caller]
    pub fn assert_redirect(&self) {
        assert_eq!((self.status, self.header("location")), (303, Some("/")));
    }
}

/// Fields as a form sends them.
fn encode(fields: &[(&str, &str)]) -> String {
    let pairs: Vec<_> =
        fields.iter().map(|(k, v)| format!("{}={}", percent(k), percent(v))).collect();
    pairs.join("&")
}

fn percent(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => out.push(byte.into()),
            _ => write!(out, "%{byte:02X}").unwrap(),
        }
        out
    })
}
