//! A revocation log of your own, over an asynchronous client.
//!
//! Run it with `cargo run --example async_log`. Two instances of an application follow one log: what
//! one revokes, the other refuses. It prints who is let in; the output stands in
//! `tests/expected/async_log.txt`. `revocation::conformance` proves a log like this one.
#![allow(clippy::print_stdout, reason = "its output is what it is for")]

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use sealed_session::revocation::{Cursor, Lineage, Page, Revocation, RevocationLog};
use sealed_session::{Error, KeyRing, RevocationList, SessionManager, Target};
use tokio::runtime::{Builder, Runtime};
use tokio::{sync::watch, time::timeout};

fn main() -> Result<(), Error> {
    let (log, ring) = (Arc::new(AsyncLog::connect()?), KeyRing::for_tests()?.expose_text());
    let instance = || {
        // This log cannot be lost. The default, 10 s, is a good one for any that can.
        let list = RevocationList::builder(Arc::clone(&log)).settle(Duration::ZERO).build()?;
        SessionManager::builder("shop", ring.parse::<KeyRing>()?).revocations(list).build()
    };
    let (one, other) = (instance()?, instance()?);

    let token = one.bearer::<()>().issue("alice")?;
    println!("the other lets in: {:?}", other.bearer::<()>().open(&token)?.subject());
    one.revoke(Target::subject("alice"))?.wait()?;
    println!("one has ended alice's sessions, durably");
    // Milliseconds later it would know by itself.
    other.revocations().map_or(Ok(()), |list| list.catch_up().wait())?;
    let opened = other.bearer::<()>().open(&token).map(drop);
    println!("the other answers: {:?}", opened.map_err(|error| error.kind()));
    Ok(())
}

struct AsyncLog {
    /// Stands for an asynchronous client, and for the database behind it.
    client: watch::Sender<Vec<Vec<u8>>>,
    id: [u8; 16],
    born: SystemTime,
    /// Its own: the threads of a list may need it longer than `main` does.
    runtime: Runtime,
}

impl AsyncLog {
    fn connect() -> Result<Self, Error> {
        // Not `new_current_thread`, whose timers and sockets rest while other threads block.
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let (id, born) = (Lineage::new_id()?, SystemTime::now());
        let client = watch::Sender::default();
        Ok(Self { client, id, born, runtime: runtime.map_err(Error::backend)? })
    }

    /// Waits for a call of the client, `limit` at most.
    fn wait<T>(&self, limit: Duration, call: impl Future<Output = T>) -> Result<T, Error> {
        // In a future, since a timer begins inside the runtime only.
        self.runtime.block_on(async { timeout(limit, call).await }).map_err(Error::backend)
    }
}

const LIMIT: Duration = Duration::from_millis(1_500);

impl RevocationLog for AsyncLog {
    fn append(&self, facts: &[Revocation]) -> Result<(), Error> {
        let rows = facts.iter().map(Revocation::to_bytes);
        self.wait(LIMIT, async { self.client.send_modify(|table| table.extend(rows)) })
    }

    fn read(&self, after: Option<&Cursor>, wait: Duration) -> Result<Page, Error> {
        let place = after.map_or(Ok([0; 8]), |after| after.as_bytes().try_into());
        let place = usize::from_be_bytes(place.map_err(Error::backend)?);
        let mut news = self.client.subscribe();
        // That none came in time is no error …
        let _ = self.wait(wait, news.wait_for(|table| table.len() > place));
        // … but that the database does not answer is: it must not look as if there were no news.
        let select = async { self.client.borrow().iter().skip(place).cloned().collect() };
        let rows: Vec<Vec<u8>> = self.wait(LIMIT, select)?;
        let next = Cursor::new(place.saturating_add(rows.len()).to_be_bytes());
        // The time is the database's, read in the same query.
        let mut page = Page::new(Lineage::new(self.id, self.born, SystemTime::now()), next);
        for row in &rows {
            page.push(row);
        }
        Ok(page)
    }
}
