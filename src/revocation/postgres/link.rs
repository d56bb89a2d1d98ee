//! Connections that are never waited for longer than a limit.

use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use tokio::runtime::{self, Runtime};
use tokio::time::error::Elapsed;
use tokio::time::{sleep, timeout};
use tokio_postgres::config::SslMode;
use tokio_postgres::error::{DbError, SqlState};
use tokio_postgres::tls::MakeTlsConnect;
pub(super) use tokio_postgres::types::ToSql;
use tokio_postgres::types::Type;
use tokio_postgres::{AsyncMessage, Client, Config, Connection, Row, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::clock::monotonic;
use crate::error::Error;

/// For a connection and what is asked on it; what a call is promised to take at most is 2 s.
pub(super) const STEP: Duration = Duration::from_millis(1_500);
/// For taking a question back.
const CANCEL: Duration = Duration::from_millis(300);
/// The longest wait, which no list comes near.
const LONGEST_WAIT: Duration = Duration::from_secs(3_600);

/// How long a call may take.
pub(super) struct Limit {
    began: Instant,
    wait: Duration,
}

impl Limit {
    pub(super) fn new(wait: Duration) -> Self {
        Self { began: monotonic(), wait: wait.min(LONGEST_WAIT) }
    }

    /// Of the wait for news.
    pub(super) fn left_to_wait(&self) -> Duration {
        self.wait.saturating_sub(monotonic().saturating_duration_since(self.began))
    }

    /// For the next step.
    fn step(&self) -> Duration {
        let all = self.wait.saturating_add(STEP);
        all.saturating_sub(monotonic().saturating_duration_since(self.began)).min(STEP)
    }
}

/// A connection for one purpose, and whoever uses it now.
#[derive(Default)]
pub(super) struct Lane {
    pub(super) listens: bool,
    slot: Mutex<Slot>,
    given_back: Condvar,
}

#[derive(Default)]
struct Slot {
    taken: bool,
    link: Option<Link>,
}

impl Lane {
    /// One that is told of news.
    pub(super) fn listening() -> Self {
        Self { listens: true, ..Self::default() }
    }

    /// Takes the lane, with its connection if there is one.
    pub(super) fn take(&self, limit: &Limit) -> Result<Taken<'_>, Failure> {
        let mut slot = self.slot();
        while slot.taken {
            let left = limit.left_to_wait().max(limit.step());
            if left.is_zero() {
                return Err(Failure::Slow);
            }
            let waited = self.given_back.wait_timeout(slot, left);
            slot = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        slot.taken = true;
        Ok(Taken { lane: self, link: slot.link.take() })
    }

    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A lane that was taken. What is in `link` in the end stays connected.
pub(super) struct Taken<'a> {
    lane: &'a Lane,
    pub(super) link: Option<Link>,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let mut slot = self.lane.slot();
        *slot = Slot { taken: false, link: self.link.take() };
        drop(slot);
        self.lane.given_back.notify_one();
    }
}

/// A connection, and a runtime of its own, which turns only while the connection is used.
pub(super) struct Link {
    talk: Talk,
    runtime: Option<Runtime>,
}

impl Link {
    pub(super) fn connect(
        config: &Config,
        roots: Option<&RootCertStore>,
        limit: &Limit,
    ) -> Result<Self, Failure> {
        let tls = tls(config, roots)?;
        let runtime = runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(Error::backend)?;
        let connecting = async { timeout(limit.step(), config.connect(tls.clone())).await };
        match runtime.block_on(connecting) {
            Ok(Ok((client, wire))) => {
                let talk = Talk { client, wire, tls, has_news: false };
                Ok(Self { talk, runtime: Some(runtime) })
            }
            failed => {
                // It may be looking up a name, for longer than we have.
                runtime.shutdown_background();
                Err(failed.map_or(Failure::Slow, |failed| match failed {
                    Ok(_) => Failure::Strange,
                    Err(error) => error.into(),
                }))
            }
        }
    }

    pub(super) fn block_on<T>(
        &mut self,
        work: impl AsyncFnOnce(&mut Talk) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let runtime = self.runtime.as_ref().ok_or(Failure::Strange)?;
        runtime.block_on(work(&mut self.talk))
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // To drop a runtime waits for its threads, which must not be done inside another.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

type Wire = Connection<Socket, <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream>;

/// What is said on a connection.
pub(super) struct Talk {
    client: Client,
    wire: Wire,
    tls: MakeRustlsConnect,
    has_news: bool,
}

impl Talk {
    /// Asks without a prepared statement: poolers do not keep those.
    pub(super) async fn query(
        &mut self,
        sql: &str,
        params: &[(&(dyn ToSql + Sync), Type)],
        limit: &Limit,
    ) -> Result<Vec<Row>, Failure> {
        let answer = self.client.query_typed(sql, params);
        let answer = drive(&mut self.wire, &mut self.has_news, answer);
        let answer = timeout(limit.step(), answer).await;
        self.in_time(answer).await
    }

    /// Says several things at once, without parameters.
    pub(super) async fn batch(&mut self, sql: &str, limit: &Limit) -> Result<(), Failure> {
        let answer = self.client.batch_execute(sql);
        let answer = drive(&mut self.wire, &mut self.has_news, answer);
        let answer = timeout(limit.step(), answer).await;
        self.in_time(answer).await
    }

    /// Forgets that it was notified: what follows is read after that.
    pub(super) fn forget_news(&mut self) {
        self.has_news = false;
    }

    /// Waits until it is notified.
    pub(super) async fn doze(&mut self, at_most: Duration) -> Result<(), Failure> {
        let mut rest = pin!(sleep(at_most));
        poll_fn(|context| {
            receive(&mut self.wire, &mut self.has_news, context)?;
            if self.has_news {
                return Poll::Ready(Ok(()));
            }
            rest.as_mut().poll(context).map(Ok)
        })
        .await
    }

    /// What is not answered in time may be waiting for a lock: it would go on to, and the next attempt
    /// beside it, until the server has no connection left for others.
    async fn in_time<T>(&self, answer: Result<Result<T, Failure>, Elapsed>) -> Result<T, Failure> {
        if let Ok(answer) = answer {
            return answer;
        }
        let cancel = self.client.cancel_token();
        let _ = timeout(CANCEL, cancel.cancel_query(self.tls.clone())).await;
        Err(Failure::Slow)
    }
}

/// Moves the connection until the work is done.
async fn drive<T>(
    wire: &mut Wire,
    has_news: &mut bool,
    work: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, Failure> {
    let mut work = pin!(work);
    poll_fn(|context| {
        receive(wire, has_news, context)?;
        work.as_mut().poll(context).map_err(Failure::Postgres)
    })
    .await
}

/// Takes in what has arrived, and sends what is to be sent.
fn receive(wire: &mut Wire, has_news: &mut bool, context: &mut Context<'_>) -> Result<(), Failure> {
    while let Poll::Ready(message) = wire.poll_message(context) {
        let message = message.ok_or(Failure::Strange)??;
        *has_news |= matches!(message, AsyncMessage::Notification(_));
    }
    Ok(())
}

fn tls(config: &Config, roots: Option<&RootCertStore>) -> Result<MakeRustlsConnect, Failure> {
    let mut trusted = RootCertStore::empty();
    match roots {
        Some(roots) => trusted = roots.clone(),
        None if config.get_ssl_mode() == SslMode::Disable => {}
        None => {
            let platform = rustls_native_certs::load_native_certs();
            trusted.add_parsable_certificates(platform.certs);
        }
    }
    // The application may have compiled in several providers, and named none.
    let provider = Arc::new(ring::default_provider());
    let versions =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = versions.map_err(Error::backend)?;
    let config = builder.with_root_certificates(trusted).with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

/// Why a call failed.
pub(super) enum Failure {
    Log(Error),
    Postgres(tokio_postgres::Error),
    Slow,
    Strange,
}

impl Failure {
    pub(super) fn into_error(self) -> Error {
        let error = match self {
            Self::Log(error) => return error,
            Self::Slow => return Error::backend("no answer in time"),
            Self::Strange => return Error::backend("an answer that makes no sense"),
            Self::Postgres(error) => error,
        };
        let advice = match error.code() {
            Some(code) if *code == SqlState::INSUFFICIENT_PRIVILEGE => {
                "run postgres.sql as the owner, and grant what it says"
            }
            Some(code)
                if [UNDEFINED_COLUMN, UNDEFINED_FUNCTION, DATATYPE].contains(&code.code()) =>
            {
                "its tables have another shape than those of postgres.sql"
            }
            Some(code) if REFUSED.contains(&code.code()) => {
                "the user or the database of the URL is refused"
            }
            _ => return Error::backend(error),
        };
        let why = error.as_db_error().map(DbError::message).unwrap_or_default();
        Error::config(format!("{why}: {advice}"))
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Log(error)
    }
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Postgres(error)
    }
}

/// Invalid user, password, or no such database.
const REFUSED: [&str; 3] = ["28000", "28P01", "3D000"];
const UNDEFINED_COLUMN: &str = "42703";
const UNDEFINED_FUNCTION: &str = "42883";
const DATATYPE: &str = "42804";
