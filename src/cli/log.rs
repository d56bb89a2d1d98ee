//! The revocation log of a configuration, asked so that it cannot make a command hang.

use std::io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use super::args::LogArgs;
use super::settings::{self, Settings};
use super::{Failure, Streams, chain, show};
use crate::config::Config;
use crate::error::Error;
use crate::policy::Policy;
use crate::revocation::outside::Reading;
use crate::revocation::{Cursor, Page, Realm, Revocation, RevocationLog};

/// A log that other processes share, and whose it is.
pub(super) struct Log {
    shared: Arc<dyn RevocationLog>,
    /// Fit to be shown.
    pub(super) name: String,
    pub(super) realm: Realm,
    pub(super) policy: Policy,
}

impl Log {
    pub(super) fn of(args: &LogArgs) -> Result<Self, Failure> {
        let Settings { config, place } = settings::read(&args.config, args.section.as_deref())?;
        config.validate().map_err(|error| error.at(&place))?;
        match Self::of_config(&config).map_err(|error| error.at(&place))? {
            Some(log) => Ok(log),
            None => Err(format!("{place}: {}", no_log(&config)).into()),
        }
    }

    /// None where no other process can reach the list.
    pub(super) fn of_config(config: &Config) -> Result<Option<Self>, Error> {
        let Some(log) = config.revocation_log()? else { return Ok(None) };
        let name = settings::without_keys(&show::harmless(&log.name()));
        let (realm, policy) = (Realm::new(config.realm()), config.policy()?);
        Ok(Some(Self { shared: log.into(), name, realm, policy }))
    }

    /// Reads all of it.
    pub(super) fn read_all(&self) -> Result<Reading, Failure> {
        Reading::of(|after| self.read(after, Duration::ZERO))
    }

    /// Reads what came after a place, and waits for it.
    pub(super) fn read(&self, after: Option<Cursor>, wait: Duration) -> Result<Page, Failure> {
        self.within(wait.saturating_add(LIMIT), move |log| log.read(after.as_ref(), wait))
    }

    /// Adds a fact, durably.
    pub(super) fn append(&self, fact: Revocation) -> Result<(), Failure> {
        self.within(LIMIT, move |log| log.append(&[fact]))
    }

    /// A log keeps its own time limit. The one here is for what has none, such as a disk.
    fn within<T: Send + 'static>(
        &self,
        limit: Duration,
        ask: impl FnOnce(&dyn RevocationLog) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Failure> {
        let (sender, receiver) = mpsc::sync_channel(1);
        let log = Arc::clone(&self.shared);
        // Where nobody waits any more, there is nobody to tell.
        thread::Builder::new().spawn(move || drop(sender.send(ask(&*log))))?;
        match receiver.recv_timeout(limit) {
            Ok(answer) => Ok(answer?),
            Err(RecvTimeoutError::Timeout) => {
                Err(format!("{}: no answer within {}", self.name, show::length(limit)).into())
            }
            Err(RecvTimeoutError::Disconnected) => {
                Err(format!("{}: the log panicked", self.name).into())
            }
        }
    }
}

/// For one call beyond its wait: twice what a log gives itself.
const LIMIT: Duration = Duration::from_secs(4);

/// Why there is no log to ask.
fn no_log(config: &Config) -> String {
    let settings = config.revocation_in_force().unwrap_or_default();
    match settings.first().map(|(_, backend)| &**backend) {
        None => "it has no table revocation, so this command cannot tell where the list is: write \
                 backend, and what that needs"
            .to_owned(),
        Some("none") => "revocation.backend: \"none\": there is no list".to_owned(),
        Some(backend) => format!(
            "revocation.backend: \"{backend}\": a process's own list cannot be reached from outside: \
             write backend = \"sqlite\", \"redis\" or \"postgres\""
        ),
    }
}

/// The subject that was given, or with `-` the one on standard input.
pub(super) fn subject(given: &str, streams: &mut Streams) -> Result<String, Failure> {
    let subject = if given == "-" { from_input(streams)? } else { given.to_owned() };
    match subject.len() {
        1..=255 => Ok(subject),
        _ => Err("the subject must have 1 to 255 bytes".into()),
    }
}

fn from_input(streams: &mut Streams) -> Result<String, Failure> {
    let stdin = io::stdin();
    if stdin.is_terminal() {
        writeln!(streams.err, "type the subject, then press Enter")?;
    }
    let (mut input, mut line) = (stdin.lock().take(1024), String::new());
    input.read_line(&mut line).map_err(|_| "standard input: not text: give one subject")?;
    let line =
        line.strip_suffix('\n').map_or(&*line, |line| line.strip_suffix('\r').unwrap_or(line));
    if !stdin.is_terminal() && input.bytes().next().is_some() {
        return Err("standard input: more than one line: give one subject".into());
    }
    Ok(line.to_owned())
}

/// Tells of a fact that only a newer release can read, or nobody.
pub(super) fn warn_unreadable(
    unreadable: Option<&Error>,
    log: &Log,
    streams: &mut Streams,
) -> Result<(), Failure> {
    let Some(error) = unreadable else { return Ok(()) };
    streams.warn(&format!("{}: what follows is without it: {}", log.name, chain(error)))
}
