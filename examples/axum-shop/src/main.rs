//! A small shop on axum whose sessions are sealed into the cookie.
//!
//! Run it with `cargo run -p axum-shop` and open the address that it prints. Sign in as `alice`
//! with `wonderland` or as `bob` with `builder`. Nothing needs JavaScript.
//!
//! | variable | meaning | default |
//! |---|---|---|
//! | `ADDR` | where to listen | `127.0.0.1:3000` |
//! | `DATA` | the directory of the key file `session.keys` and of `revocations.db`, made at the first start | `target/axum-shop` |
//! | `INSECURE_HTTP_COOKIE=1` | a cookie without `Secure`, for a browser that drops the default one on plain http | off |
//! | `CONFIG` | a TOML file whose table `[session]` has all settings of sessions, those of keys and cookie in place of the two above | none |
//!
//! Sessions that were ended early are listed in `revocations.db`, an `SQLite` database that all
//! shops with the same `DATA` follow. Shops on several machines follow a Redis or a `PostgreSQL`,
//! which `CONFIG` names:
//!
//! ```toml
//! [session.revocation]
//! backend = "redis"            # or "postgres"
//! url_variable = "SHOP_REDIS"  # the environment variable with the address
//! ```
//!
//! If the list cannot be read for 30 s, pages that look at the session answer 503 until it can, and
//! nobody is signed out. `sealed-session revoke --config FILE --subject alice` ends sessions by
//! hand.
//!
//! | signal | what the shop does |
//! |---|---|
//! | `SIGHUP` | reads the keys at once, which it otherwise does every 30 s; the log says how it went |
//! | `SIGTERM`, `SIGINT` | stops |
//!
//! What to copy from where: `sessions` below builds the session manager, from the shop's own
//! settings or from a file of them, `revocation_log` says where the list is kept, `reload_at_hangup` is the signal
//! handler, `keys` makes the key file, `guard` checks every form, `shop` handles the requests,
//! `pages` draws a page around the errors of sessions.

mod accounts;
mod cart;
mod guard;
mod keys;
mod pages;
mod shop;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use std::{env, error, fs};

use sealed_session::revocation::SqliteLog;
use sealed_session::{
    Config, Cookie, FileKeys, KeyRing, RevocationList, SessionManager, SessionManagerBuilder,
    TracingObserver,
};
use serde::Deserialize;
use tokio::net::TcpListener;

/// What stops the shop, as text for whoever started it.
type Trouble = Box<dyn error::Error + Send + Sync>;

/// How long a stop waits for visitors whose answer is under way.
const LAST_ANSWERS: Duration = Duration::from_secs(5);

#[tokio::main]
async fn main() -> ExitCode {
    // On stderr, since stdout is for the address alone.
    tracing_subscriber::fmt().with_writer(io::stderr).init();
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(trouble) => {
            eprintln!("axum-shop: {trouble}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Trouble> {
    let sessions = sessions()?;
    let addr = setting("ADDR", "127.0.0.1:3000")?;
    let listener = TcpListener::bind(&addr)
        .await
        .map_err(|error| format!("cannot listen on ADDR={addr}: {error}"))?;
    // Before anyone learns the address: from then on signals may come.
    reload_at_hangup(&sessions)?;
    let (told, told_as_well) = (told_to_stop()?, told_to_stop()?);
    writeln!(io::stdout(), "http://{}/", listener.local_addr()?)?;

    let serving = axum::serve(listener, shop::router(sessions)).with_graceful_shutdown(told);
    tokio::select! {
        ended = serving.into_future() => Ok(ended?),
        // A request that never ends must not keep the process.
        () = grace_after(told_as_well) => Ok(()),
    }
}

/// The session manager of the shop.
///
/// Reading the revocations blocks, for some seconds if their database is away. No visitor has to
/// wait: the shop does not listen yet.
fn sessions() -> Result<SessionManager, Trouble> {
    let builder = match setting("CONFIG", "")?.as_str() {
        "" => by_default()?,
        path => by_config(path).map_err(|trouble| format!("CONFIG={path}: {trouble}"))?,
    };
    Ok(builder.observer(TracingObserver::default()).build()?)
}

/// With the shop's own key file.
fn by_default() -> Result<SessionManagerBuilder, Trouble> {
    let path = data()?.join("session.keys");
    keys::make_if_missing(&path)?;
    let keys = KeyRing::watch(FileKeys::new(path))?;
    let cookie = match setting("INSECURE_HTTP_COOKIE", "0")?.as_str() {
        "1" => Cookie::insecure_http_cookie(),
        _ => Cookie::default(),
    };
    let builder = SessionManager::builder("axum-shop", keys);
    Ok(builder.cookie(cookie).revocations(RevocationList::builder(revocation_log()?).build()?))
}

/// With all settings from the table `[session]` of the file at `path`.
fn by_config(path: &str) -> Result<SessionManagerBuilder, Trouble> {
    let text = fs::read_to_string(path)?;
    let ConfigFile { session } = toml::from_str(&text).map_err(|error| fault(&text, &error))?;
    let builder = SessionManager::from_config(&session)?;
    if session.has_revocations() {
        return Ok(builder);
    }
    Ok(builder.revocations(session.revocations_in(revocation_log()?)?.build()?))
}

/// What is wrong with a file and in which line, without the line: it may hold a password.
fn fault(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    format!("line {}: {}", before.matches('\n').count().saturating_add(1), error.message())
}

/// The sessions that were ended early, in a database that all shops with this `DATA` share.
fn revocation_log() -> Result<SqliteLog, Trouble> {
    let data = data()?;
    keys::make_directory(&data).map_err(|error| format!("{}: {error}", data.display()))?;
    Ok(SqliteLog::new(data.join("revocations.db")))
}

/// Where the shop keeps what is its own.
fn data() -> Result<PathBuf, Trouble> {
    Ok(setting("DATA", "target/axum-shop")?.into())
}

/// Other tables of the file may belong to other parts of an application.
#[derive(Deserialize)]
struct ConfigFile {
    session: Config,
}

/// The environment variable `name`, or what holds without it.
fn setting(name: &str, default: &str) -> Result<String, Trouble> {
    match env::var(name) {
        Ok(value) => Ok(value),
        Err(env::VarError::NotPresent) => Ok(default.to_owned()),
        Err(error) => Err(format!("{name}: {error}").into()),
    }
}

/// Reads the keys anew, from this call on, whenever SIGHUP comes.
#[cfg(unix)]
fn reload_at_hangup(sessions: &SessionManager) -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};

    let Some(keys) = sessions.keys().watched().cloned() else { return Ok(()) };
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            let keys = keys.clone();
            // It waits for a file, so not on a thread that serves visitors.
            let reload = tokio::task::spawn_blocking(move || {
                keys.reload_now().map(|()| keys.ring().fingerprint())
            });
            match reload.await {
                Ok(Ok(ring)) => tracing::info!(ring, "SIGHUP: keys read"),
                Ok(Err(error)) => tracing::warn!(%error, "SIGHUP: keys not read"),
                Err(error) => tracing::error!(%error, "SIGHUP: keys not read"),
            }
        }
    });
    Ok(())
}

/// There is no such signal: the keys are read now and again, which is enough.
#[cfg(windows)]
fn reload_at_hangup(_: &SessionManager) -> io::Result<()> {
    Ok(())
}

/// Waits until it is told to stop, and then for as long as answers under way may take.
async fn grace_after(told: impl Future<Output = ()>) {
    told.await;
    tokio::time::sleep(LAST_ANSWERS).await;
}

/// Waits, from this call on, for Ctrl-C or, as service managers do it, SIGTERM.
#[cfg(unix)]
fn told_to_stop() -> io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};

    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// Waits, from this call on, for Ctrl-C.
#[cfg(windows)]
fn told_to_stop() -> io::Result<impl Future<Output = ()>> {
    let mut interrupt = tokio::signal::windows::ctrl_c()?;
    Ok(async move {
        let _ = interrupt.recv().await;
    })
}
