//! A small shop on axum whose sessions are sealed into the cookie.
//!
//! Run it with `cargo run -p axum-shop` and open the address that it prints. Sign in as `alice`
//! with `wonderland` or as `bob` with `builder`. Nothing needs JavaScript.
//!
//! | variable | meaning | default |
//! |---|---|---|
//! | `ADDR` | where to listen | `127.0.0.1:3000` |
//! | `DATA` | the directory of the key file | `target/axum-shop` |
//! | `INSECURE_HTTP_COOKIE=1` | a cookie without `Secure`, for a browser that drops the default one on plain http | off |
//!
//! What to copy from where: `sessions` below builds the session manager, `keys` keeps the key file,
//! `guard` checks every form, `shop` handles the requests.

mod accounts;
mod cart;
mod guard;
mod keys;
mod pages;
mod shop;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use std::{env, error};

use sealed_session::{Cookie, RevocationList, SessionManager, TracingObserver};
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
    let data = PathBuf::from(setting("DATA", "target/axum-shop")?);
    let router = shop::router(sessions(&data)?);

    let addr = setting("ADDR", "127.0.0.1:3000")?;
    let listener = TcpListener::bind(&addr)
        .await
        .map_err(|error| format!("cannot listen on ADDR={addr}: {error}"))?;
    // Before anyone learns the address: from then on a stop may follow.
    let (told, told_as_well) = (told_to_stop()?, told_to_stop()?);
    writeln!(io::stdout(), "http://{}/", listener.local_addr()?)?;

    let serving = axum::serve(listener, router).with_graceful_shutdown(told);
    tokio::select! {
        ended = serving.into_future() => Ok(ended?),
        // A request that never ends must not keep the process.
        () = grace_after(told_as_well) => Ok(()),
    }
}

/// The session manager of the shop, with its keys in `data`.
fn sessions(data: &Path) -> Result<SessionManager, Trouble> {
    let ring = keys::load_or_create(&data.join("session.keys"))?;
    let cookie = match setting("INSECURE_HTTP_COOKIE", "0")?.as_str() {
        "1" => Cookie::insecure_http_cookie(),
        _ => Cookie::default(),
    };
    let sessions = SessionManager::builder("axum-shop", ring)
        .cookie(cookie)
        // Forgotten at a restart, while the keys are kept: a copy of a cookie that was signed out
        // before lives again, until its limits. A shop that cannot accept that, or that runs in
        // several processes, needs a shared list.
        .revocations(RevocationList::in_process())
        .observer(TracingObserver::default())
        .build()?;
    Ok(sessions)
}

/// The environment variable `name`, or what holds without it.
fn setting(name: &str, default: &str) -> Result<String, Trouble> {
    match env::var(name) {
        Ok(value) => Ok(value),
        Err(env::VarError::NotPresent) => Ok(default.to_owned()),
        Err(error) => Err(format!("{name}: {error}").into()),
    }
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
