//! The operator's command: key rings, tokens and configurations, from a shell.

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser};

/// Keys and tokens of sealed-session.
#[derive(Parser)]
#[command(name = "sealed-session", version)]
struct Command {}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let Command {} = Command::parse();
    Command::command().print_help().map_or(ExitCode::FAILURE, |()| ExitCode::from(2))
}
