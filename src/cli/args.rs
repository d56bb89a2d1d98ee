//! The command line: what may be asked for, and the help.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use crate::key::KeyId;
use crate::token::SessionId;

/// Keys, tokens and revocations of sealed-session
///
/// A key ring is a text file with one key a line. Servers read it and follow it
/// while they run; only this command writes it. Sessions are ended early by facts
/// in a log that the servers share; this command can add one.
#[derive(Parser)]
#[command(
    name = "sealed-session",
    version,
    verbatim_doc_comment,
    arg_required_else_help = true,
    after_help = "\
Start here:
  sealed-session keys new           make a ring in ./session.keys
  sealed-session keys --help        list it, rotate it, end a leaked key
  sealed-session revoke --help      end sessions of servers that run

Exit status:
  0  done, all is well    1  something is due or refused    2  unusable or not done"
)]
pub(super) struct Line {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Subcommand)]
pub(super) enum Command {
    /// Make, rotate, list and check a key ring.
    #[command(
        subcommand,
        after_help = "\
Example:
  sealed-session keys new        once
  sealed-session keys check      now and then: it says what to do"
    )]
    Keys(KeysCommand),
    Inspect(Inspect),
    /// Check a configuration.
    #[command(
        subcommand,
        after_help = "\
Example:
  sealed-session config check shop.toml"
    )]
    Config(ConfigCommand),
    Revoke(Revoke),
    /// Show what a revocation log holds.
    #[command(
        subcommand,
        after_help = "\
Example:
  sealed-session revocations stats --config shop.toml"
    )]
    Revocations(RevocationsCommand),
    /// Print a completion script for a shell
    ///
    /// The script goes to standard output; put it where the shell looks for completions.
    #[command(
        verbatim_doc_comment,
        after_help = "\
Example:
  sealed-session completions bash > ~/.local/share/bash-completion/completions/sealed-session"
    )]
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Print the manual pages
    ///
    /// The pages of all commands, one after the other, go to standard output as roff.
    #[command(
        verbatim_doc_comment,
        after_help = "\
Example:
  sealed-session man > /usr/local/share/man/man1/sealed-session.1"
    )]
    Man,
}

#[derive(Subcommand)]
pub(super) enum KeysCommand {
    New(New),
    Rotate(Rotate),
    List(List),
    Check(Check),
}

#[derive(Subcommand)]
pub(super) enum ConfigCommand {
    Check(ConfigCheck),
}

#[derive(Subcommand)]
pub(super) enum RevocationsCommand {
    List(RevocationsList),
    Stats(RevocationsStats),
    Follow(RevocationsFollow),
}

/// Make a ring of one fresh key
///
/// Writes a new file that only you can read. A file that exists is never touched:
/// `keys rotate` is what adds a key to a ring.
#[derive(Args)]
#[command(
    verbatim_doc_comment,
    after_help = "\
Example:
  sealed-session keys new /etc/shop/session.keys"
)]
pub(super) struct New {
    /// The file to make.
    #[arg(default_value = DEFAULT_FILE)]
    pub(super) file: PathBuf,
}

/// Add the next key, or end a leaked one
///
/// Adds a key that seals a day from now, so that there is time to bring the file to
/// every server; gives the key it follows its end; takes out keys that no session
/// needs. Running it again while a key waits changes nothing. Comments, mode and
/// owner of the file are kept, and if anything fails the file is as it was.
#[derive(Args)]
#[command(
    verbatim_doc_comment,
    after_help = "\
Examples:
  sealed-session keys rotate session.keys
      Add the next key.
  sealed-session keys rotate session.keys --if-due
      From cron: only when something is due, and else without a word.
  sealed-session keys rotate session.keys --revoke 1a2b3c4d --now
      The key leaked: end it and all its sessions, seal with a fresh one at once.
      Then bring the file to every server; sessions end there once it is read.

Exit status:
  0  done, or nothing to do    2  an error; the file is as it was, or the message says so"
)]
pub(super) struct Rotate {
    #[command(flatten)]
    pub(super) ring: RingArgs,
    /// Rotate only when a key is old, or its dates need mending.
    #[arg(long, conflicts_with = "revoke")]
    pub(super) if_due: bool,
    /// Refuse this key from now on; `keys list` shows ids. Several: repeat it, or join by commas.
    #[arg(long, value_name = "ID", value_delimiter = ',', value_parser = key_id)]
    pub(super) revoke: Vec<KeyId>,
    /// Allow --revoke of the active key: a fresh key seals at once.
    #[arg(long, requires = "revoke")]
    pub(super) now: bool,
    /// How long the new key waits until it seals [default: 24h].
    #[arg(long, value_name = "TIME", value_parser = activation_delay)]
    pub(super) activation_delay: Option<Duration>,
}

/// Show the keys of a ring: ids, states and dates
///
/// States: pending (will seal), active (seals), accept-only (opens what it sealed),
/// expired and revoked (refused). Servers with the same ring have the same fingerprint.
#[derive(Args)]
#[command(
    verbatim_doc_comment,
    after_help = "\
Example:
  sealed-session keys list session.keys"
)]
pub(super) struct List {
    #[command(flatten)]
    pub(super) ring: RingArgs,
    /// Write one JSON object.
    #[arg(long)]
    pub(super) json: bool,
}

/// Tell whether a ring can be used, and what is due
///
/// Reads the ring as a server does, and says for each thing found what to do.
#[derive(Args)]
#[command(
    verbatim_doc_comment,
    after_help = "\
Example:
  sealed-session keys check session.keys || mail -s 'session keys' ops@example.com

Exit status:
  0  all is well    1  something is due, or wrong but usable    2  the ring cannot be used"
)]
pub(super) struct Check {
    #[command(flatten)]
    pub(super) ring: RingArgs,
    /// Write one JSON object.
    #[arg(long)]
    pub(super) json: bool,
}

/// Show what a token holds, and whether it would be accepted now
///
/// The token comes on standard input: alone, as NAME=VALUE, or as a whole Cookie or
/// Set-Cookie line. Limits and keys are judged as a server would; the list of revoked
/// sessions is not asked.
#[derive(Args)]
#[command(
    verbatim_doc_comment,
    after_help = "\
Examples:
  sealed-session inspect --config shop.toml < token.txt
  sealed-session inspect --keys session.keys --realm shop < token.txt

Exit status:
  0  would be accepted    1  would be refused    2  usage, or the ring cannot be used"
)]
pub(super) struct Inspect {
    /// The configuration of the application: realm, limits, cookie and keys.
    #[arg(long, value_name = "FILE", conflicts_with = "keys")]
    pub(super) config: Option<PathBuf>,
    /// The table of the configuration to read.
    #[arg(long, value_name = "NAME", conflicts_with = "keys", long_help = SECTION_HELP)]
    pub(super) section: Option<String>,
    /// The file of the ring, instead of a configuration; limits are then the defaults.
    #[arg(long, value_name = "FILE")]
    pub(super) keys: Option<PathBuf>,
    /// The realm of the application.
    #[arg(long, value_name = "REALM", conflicts_with = "config")]
    pub(super) realm: Option<String>,
    /// The name of the cookie, if it is not the default one.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["config", "bearer"])]
    pub(super) cookie: Option<String>,
    /// The token travels without a cookie.
    #[arg(long)]
    pub(super) bearer: bool,
    /// Show the data of the session, which may be personal.
    #[arg(long)]
    pub(super) data: bool,
    /// Write one JSON object.
    #[arg(long)]
    pub(super) json: bool,
    /// A token given here is refused.
    #[arg(hide = true)]
    pub(super) misplaced: Vec<OsString>,
}

/// Tell what a configuration puts in force
///
/// Reads TOML, or JSON where the name ends in .json, and the keys that it names.
/// Shows limits, cookie and keys as a server would use them, and what is due.
#[derive(Args)]
#[command(
    verbatim_doc_comment,
    after_help = "\
Examples:
  sealed-session config check shop.toml
  sealed-session config check shop.toml --connect
      Read the revocation log as well, as a server would when it starts.

Exit status:
  0  all is well    1  something is due, or wrong but usable    2  it cannot be used"
)]
pub(super) struct ConfigCheck {
    /// The file to read.
    pub(super) file: PathBuf,
    /// The table to read.
    #[arg(long, value_name = "NAME", long_help = SECTION_HELP)]
    pub(super) section: Option<String>,
    /// Read the revocation log, and say whether that can be done.
    #[arg(long)]
    pub(super) connect: bool,
    /// Write one JSON object.
    #[arg(long)]
    pub(super) json: bool,
}

/// End sessions, of servers that run
///
/// Adds a fact to the log that the servers share, which the table `revocation` of the
/// configuration names, and returns once it is durable there. Servers that follow the
/// log refuse the sessions within milliseconds. Who signs in after that is not meant.
#[derive(Args)]
#[command(
    verbatim_doc_comment,
    group = clap::ArgGroup::new("target").required(true),
    after_help = "\
Examples:
  sealed-session revoke --config shop.toml --subject alice
  read -r name; echo \"$name\" | sealed-session revoke --config shop.toml --subject -
      Without the name in the process table, which all users of a machine can see.
  sealed-session revoke --config shop.toml --everyone --yes --except yQ7zAFkYTn6WYq1DJ3dPHw

Exit status:
  0  durable in the log    2  not revoked: nothing is in force, and nothing is tried again"
)]
pub(super) struct Revoke {
    #[command(flatten)]
    pub(super) log: LogArgs,
    /// End one session; `inspect` shows ids.
    #[arg(long, value_name = "ID", group = "target", allow_hyphen_values = true)]
    pub(super) session: Option<SessionId>,
    /// End all sessions of a subject; `-` reads it from standard input. Others see arguments.
    #[arg(long, value_name = "NAME", group = "target", allow_hyphen_values = true)]
    pub(super) subject: Option<String>,
    /// End all sessions that were given this tag when they began.
    #[arg(long, value_name = "NAME", group = "target", allow_hyphen_values = true)]
    pub(super) tag: Option<String>,
    /// End all sessions of the realm, anonymous ones included.
    #[arg(long, group = "target")]
    pub(super) everyone: bool,
    /// Spare this session.
    #[arg(long, value_name = "ID", conflicts_with = "session", allow_hyphen_values = true)]
    pub(super) except: Option<SessionId>,
    /// Do it: --everyone asks for this.
    #[arg(long, requires = "everyone")]
    pub(super) yes: bool,
}

/// List the facts of a revocation log
///
/// Subjects and tags show as hashes; with --subject, --tag or --session it shows the
/// facts that may end such sessions, and says so in one line before them. Kinds:
/// session, generations (of a session, before it was renewed), subject-or-tag,
/// everyone (of this realm), every-realm, lifetime (how long sessions live), and
/// whole (nothing is missing in the log of that id).
#[derive(Args)]
#[command(
    verbatim_doc_comment,
    group = clap::ArgGroup::new("target"),
    after_help = "\
Examples:
  sealed-session revocations list --config shop.toml
  sealed-session revocations list --config shop.toml --subject alice

Exit status:
  0  done; asked about one: there is a fact    1  there is none    2  the log cannot be read"
)]
pub(super) struct RevocationsList {
    #[command(flatten)]
    pub(super) log: LogArgs,
    /// Only what may end sessions of a subject; `-` reads it from standard input.
    #[arg(long, value_name = "NAME", group = "target", allow_hyphen_values = true)]
    pub(super) subject: Option<String>,
    /// Only what may end sessions with a tag.
    #[arg(long, value_name = "NAME", group = "target", allow_hyphen_values = true)]
    pub(super) tag: Option<String>,
    /// Only what may end this session.
    #[arg(long, value_name = "ID", group = "target", allow_hyphen_values = true)]
    pub(super) session: Option<SessionId>,
    /// Write one JSON object.
    #[arg(long)]
    pub(super) json: bool,
}

/// Tell how a revocation log is doing
///
/// How many facts it holds, how old it is, whether a server has found it whole, how
/// far its clock and that of this machine lie apart, and how long reading takes.
#[derive(Args)]
#[command(
    verbatim_doc_comment,
    after_help = "\
Example:
  sealed-session revocations stats --config shop.toml

Exit status:
  0  done    2  the log cannot be read"
)]
pub(super) struct RevocationsStats {
    #[command(flatten)]
    pub(super) log: LogArgs,
    /// Write one JSON object.
    #[arg(long)]
    pub(super) json: bool,
}

/// Show facts as they arrive in a revocation log
///
/// One line each, until Ctrl-C, or until nobody reads the output any more. When the
/// log cannot be read it says so on standard error, and goes on trying.
#[derive(Args)]
#[command(
    verbatim_doc_comment,
    after_help = "\
Example:
  sealed-session revocations follow --config shop.toml

Exit status:
  0  nobody reads any more    2  the log could not be read at the start"
)]
pub(super) struct RevocationsFollow {
    #[command(flatten)]
    pub(super) log: LogArgs,
    /// Write one JSON object a line.
    #[arg(long)]
    pub(super) json: bool,
}

/// Which revocation log.
#[derive(Args)]
pub(super) struct LogArgs {
    /// The configuration of the application; its table `revocation` names the log.
    #[arg(long, value_name = "FILE")]
    pub(super) config: PathBuf,
    /// The table of the configuration to read.
    #[arg(long, value_name = "NAME", long_help = SECTION_HELP)]
    pub(super) section: Option<String>,
}

/// Where a ring is, and what its sessions need.
#[derive(Args)]
pub(super) struct RingArgs {
    /// The file of the ring [default: the one that --config names, or session.keys].
    pub(super) file: Option<PathBuf>,
    /// The configuration of the application: where the ring is, and how it rotates.
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// The table of the configuration to read.
    #[arg(long, requires = "config", value_name = "NAME", long_help = SECTION_HELP)]
    pub(super) section: Option<String>,
}

pub(super) const DEFAULT_FILE: &str = "session.keys";

const SECTION_HELP: &str = "\
The table of the configuration to read, as in app.session. Unset, it is `session`
if the file has that table, and else the whole file.";

fn key_id(text: &str) -> Result<KeyId, &'static str> {
    let digits = text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let id = u32::from_str_radix(text, 16).ok().filter(|_| digits);
    id.map(|id| KeyId::from_bytes(id.to_be_bytes()))
        .ok_or("an id has eight hexadecimal digits: `sealed-session keys list` shows them")
}

fn activation_delay(text: &str) -> Result<Duration, String> {
    let delay = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if delay > LONGEST_DELAY {
        return Err("at most 365d".to_owned());
    }
    Ok(delay)
}

const LONGEST_DELAY: Duration = Duration::from_secs(365 * 86_400);
