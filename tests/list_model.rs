//! Three instances and a log that is cut off and wiped do what a naive model allows.
//!
//! The model knows of every revocation which instances are sure to have it, and which the log is.
//! From that follow answers that must not be given: `Ok` where the instance is sure to have a
//! revocation that is sure to mean the session, or is cut off for too long; a refusal where none can
//! mean it, or where the instance has just caught up.
// Slow, and the same whatever else is built: with the default features, and with all of them.
#![cfg(feature = "ring")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]
#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, reason = "helpers of tests")]

mod common;
#[path = "common/faulty_log.rs"]
mod faulty_log;

use std::collections::BTreeSet;
use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Waker};

use common::{HOUR, MINUTE};
use faulty_log::{Deployment, Instance, REVOKED, STALE, ShiftedClock, eventually};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use sealed_session::{ErrorKind, Map, Policy, Receipt, SessionId, Target};

const INSTANCES: usize = 3;
const SUBJECTS: [&str; 2] = ["alice", "bob"];

/// What happens, at which instance; sessions and subjects by a number that is folded to those there
/// are.
#[derive(Clone, Copy, Debug)]
enum Step {
    SignIn(usize, usize),
    Revoke(usize, Whom, usize),
    Check(usize, usize),
    /// The same, by a clock that has gone on beyond the list's bound.
    CheckLate(usize, usize),
    CutOff(usize),
    Reconnect(usize),
    CatchUp(usize),
    Wipe,
    /// The log gets so old that it is believed.
    Settle,
}

#[derive(Clone, Copy, Debug)]
enum Whom {
    Subject,
    Others,
    Session,
}

fn step() -> impl Strategy<Value = Step> {
    let instance = || 0..INSTANCES;
    let whom = prop_oneof![Just(Whom::Subject), Just(Whom::Others), Just(Whom::Session)];
    prop_oneof![
        4 => (instance(), 0..2_usize).prop_map(|(at, who)| Step::SignIn(at, who)),
        4 => (instance(), whom, 0..8_usize).prop_map(|(at, whom, n)| Step::Revoke(at, whom, n)),
        4 => (instance(), 0..8_usize).prop_map(|(at, n)| Step::Check(at, n)),
        1 => (instance(), 0..8_usize).prop_map(|(at, n)| Step::CheckLate(at, n)),
        2 => instance().prop_map(Step::CutOff),
        2 => instance().prop_map(Step::Reconnect),
        4 => instance().prop_map(Step::CatchUp),
        1 => Just(Step::Wipe),
        2 => Just(Step::Settle),
    ]
}

/// Facts by their numbers.
type Facts = BTreeSet<usize>;

struct Fact {
    whom: Whom,
    subject: usize,
    /// The session that it ends, or spares.
    session: usize,
    /// What whoever made it was sure to know.
    known: Facts,
    receipt: Receipt,
}

struct Session {
    token: String,
    id: SessionId,
    subject: usize,
    /// How many facts there were when it was issued, and which of them its issuer was sure to know.
    after: usize,
    known: Facts,
}

impl Fact {
    fn speaks_of(&self, n: usize, session: &Session) -> bool {
        match self.whom {
            Whom::Subject => self.subject == session.subject,
            Whom::Others => self.subject == session.subject && self.session != n,
            Whom::Session => self.session == n,
        }
    }
}

struct World {
    deployment: Deployment,
    clocks: Vec<ShiftedClock>,
    instances: Vec<Instance>,
    up: [bool; INSTANCES],
    /// Whether the log is believed.
    settled: bool,
    sessions: Vec<Session>,
    facts: Vec<Fact>,
    known: [Facts; INSTANCES],
    in_log: Facts,
}

impl World {
    fn new() -> Self {
        let deployment = Deployment::new();
        let clocks: Vec<_> = (0..INSTANCES).map(|_| ShiftedClock::default()).collect();
        let start = |clock| {
            let policy = Policy::default();
            deployment.instance_by(clock, policy, |list| list.settle(MINUTE))
        };
        let instances: Vec<_> = clocks.iter().map(start).collect();
        Self {
            instances,
            deployment,
            clocks,
            up: [true; INSTANCES],
            settled: true,
            sessions: Vec::new(),
            facts: Vec::new(),
            known: Default::default(),
            in_log: Facts::new(),
        }
    }

    fn act(&mut self, step: Step) {
        match step {
            Step::SignIn(at, who) => self.sign_in(at, who),
            Step::Revoke(at, whom, n) => self.revoke(at, whom, n),
            Step::Check(at, n) => self.check(at, n, false),
            Step::CheckLate(at, n) => self.check(at, n, true),
            Step::CutOff(at) => {
                self.instances[at].link.cut();
                self.up[at] = false;
            }
            Step::Reconnect(at) => {
                self.instances[at].link.mend();
                self.up[at] = true;
            }
            Step::CatchUp(at) => self.catch_up(at),
            Step::Wipe => {
                self.deployment.backend.wipe();
                self.settled = false;
                self.in_log.clear();
            }
            Step::Settle => self.settle(),
        }
    }

    fn sign_in(&mut self, at: usize, subject: usize) {
        let instance = &self.instances[at];
        let token = match instance.sessions.bearer::<Map>().issue(SUBJECTS[subject]) {
            Ok(token) => token,
            // Somebody's revocation arrived in this very moment.
            Err(error) if error.kind() == ErrorKind::Conflict => return,
            Err(error) => panic!("{error}"),
        };
        let opened = instance.sessions.bearer::<Map>().open(&token);
        // Nor can it be looked at then.
        let Ok(opened) = opened else { return };
        self.sessions.push(Session {
            id: opened.id(),
            token,
            subject,
            after: self.facts.len(),
            known: self.known[at].clone(),
        });
    }

    fn revoke(&mut self, at: usize, whom: Whom, n: usize) {
        let subject = n % SUBJECTS.len();
        if self.sessions.is_empty() {
            return;
        }
        let session = n % self.sessions.len();
        let id = self.sessions[session].id;
        let target = match whom {
            Whom::Subject => Target::subject(SUBJECTS[subject]),
            Whom::Others => Target::subject(SUBJECTS[subject]).except(id),
            Whom::Session => Target::session(id),
        };
        let receipt = self.instances[at].sessions.revoke(target).unwrap();
        let known = self.known[at].clone();
        self.known[at].insert(self.facts.len());
        self.facts.push(Fact { whom, subject, session, known, receipt });
        if self.up[at] {
            self.instances[at].is_saved();
            if self.settled {
                self.in_log.insert(self.facts.len() - 1);
            }
        }
    }

    /// Whoever holds a receipt has heard something.
    fn everyone_was_told(&mut self) {
        for fact in &mut self.facts {
            let mut context = Context::from_waker(Waker::noop());
            let receipt = &mut fact.receipt;
            eventually("it is told", || Pin::new(&mut *receipt).poll(&mut context).is_ready());
        }
    }

    fn catch_up(&mut self, at: usize) {
        if !self.up[at] || !self.settled {
            return;
        }
        self.gives_back(at);
        self.instances[at].catch_up();
        self.known[at].extend(self.in_log.iter().copied());
        assert!(self.instances[at].list.is_fresh());
        for n in 0..self.sessions.len() {
            assert_ne!(self.check_one(at, n), STALE);
        }
    }

    /// Waits until an instance has compared all of the log with what it knows, and has written what
    /// the log lacked.
    fn gives_back(&mut self, at: usize) {
        let instance = &self.instances[at];
        eventually("it follows", || instance.link.follows() && instance.list.status().unsaved == 0);
        self.in_log.extend(self.known[at].iter().copied());
    }

    fn settle(&mut self) {
        if self.settled {
            return;
        }
        for at in (0..INSTANCES).filter(|at| self.up[*at]).collect::<Vec<_>>() {
            self.gives_back(at);
        }
        // Whoever is away for longer than that comes back later, with what only it knows.
        self.deployment.backend.grow_older(HOUR);
        self.settled = true;
    }

    fn check(&mut self, at: usize, n: usize, late: bool) {
        if self.sessions.is_empty() {
            return;
        }
        let n = n % self.sessions.len();
        self.clocks[at].set(if late { 31 } else { 0 });
        let answer = self.check_one(at, n);
        if late && !self.up[at] {
            assert_ne!(answer, Ok(()), "it is cut off for longer than it may");
        }
        self.clocks[at].set(0);
    }

    fn check_one(&self, at: usize, n: usize) -> Result<(), ErrorKind> {
        let session = &self.sessions[n];
        let answer = self.instances[at].ask(&session.token);
        let ends = |number: &usize| {
            let fact = &self.facts[*number];
            let single = matches!(fact.whom, Whom::Session);
            // Whoever does not know what a session has stepped over may fall short of it, if both
            // happen within a millisecond.
            let sure = |other: &usize| {
                !self.facts[*other].speaks_of(n, session)
                    || fact.known.contains(other)
                    || matches!(self.facts[*other].whom, Whom::Session)
            };
            let all_known = || (0..session.after).all(|other| sure(&other));
            fact.speaks_of(n, session) && (single || (*number >= session.after && all_known()))
        };
        let may_end = |number: &usize| {
            let stepped_over = *number < session.after && session.known.contains(number);
            self.facts[*number].speaks_of(n, session) && !stepped_over
        };
        if self.known[at].iter().any(ends) {
            assert_eq!(answer, REVOKED, "session {n} at {at}");
        }
        if !(0..self.facts.len()).any(|fact| may_end(&fact)) {
            assert_ne!(answer, REVOKED, "session {n} at {at}");
        }
        answer
    }
}

fn run(steps: &[Step]) {
    let mut world = World::new();
    for step in steps {
        world.act(*step);
    }
    // In the end everyone is connected, has all, and agrees.
    for at in 0..INSTANCES {
        world.act(Step::Reconnect(at));
    }
    world.act(Step::Settle);
    for at in (0..INSTANCES).chain(0..INSTANCES) {
        world.catch_up(at);
    }
    world.everyone_was_told();
    let all: Facts = (0..world.facts.len()).collect();
    assert!(world.known.iter().all(|known| *known == all), "something got lost");
    for n in 0..world.sessions.len() {
        let answers: Vec<_> = (0..INSTANCES).map(|at| world.check_one(at, n)).collect();
        assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "{answers:?}");
    }
}

macro_rules! programs {
    ($($name:ident $seed:literal)*) => {
        $(
            proptest! {
                #![proptest_config(ProptestConfig {
                    cases: 150,
                    rng_seed: RngSeed::Fixed($seed),
                    failure_persistence: None,
                    ..ProptestConfig::default()
                })]
                #[test]
                fn $name(steps in prop::collection::vec(step(), 5..30)) {
                    run(&steps);
                }
            }
        )*
    };
}

// Most of the time of a program is spent waiting, so several run at once.
programs! {
    no_acknowledged_revocation_is_lost_and_nobody_else_is_refused 1
    no_acknowledged_revocation_is_lost_and_nobody_else_is_refused_in_other_programs 2
    no_acknowledged_revocation_is_lost_and_nobody_else_is_refused_in_further_programs 3
    no_acknowledged_revocation_is_lost_and_nobody_else_is_refused_in_the_last_programs 4
}

#[test]
fn what_only_an_instance_knows_that_is_away_comes_back_with_it() {
    run(&[
        Step::SignIn(0, 0),
        Step::Revoke(0, Whom::Subject, 0),
        Step::CutOff(0),
        Step::Wipe,
        Step::Settle,
        Step::CatchUp(1),
        Step::Check(1, 0),
        Step::Check(0, 0),
        Step::CheckLate(0, 0),
    ]);
}
