//! A revocation log in memory that goes wrong on demand, and instances that follow it.
//!
//! [`Backend`] is the server, [`FaultyLog`] one instance's connections to it. With no switch thrown it
//! is a log like any other, which the conformance suite shows in `list_study.rs`.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]
#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, reason = "helpers of tests")]

use std::borrow::Cow;
use std::collections::HashSet;
use std::error::Error as _;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use sealed_session::revocation::{
    Cursor, Lineage, Page, Revocation, RevocationListBuilder, RevocationLog, WhenMissing,
};
use sealed_session::{
    Clock, Error, ErrorKind, KeyRing, Keys, Map, Policy, RevocationList, SessionManager, SignIn,
};

/// How long anything may take that has to happen.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until something is so.
#[track_caller]
pub fn eventually(what: &str, is_so: impl FnMut() -> bool) {
    assert!(comes_true_within(PATIENCE, is_so), "it does not come: {what}");
}

fn comes_true_within(patience: Duration, mut is_so: impl FnMut() -> bool) -> bool {
    let began = Instant::now();
    while !is_so() {
        if began.elapsed() > patience {
            return false;
        }
        thread::sleep(Duration::from_millis(2));
    }
    true
}

/// The system's clock, off by so many milliseconds. Clones share one error.
#[derive(Clone, Debug, Default)]
pub struct ShiftedClock(Arc<AtomicI64>);

impl ShiftedClock {
    pub fn new(seconds: i64) -> Self {
        Self(Arc::new(AtomicI64::new(seconds * 1000)))
    }

    /// Sets it so many seconds ahead of true time, or behind.
    pub fn set(&self, seconds: i64) {
        self.0.store(seconds * 1000, Ordering::SeqCst);
    }
}

impl Clock for ShiftedClock {
    fn now(&self) -> SystemTime {
        let by = self.0.load(Ordering::SeqCst);
        let now = SystemTime::now();
        let apart = Duration::from_millis(by.unsigned_abs());
        if by < 0 { now - apart } else { now + apart }
    }
}

/// The server. Clones are one.
#[derive(Clone)]
pub struct Backend {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    clock: Box<dyn Clock>,
}

struct State {
    id: [u8; 16],
    born: SystemTime,
    facts: Vec<Vec<u8>>,
    known: HashSet<Vec<u8>>,
    page: usize,
    links: Vec<Switches>,
}

/// What goes wrong between one instance and the server.
#[derive(Clone, Debug, Default)]
#[allow(clippy::struct_excessive_bools, reason = "each is thrown by itself")]
pub struct Switches {
    /// Every call fails at once, those that are under way as well.
    pub down: bool,
    /// After so many more calls it is down.
    pub calls_left: Option<usize>,
    /// Calls do not reach the server, nor return, for as long as this is set.
    pub frozen: bool,
    /// So many more answers to waiting reads arrive; the next ones are on their way until this is
    /// set anew.
    pub answers_left: Option<usize>,
    /// Facts are stored, and their writer is told that they were not.
    pub loses_acks: bool,
    /// The server takes no facts.
    pub full: bool,
    /// News wake nobody: a read looks again only when its time is up.
    pub deaf: bool,
    /// Every page brings so many facts again that were read before, and the last ones first.
    pub repeats: usize,
    /// Every call panics.
    pub panics: bool,
    /// How often connections were cut, and how often each has noticed: calls from before fail, or
    /// the next one does.
    cuts: usize,
    noticed: [usize; 3],
    /// What was asked so far.
    pub calls: Calls,
}

#[derive(Clone, Debug, Default)]
pub struct Calls {
    pub appends: usize,
    pub reads: usize,
    /// Readings from the beginning.
    pub scans: usize,
    /// How long the others were ready to wait.
    pub waits: Vec<Duration>,
    /// The log that the last of them had read before.
    lineage: Option<[u8; 16]>,
}

impl Backend {
    /// A server whose log is an hour old and holds nothing.
    pub fn new() -> Self {
        Self::with_clock(ShiftedClock::default())
    }

    pub fn with_clock(clock: impl Clock) -> Self {
        let state = State {
            id: Lineage::new_id().unwrap(),
            born: clock.now() - Duration::from_secs(3_600),
            facts: Vec::new(),
            known: HashSet::new(),
            page: 10_000,
            links: Vec::new(),
        };
        let (state, clock) = (Mutex::new(state), Box::new(clock));
        Self { shared: Arc::new(Shared { state, changed: Condvar::new(), clock }) }
    }

    /// The connections of one more instance.
    pub fn link(&self) -> FaultyLog {
        let mut state = self.state();
        state.links.push(Switches::default());
        FaultyLog { backend: self.clone(), number: state.links.len() - 1 }
    }

    /// Sets how many facts a page holds.
    pub fn page(&self, facts: usize) {
        self.state().page = facts;
    }

    /// Loses everything, as a server without persistence does that is started anew.
    pub fn wipe(&self) {
        let now = self.shared.clock.now();
        self.change(|state| {
            state.id = Lineage::new_id().unwrap();
            state.born = now;
            state.facts.clear();
            state.known.clear();
        });
    }

    /// Makes the log so much older than it is.
    pub fn grow_older(&self, by: Duration) {
        self.change(|state| state.born -= by);
    }

    /// Goes on without the last facts, which had not reached the server that takes over. It is the
    /// same log by its id, and what is written next stands where cursors are past already.
    pub fn fail_over(&self, lost: usize) {
        let mut state = self.state();
        let kept = state.facts.len() - lost;
        for fact in state.facts.split_off(kept) {
            state.known.remove(&fact);
        }
    }

    /// Stores bytes that no instance of this release has written.
    pub fn plant(&self, bytes: &[u8]) {
        self.change(|state| state.facts.push(bytes.to_vec()));
    }

    /// Flips a bit of the last fact.
    pub fn damage_last(&self) {
        self.change(|state| {
            let fact = state.facts.last_mut().unwrap();
            state.known.remove(fact);
            fact[3] ^= 1;
        });
    }

    /// All that is stored.
    pub fn stored(&self) -> Vec<Vec<u8>> {
        self.state().facts.clone()
    }

    /// What is stored about sessions, kinds 1 to 3: those that differ in more than their end, which
    /// an instance that gives facts back has rounded up.
    pub fn revocations(&self) -> Vec<Vec<u8>> {
        let mut facts = HashSet::new();
        let mut is_new = |fact: &Vec<u8>| match fact[0] {
            1 => facts.insert(fact[..21].to_vec()),
            2 | 3 => facts.insert([&fact[..23], &fact[29..fact.len() - 4]].concat()),
            _ => false,
        };
        self.stored().into_iter().filter(|fact| is_new(fact)).collect()
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.shared.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap()
    }
}

/// A fact of a kind that only a newer release knows.
pub fn unknown_kind() -> Vec<u8> {
    sealed(&[9, 1, 2, 3])
}

/// A fact's bytes with their checksum.
pub fn sealed(body: &[u8]) -> Vec<u8> {
    [body, &crc32fast::hash(body).to_be_bytes()].concat()
}

/// One instance's connections to a [`Backend`]. Clones share the switches.
#[derive(Clone)]
pub struct FaultyLog {
    backend: Backend,
    number: usize,
}

impl FaultyLog {
    /// Throws switches.
    pub fn set(&self, set: impl FnOnce(&mut Switches)) {
        self.backend.change(|state| set(&mut state.links[self.number]));
    }

    pub fn cut(&self) {
        self.set(|link| {
            link.down = true;
            link.cuts += 1;
        });
    }

    /// Everything works again.
    pub fn mend(&self) {
        self.set(|link| {
            let Switches { cuts, noticed, .. } = *link;
            let calls = link.calls.clone();
            *link = Switches { cuts, noticed, calls, ..Switches::default() };
        });
    }

    /// Cuts the connections for a moment.
    pub fn reconnect(&self) {
        self.cut();
        self.mend();
    }

    pub fn calls(&self) -> Calls {
        self.backend.state().links[self.number].calls.clone()
    }

    /// Whether the instance has read all of the log that the server has now, and goes on from there.
    pub fn follows(&self) -> bool {
        let state = self.backend.state();
        state.links[self.number].calls.lineage == Some(state.id)
    }

    /// Waits while `held` is so, and gives up where the connection is gone.
    fn pass<'a>(
        &self,
        state: MutexGuard<'a, State>,
        cuts: usize,
        held: impl Fn(&Switches) -> bool,
    ) -> Result<MutexGuard<'a, State>, Error> {
        let held = |state: &mut State| {
            let link = &state.links[self.number];
            held(link) && !link.is_cut(cuts)
        };
        let waited = self.backend.shared.changed.wait_timeout_while(state, PATIENCE * 2, held);
        let (state, _) = waited.unwrap();
        let cut = state.links[self.number].is_cut(cuts);
        if cut { Err(Error::backend("cut off")) } else { Ok(state) }
    }

    /// The way of a call to the server, on a connection after so many cuts.
    fn enter(
        &self,
        connection: usize,
        count: impl FnOnce(&mut Calls),
    ) -> Result<(MutexGuard<'_, State>, usize), Error> {
        let mut state = self.backend.state();
        let link = &mut state.links[self.number];
        count(&mut link.calls);
        match &mut link.calls_left {
            Some(0) => (link.down, link.cuts) = (true, link.cuts + 1),
            Some(left) => *left -= 1,
            None => {}
        }
        let (panics, cuts) = (link.panics, link.cuts);
        let noticed = std::mem::replace(&mut link.noticed[connection], cuts);
        self.backend.shared.changed.notify_all();
        if panics {
            drop(state);
            panic!("the log's own");
        }
        if noticed != cuts {
            return Err(Error::backend("cut off meanwhile"));
        }
        self.pass(state, cuts, |link| link.frozen).map(|state| (state, cuts))
    }
}

impl Switches {
    const fn is_cut(&self, cuts: usize) -> bool {
        self.down || self.cuts != cuts
    }
}

impl RevocationLog for FaultyLog {
    fn append(&self, facts: &[Revocation]) -> Result<(), Error> {
        let (mut state, _) = self.enter(0, |calls| calls.appends += 1)?;
        if state.links[self.number].full {
            return Err(Error::backend("out of room"));
        }
        for fact in facts.iter().map(Revocation::to_bytes) {
            if state.known.insert(fact.clone()) {
                state.facts.push(fact);
            }
        }
        self.backend.shared.changed.notify_all();
        if state.links[self.number].loses_acks {
            return Err(Error::backend("cut off before the answer came"));
        }
        Ok(())
    }

    fn read(&self, after: Option<&Cursor>, wait: Duration) -> Result<Page, Error> {
        let place = after.map(|cursor| {
            let (id, place) = cursor.as_bytes().split_first_chunk::<16>().unwrap();
            (*id, usize::from_be_bytes(place.try_into().unwrap()))
        });
        let connection = if place.is_some() && wait.is_zero() { 1 } else { 2 };
        let (mut state, cuts) = self.enter(connection, |calls| match place {
            None => calls.scans += 1,
            Some((id, _)) => {
                calls.reads += 1;
                calls.waits.push(wait);
                calls.lineage = Some(id);
            }
        })?;
        if let Some((id, place)) = place {
            let began = Instant::now();
            let nothing = |state: &State| {
                let link = &state.links[self.number];
                id == state.id && (place >= state.facts.len() || link.deaf) && !link.is_cut(cuts)
            };
            while nothing(&state) && began.elapsed() < wait {
                let left = wait.saturating_sub(began.elapsed());
                state = self.backend.shared.changed.wait_timeout(state, left).unwrap().0;
            }
        }
        let from = place.filter(|(id, _)| *id == state.id).map_or(0, |(_, place)| place);
        let repeats = state.links[self.number].repeats;
        let to = from.max(state.facts.len().min(from + state.page));
        let lineage = Lineage::new(state.id, state.born, self.backend.shared.clock.now());
        let cursor = [&state.id[..], &to.to_be_bytes()].concat();
        let mut page = Page::new(lineage, Cursor::new(cursor)).with_more(to < state.facts.len());
        let first = from.saturating_sub(repeats).min(state.facts.len());
        let mut facts = state.facts[first..to.min(state.facts.len())].to_vec();
        if repeats > 0 {
            facts.reverse();
        }
        for fact in &facts {
            page.push(fact);
        }
        let mut state = self.pass(state, cuts, |link| {
            link.frozen || (!wait.is_zero() && link.answers_left == Some(0))
        })?;
        if let Some(left) = &mut state.links[self.number].answers_left
            && !wait.is_zero()
        {
            *left -= 1;
        }
        Ok(page)
    }

    fn name(&self) -> Cow<'_, str> {
        format!("faulty {}", self.number).into()
    }

    fn settle(&self) -> Duration {
        Duration::ZERO
    }
}

/// A backend, and the keys that its instances share.
pub struct Deployment {
    pub backend: Backend,
    pub keys: Keys,
}

/// One instance of the application.
pub struct Instance {
    pub sessions: SessionManager,
    pub list: RevocationList,
    pub link: FaultyLog,
}

impl Deployment {
    pub fn new() -> Self {
        Self::on(Backend::new())
    }

    pub fn on(backend: Backend) -> Self {
        Self { backend, keys: KeyRing::for_tests().unwrap().into() }
    }

    /// An instance that takes an empty log for what it is.
    pub fn instance(&self) -> Instance {
        self.instance_with(|list| list)
    }

    pub fn instance_with(
        &self,
        set: impl FnOnce(RevocationListBuilder) -> RevocationListBuilder,
    ) -> Instance {
        self.instance_by(&ShiftedClock::default(), Policy::default(), set)
    }

    pub fn instance_by(
        &self,
        clock: &(impl Clock + Clone),
        policy: Policy,
        set: impl FnOnce(RevocationListBuilder) -> RevocationListBuilder,
    ) -> Instance {
        self.instance_at(self.backend.link(), clock, policy, set)
    }

    /// An instance with these connections.
    pub fn instance_at(
        &self,
        link: FaultyLog,
        clock: &(impl Clock + Clone),
        policy: Policy,
        set: impl FnOnce(RevocationListBuilder) -> RevocationListBuilder,
    ) -> Instance {
        let list = RevocationList::builder(link.clone()).when_missing(WhenMissing::StartEmpty);
        let list = set(list.clock(clock.clone())).build().unwrap();
        let sessions = SessionManager::builder("shop", self.keys.clone())
            .revocations(list.clone())
            .policy(policy)
            .clock(clock.clone())
            .build()
            .unwrap();
        Instance { sessions, list, link }
    }
}

impl Instance {
    pub fn sign_in(&self, sign_in: impl Into<SignIn<Map>>) -> String {
        self.sessions.bearer::<Map>().issue(sign_in).unwrap()
    }

    /// What a request with this token is told.
    pub fn ask(&self, token: &str) -> Result<(), ErrorKind> {
        self.sessions.bearer::<Map>().open(token).map(drop).map_err(|error| error.kind())
    }

    /// Has written all that it wanted to, how long sessions live for a start.
    #[track_caller]
    pub fn is_saved(&self) {
        eventually("all is saved", || self.list.status().unsaved == 0);
    }

    /// Why the log cannot be read or written, with all causes.
    pub fn why(&self) -> String {
        let error = self.list.status().last_error.unwrap();
        let mut why = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            why = format!("{why}: {error}");
            cause = error.source();
        }
        why
    }

    /// Has all that was durable before, and answers.
    #[track_caller]
    pub fn catch_up(&self) {
        eventually("the list has caught up", || self.list.catch_up().wait().is_ok());
    }
}

/// An answer for a session that was revoked.
pub const REVOKED: Result<(), ErrorKind> = Err(ErrorKind::Revoked);
/// An answer of a list that cannot know.
pub const STALE: Result<(), ErrorKind> = Err(ErrorKind::Backend);
