//! An instance in a process of its own.

use std::io::{BufRead as _, BufReader, Read as _, Write as _, stdin, stdout};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::{env, fs};

use sealed_session::revocation::WhenMissing;
use sealed_session::{KeyRing, Target};

use crate::redis_server::eventually;
use crate::world::{Answer, Instance, Token, World};

const ADDRESS: &str = "FAULTS_ADDRESS";
const KEYS: &str = "FAULTS_KEYS";

/// What this file does when a test has started it as another process.
#[test]
fn as_another_instance() {
    let Ok(address) = env::var(ADDRESS) else { return };
    let ring: KeyRing = env::var(KEYS).unwrap().parse().unwrap();
    let instance = Instance::new(&ring, &address, WhenMissing::SignOutEveryone);
    eventually("it is fresh", || instance.list.is_fresh().then_some(()));
    let tell = |answer: Answer| {
        let shown = answer.map_or_else(|kind| format!("{kind:?}"), |()| "Ok".to_owned());
        writeln!(stdout(), "\n: {shown}").unwrap();
    };
    tell(Ok(()));
    for line in stdin().lines().map_while(Result::ok) {
        let (what, whom) = line.split_once(' ').unwrap();
        if what == "ask" {
            tell(instance.ask(whom));
        } else {
            let receipt = instance.sessions.revoke(Target::subject(whom)).unwrap();
            tell(receipt.wait().map_err(|error| error.kind()));
        }
    }
}

pub(crate) struct Process {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Process {
    /// An instance that answers.
    pub(crate) fn start(world: &World) -> Self {
        Self::spawn(Command::new(env::current_exe().unwrap()), world)
    }

    /// One that cannot make a file longer than so many blocks of 512 bytes.
    pub(crate) fn limited(world: &World, blocks: u32) -> Self {
        let mut shell = Command::new("sh");
        // Without the signal, which would kill.
        let limit = format!("trap '' XFSZ; ulimit -S -f {blocks}; exec \"$0\" \"$@\"");
        shell.args(["-c", &limit]).arg(env::current_exe().unwrap());
        Self::spawn(shell, world)
    }

    fn spawn(mut command: Command, world: &World) -> Self {
        command.args(["--exact", "process::as_another_instance", "--nocapture"]);
        command.env(ADDRESS, &world.address).env(KEYS, &**world.ring.expose_text());
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut process = Self { child, input, output };
        assert_eq!(process.receive(), "Ok");
        process
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
        let stopped = || {
            let state = fs::read_to_string(format!("/proc/{}/stat", self.id())).unwrap();
            state.contains(") T ").then_some(())
        };
        if name == "STOP" {
            eventually("it stands", stopped);
        }
    }

    pub(crate) fn send(&mut self, line: &str) {
        writeln!(self.input, "{line}").unwrap();
    }

    pub(crate) fn receive(&mut self) -> String {
        let mut lines = self.output.by_ref().lines().map_while(Result::ok);
        let answer = lines.find_map(|line| Some(line.strip_prefix(": ")?.to_owned()));
        answer.expect("the other process has ended")
    }

    pub(crate) fn tell(&mut self, line: &str) -> String {
        self.send(line);
        self.receive()
    }

    pub(crate) fn ask(&mut self, token: &Token) -> String {
        self.tell(&format!("ask {}", token.text))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Takes the limit of file size from a process.
pub(crate) fn file_limit(process: u32) {
    let mut prlimit = Command::new("prlimit");
    prlimit.args(["--pid", &process.to_string(), "--fsize=unlimited:"]);
    assert!(prlimit.status().expect("prlimit, of util-linux, is missing").success());
}
