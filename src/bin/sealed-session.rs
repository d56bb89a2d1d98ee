//! The operator's command. All of it stands in the library's `cli` module.

use std::process::ExitCode;

fn main() -> ExitCode {
    sealed_session::cli::main()
}
