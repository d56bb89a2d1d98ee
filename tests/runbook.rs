//! Every command in the runbooks of SECURITY.md, run by a shell in the order of the page.

#![cfg(all(feature = "cli", unix))]
#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test may panic")]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::SystemTime;
use std::{env, str};

use sealed_session::{Config, KeyRing, KeyState, KeyStatus, Map, SessionManager};

const CONFIG: &str = r#"
[session]
realm = "shop"

[session.keys]
source = "file"
path = "session.keys"
"#;

/// The machine of an operator: a directory, and the command in the path.
struct Operator {
    directory: PathBuf,
}

impl Operator {
    fn new() -> Self {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("runbook");
        // What an earlier run left.
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).unwrap();
        fs::set_permissions(&directory, Permissions::from_mode(0o700)).unwrap();
        fs::write(directory.join("shop.toml"), CONFIG).unwrap();
        Self { directory }
    }

    fn run(&self, command: &str) -> Output {
        let program = Path::new(env!("CARGO_BIN_EXE_sealed-session")).parent().unwrap();
        let path = format!("{}:{}", program.display(), env::var("PATH").unwrap());
        Command::new("sh")
            .args(["-eu", "-c", command])
            .current_dir(&self.directory)
            .env("PATH", path)
            .env("LEAKED", self.key_that(KeyState::Active).unwrap_or_default())
            .output()
            .unwrap()
    }

    fn keys(&self) -> Vec<KeyStatus> {
        let text = fs::read_to_string(self.directory.join("session.keys")).unwrap_or_default();
        let ring = text.parse::<KeyRing>().ok();
        ring.map(|ring| ring.status(SystemTime::now())).unwrap_or_default()
    }

    fn key_that(&self, state: KeyState) -> Option<String> {
        self.keys().iter().find(|key| key.state() == state).map(|key| key.id().to_string())
    }

    /// A token of a visitor, as a server with these keys makes it.
    fn write_token(&self) {
        let config = CONFIG.replace("session.keys\"", &self.path("session.keys\""));
        let settings: toml::Table = toml::from_str(&config).unwrap();
        let config: Config = settings["session"].clone().try_into().unwrap();
        let sessions = SessionManager::from_config(&config).unwrap().build().unwrap();
        fs::write(self.path("token.txt"), sessions.cookie_for::<Map>("alice").unwrap()).unwrap();
    }

    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.directory.display())
    }
}

/// The commands of a page, in their order.
fn commands(page: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut inside = false;
    for line in page.lines().map(str::trim) {
        match line {
            "```sh" => inside = true,
            "```" => inside = false,
            line if inside => found.push(line.to_owned()),
            _ => {}
        }
    }
    found
}

#[test]
fn every_command_of_the_runbooks_does_what_it_says() {
    let page = include_str!("../SECURITY.md");
    let commands = commands(page);
    assert_eq!(commands.len(), page.matches("```sh\n").count() + 2, "two blocks have two commands");
    let operator = Operator::new();
    let states = || operator.keys().iter().map(KeyStatus::state).collect::<Vec<_>>();

    for command in &commands {
        let leaked = operator.key_that(KeyState::Active);
        if command.contains("token.txt") {
            operator.write_token();
        }
        let output = operator.run(command);

        let text = str::from_utf8(&output.stderr).unwrap();
        assert!(output.status.success(), "{command}: {text}");
        match command.as_str() {
            "sealed-session keys new session.keys" => assert_eq!(states(), [KeyState::Active]),
            command if command.contains("--now") => {
                let now = operator.keys();
                let of_leaked = now.iter().find(|key| Some(key.id().to_string()) == leaked);
                assert_eq!(of_leaked.unwrap().state(), KeyState::Revoked);
                assert!(operator.key_that(KeyState::Active).is_some());
            }
            command if command.contains("keys rotate") => {
                assert_eq!(states(), [KeyState::Active, KeyState::Pending]);
            }
            _ => assert!(!output.stdout.is_empty(), "{command}"),
        }
    }
    assert!(commands.iter().any(|command| command.contains("--now")));
}
