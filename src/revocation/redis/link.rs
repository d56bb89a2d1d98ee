//! Connections: one at a time, every call of it by a deadline.

use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use redis::{
    Client, Connection, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, Pipeline,
    RedisConnectionInfo, RedisError, Value,
};

use super::text;
use crate::clock::monotonic;
use crate::error::Error;

/// `wait` from now.
pub(super) fn after(wait: Duration) -> Instant {
    let now = monotonic();
    now.checked_add(wait).unwrap_or(now)
}

/// Where the log is, and with which credentials.
pub(super) struct Server {
    info: ConnectionInfo,
    credentials: RedisConnectionInfo,
    name: String,
    /// Connections that were opened under an earlier one are not used any more.
    epoch: AtomicU64,
}

impl Server {
    pub(super) fn new(url: &str, list: &str) -> Result<Self, Error> {
        // The client's own message could repeat the URL, and so the password.
        let info = url.into_connection_info().map_err(|_| Error::config(FORM))?;
        let credentials = info.redis_settings().clone();
        if credentials.username().is_some() && credentials.password().is_none() {
            return Err(Error::config(format!("the URL has a user without a password: {FORM}")));
        }
        let scheme = match info.addr() {
            ConnectionAddr::TcpTls { insecure: true, .. } => {
                return Err(Error::config(
                    "`#insecure` would accept every certificate: name the right ones by \
                     SSL_CERT_FILE instead",
                ));
            }
            ConnectionAddr::TcpTls { .. } => "rediss://",
            ConnectionAddr::Unix(_) => "unix:",
            _ => "redis://",
        };
        let name = format!("{scheme}{}/{} list {list}", info.addr(), credentials.db());
        // Signing in is done here, not by the client: it would give each of its commands the whole
        // time limit, and would ask for permissions that a log does not need.
        let tcp = info.tcp_settings().clone().set_nodelay(true);
        let bare = RedisConnectionInfo::default().set_skip_set_lib_name();
        let info = info.set_redis_settings(bare).set_tcp_settings(tcp);
        Ok(Self { info, credentials, name, epoch: AtomicU64::new(0) })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Has every connection opened anew before it is next used.
    pub(super) fn reconnect(&self) {
        self.epoch.fetch_add(1, Ordering::SeqCst);
    }

    fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::SeqCst)
    }

    /// Connects on a thread of its own: resolving a name cannot be given a time limit.
    fn open(self: &Arc<Self>) -> Result<Receiver<Result<Link, Error>>, Error> {
        let (sender, receiver) = mpsc::sync_channel(1);
        let server = Arc::clone(self);
        let connect = move || {
            let _ = sender.send(server.connect());
        };
        let thread = thread::Builder::new().name("session-redis".to_owned()).spawn(connect);
        thread.map(|_| receiver).map_err(Error::backend)
    }

    fn connect(&self) -> Result<Link, Error> {
        let until = after(CONNECT);
        let epoch = self.epoch();
        if matches!(self.info.addr(), ConnectionAddr::TcpTls { .. })
            && rustls::crypto::CryptoProvider::get_default().is_none()
        {
            // Without a default the client panics, if features of other crates leave it a choice.
            // Another thread may be faster: then there is one.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        let client = Client::open(self.info.clone()).map_err(explain)?;
        let connection = client.get_connection_with_timeout(left(until)?).map_err(explain)?;
        let born = monotonic();
        let mut link = Link { connection, history: 0, up: Duration::ZERO, born, epoch };
        let mut commands = redis::pipe();
        if let Some(password) = self.credentials.password() {
            commands.cmd("AUTH");
            if let Some(user) = self.credentials.username() {
                commands.arg(user);
            }
            commands.arg(password);
        }
        if self.credentials.db() != 0 {
            commands.cmd("SELECT").arg(self.credentials.db());
        }
        commands.cmd("INFO");
        let answers = link.ask(&commands, until)?;
        (link.history, link.up) = judge(answers.last().and_then(text).unwrap_or_default())?;
        Ok(link)
    }
}

/// Whether the server can keep a log; if so, which history of writes it is at, and for how long it has
/// been up.
fn judge(info: &str) -> Result<(u64, Duration), Error> {
    let field = |name| info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let version = field("redis_version").unwrap_or("unknown");
    let mut parts = version.split('.').map_while(|part| part.parse::<u32>().ok());
    if (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) < (6, 2) {
        return Err(Error::config(format!(
            "the server's version is {version}, and must be 6.2 or later"
        )));
    }
    let policy = field("maxmemory_policy").unwrap_or("unknown");
    if policy != "noeviction" && !policy.starts_with("volatile-") {
        return Err(Error::config(format!(
            "the server's maxmemory-policy is {policy}, so it may drop the revocations: set it to \
             noeviction or volatile-ttl"
        )));
    }
    if field("role").is_some_and(|role| role != "master") {
        return Err(Error::backend(REPLICA));
    }
    let history = field("master_replid").and_then(|id| id.get(..16));
    let history = history.and_then(|id| u64::from_str_radix(id, 16).ok()).unwrap_or_default();
    let up = field("uptime_in_seconds").and_then(|seconds| seconds.parse().ok());
    // Who does not say is not taken for one that has just been started.
    Ok((history, up.map_or(Duration::MAX, Duration::from_secs)))
}

/// At most one connection, and one caller at a time.
#[derive(Default)]
pub(super) struct Lane {
    slot: Mutex<Slot>,
    freed: Condvar,
}

#[derive(Default)]
enum Slot {
    #[default]
    Empty,
    Busy,
    Opening(Receiver<Result<Link, Error>>),
    Open(Link),
}

impl Lane {
    /// Gives the connection to `talk`, and closes it if that fails.
    pub(super) fn with<T>(
        &self,
        server: &Arc<Server>,
        until: Instant,
        talk: impl FnOnce(&mut Link) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut turn = self.turn(until)?;
        let mut link = turn.link(server, until)?;
        let result = talk(&mut link)?;
        turn.slot = Slot::Open(link);
        Ok(result)
    }

    fn turn(&self, until: Instant) -> Result<Turn<'_>, Error> {
        let busy = |slot: &mut Slot| matches!(slot, Slot::Busy);
        let mut slot = self.lock();
        while busy(&mut slot) {
            let waited = self.freed.wait_timeout_while(slot, left(until)?, busy);
            slot = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(Turn { lane: self, slot: mem::replace(&mut slot, Slot::Busy) })
    }

    fn lock(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a lane held, for the one caller whose turn it is.
struct Turn<'a> {
    lane: &'a Lane,
    slot: Slot,
}

impl Turn<'_> {
    fn link(&mut self, server: &Arc<Server>, until: Instant) -> Result<Link, Error> {
        loop {
            self.slot = match mem::take(&mut self.slot) {
                Slot::Open(link) if link.epoch == server.epoch() => return Ok(link),
                Slot::Opening(answer) => match answer.recv_timeout(left(until)?) {
                    Ok(link) => Slot::Open(link?),
                    Err(RecvTimeoutError::Timeout) => {
                        // Whoever comes next waits for the same thread.
                        self.slot = Slot::Opening(answer);
                        return Err(Error::backend(SILENT));
                    }
                    Err(RecvTimeoutError::Disconnected) => {
                        return Err(Error::backend("connecting to the server failed"));
                    }
                },
                Slot::Open(_) | Slot::Empty | Slot::Busy => Slot::Opening(server.open()?),
            }
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *self.lane.lock() = mem::take(&mut self.slot);
        self.lane.freed.notify_one();
    }
}

/// A connection that is signed in, to a server that can keep a log.
pub(super) struct Link {
    connection: Connection,
    history: u64,
    /// For how long the server had been up, when this was opened.
    up: Duration,
    born: Instant,
    epoch: u64,
}

impl Link {
    /// Another number after the server was restarted, or another one took over: its
    /// `master_replid`.
    pub(super) const fn history(&self) -> u64 {
        self.history
    }

    /// For how long the server has been up.
    pub(super) fn up(&self) -> Duration {
        self.up.saturating_add(monotonic().saturating_duration_since(self.born))
    }

    /// Sends the commands in one go and collects the answers. The first error among them is the
    /// result, except for a key that is missing, which is nil.
    ///
    /// Not by the client's own `query`: that grants the time limit to each answer anew, so a batch of
    /// 5,000 on a server that is frozen would take hours.
    pub(super) fn ask(&mut self, commands: &Pipeline, until: Instant) -> Result<Vec<Value>, Error> {
        // TLS reads while it writes.
        self.connection.set_read_timeout(Some(left(until)?)).map_err(explain)?;
        self.connection.set_write_timeout(Some(left(until)?)).map_err(explain)?;
        self.connection.send_packed_command(&commands.get_packed_pipeline()).map_err(explain)?;
        let brackets = if commands.is_transaction() { 2 } else { 0 };
        let mut answers = Vec::new();
        for _ in 0..commands.len().saturating_add(brackets) {
            self.connection.set_read_timeout(Some(left(until)?)).map_err(explain)?;
            let answer = self.connection.recv_response().map_err(explain)?;
            answers.push(match answer.extract_error() {
                Err(error) if error.detail() == Some("no such key") => Value::Nil,
                answer => answer.map_err(explain)?,
            });
        }
        Ok(answers)
    }
}

/// The time left.
fn left(until: Instant) -> Result<Duration, Error> {
    let left = until.saturating_duration_since(monotonic());
    if left.is_zero() { Err(Error::backend(SILENT)) } else { Ok(left) }
}

/// Says what an operator can do about it, where that is known.
fn explain(error: RedisError) -> Error {
    let detail = error.detail().unwrap_or_default();
    // Of a transaction, EXECABORT tells the reason in words only.
    let code = error.code().map(|code| match code {
        "EXECABORT" if detail.contains("OOM ") => "OOM",
        "EXECABORT" if detail.contains("NOPERM ") => "NOPERM",
        code => code,
    });
    match code {
        Some("NOPERM") => Error::config(format!(
            "the user may not do all that is needed, which is {COMMANDS}: {detail}"
        )),
        Some("ERR") if detail.starts_with("unknown command") => {
            Error::config(format!("the server lacks a command; needed are {COMMANDS}: {detail}"))
        }
        Some("WRONGPASS" | "NOAUTH") => {
            Error::config("the server refuses the user and password of the URL, or asks for one")
        }
        Some("WRONGTYPE") => {
            Error::config("the keys of the log hold something else: use another list name")
        }
        Some("READONLY") => Error::backend(REPLICA),
        Some("OOM") => Error::backend(FULL),
        Some("MOVED" | "ASK" | "CLUSTERDOWN" | "TRYAGAIN" | "CROSSSLOT") => {
            Error::backend(format!("{CLUSTER}: {error}"))
        }
        _ if error.is_timeout() => Error::backend(SILENT),
        _ => Error::backend(error),
    }
}

/// For a connection with all that comes before the first command of a log.
const CONNECT: Duration = Duration::from_secs(1);

const FORM: &str = "the address of a Redis server is redis://[user:password@]host[:port][/db], or \
                    rediss://.. with TLS; what is special in a URL must be percent-encoded";
const COMMANDS: &str = "INFO, TIME, MULTI, EXEC, GET, SET, SADD, SMEMBERS, XADD, XREAD, XTRIM, XINFO \
                        STREAM, and SELECT for a database other than 0, on the keys \
                        {sealed-session:LIST}:*";
const SILENT: &str = "the server did not answer in time";
const REPLICA: &str = "the server is a replica, which cannot take revocations and does not know the \
                       latest: give the address of the primary";
const FULL: &str =
    "the server is full and took no new revocations: raise its maxmemory, or free some";
const CLUSTER: &str = "the server is a node of a cluster that does not hold the log: give the address \
                       of the one that does";
