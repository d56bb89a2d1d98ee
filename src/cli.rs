//! The operator's command: key rings, tokens, configurations and revocations, from a shell.
//!
//! What is asked for goes to standard output, all else to standard error. No command shows a key: the
//! text of a ring goes into its file and nowhere else.

mod args;
mod check;
mod config_check;
mod inspect;
mod keys;
mod log;
mod pasted;
mod revocations;
mod revoke;
mod ring_file;
mod rotate;
mod settings;
mod show;

use std::error::Error as StdError;
use std::io::{self, Write};
use std::process::ExitCode;

use anstream::AutoStream;
use clap::{CommandFactory as _, Parser as _};

use args::{Command, ConfigCommand, KeysCommand, Line, RevocationsCommand};

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let line = match Line::try_parse() {
        Ok(line) => line,
        Err(refused) => {
            // Where nobody reads it, there is nobody to tell.
            let _ = tell_refused(&refused);
            return ExitCode::from(u8::try_from(refused.exit_code()).unwrap_or(2));
        }
    };
    let mut streams = Streams {
        out: Willing::new(AutoStream::auto(io::stdout())),
        err: Willing::new(AutoStream::auto(io::stderr())),
    };
    match run(line.command, &mut streams)
        .and_then(|status| Ok(streams.out.flush().map(|()| status)?))
    {
        Ok(status) => ExitCode::from(status as u8),
        Err(error) => {
            let _ = writeln!(streams.err, "sealed-session: {}", chain(&*error));
            ExitCode::from(Status::Unusable as u8)
        }
    }
}

/// Tells what is wrong with the command line, which may have been given a key in place of its id.
fn tell_refused(refused: &clap::Error) -> io::Result<()> {
    let text = refused.to_string();
    if text.contains(settings::KEY_PREFIX) {
        return writeln!(io::stderr(), "{}", settings::without_keys(&text));
    }
    refused.print()
}

/// What a command ends with.
#[derive(Clone, Copy, Debug)]
enum Status {
    Well = 0,
    /// Something is due, or wrong but usable; a token that would be refused.
    Finding = 1,
    Unusable = 2,
}

/// Whatever went wrong: it is only shown, and the exit status is 2.
type Failure = Box<dyn StdError>;

/// Standard output and standard error.
struct Streams {
    out: Willing<AutoStream<io::Stdout>>,
    err: Willing<AutoStream<io::Stderr>>,
}

impl Streams {
    fn warn(&mut self, text: &str) -> Result<(), Failure> {
        Ok(writeln!(self.err, "{}: {text}", show::yellow("warning"))?)
    }
}

/// A writer that goes on when nobody reads any more, so that the exit status stays what it is.
struct Willing<W> {
    inner: W,
    /// Nobody reads any more.
    gone: bool,
}

impl<W> Willing<W> {
    const fn new(inner: W) -> Self {
        Self { inner, gone: false }
    }
}

impl<W: Write> Write for Willing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.inner.write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.gone = true;
                Ok(bytes.len())
            }
            written => written,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.inner.flush() {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.gone = true;
                Ok(())
            }
            flushed => flushed,
        }
    }
}

fn run(command: Command, streams: &mut Streams) -> Result<Status, Failure> {
    match command {
        Command::Keys(KeysCommand::New(new)) => keys::new(&new, streams),
        Command::Keys(KeysCommand::Rotate(rotate)) => rotate::rotate(&rotate, streams),
        Command::Keys(KeysCommand::List(list)) => keys::list(&list, streams),
        Command::Keys(KeysCommand::Check(check)) => keys::check(&check, streams),
        Command::Inspect(inspect) => inspect::inspect(&inspect, streams),
        Command::Config(ConfigCommand::Check(check)) => config_check::check(&check, streams),
        Command::Revoke(revoke) => revoke::revoke(&revoke, streams),
        Command::Revocations(RevocationsCommand::List(list)) => revocations::list(&list, streams),
        Command::Revocations(RevocationsCommand::Stats(stats)) => {
            revocations::stats(&stats, streams)
        }
        Command::Revocations(RevocationsCommand::Follow(follow)) => {
            revocations::follow(&follow, streams)
        }
        Command::Completions { shell } => {
            // Into memory first: the generator panics where it cannot write.
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Line::command(), NAME, &mut text);
            streams.out.write_all(&text)?;
            Ok(Status::Well)
        }
        Command::Man => {
            let mut all = Line::command();
            all.build();
            man(&all, streams)?;
            Ok(Status::Well)
        }
    }
}

const NAME: &str = "sealed-session";

/// Writes the manual page of a command, and those of its subcommands after it.
fn man(command: &clap::Command, streams: &mut Streams) -> Result<(), Failure> {
    clap_mangen::Man::new(command.clone()).render(&mut streams.out)?;
    let shown = |sub: &&clap::Command| !sub.is_hide_set() && sub.get_name() != "help";
    command.get_subcommands().filter(shown).try_for_each(|sub| man(sub, streams))
}

/// The error with all its causes, on one line.
fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    settings::without_keys(&text)
}
