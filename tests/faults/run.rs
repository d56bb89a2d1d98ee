//! What a test does to a [`World`], and what is noted of it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use sealed_session::revocation::WhenMissing;
use sealed_session::{KeyRing, Map, RevocationList, SessionManager};

use crate::backend::{self, Backend};
use crate::faulty_log::ShiftedClock;
use crate::redis_server::eventually;
use crate::report::{self, Row};
use crate::world::{
    Answer, BYSTANDERS, Instance, REVOKED, SPARE, STALE, STREAM, Token, World, manager,
};

/// For what has to happen.
const PATIENCE: Duration = Duration::from_secs(30);

/// One fault on one backend.
pub(crate) struct Run {
    pub(crate) world: Arc<World>,
    fault: &'static str,
    backend: &'static str,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What a test may be about beyond the rules.
#[derive(Debug)]
#[allow(dead_code, reason = "shown when a test fails")]
pub(crate) struct Told {
    pub(crate) row: Row,
    pub(crate) refused_after: Option<u128>,
    pub(crate) failed: usize,
    pub(crate) given_back: u64,
}

impl Run {
    /// Starts so many instances.
    pub(crate) fn start(fault: &'static str, backend: &dyn Backend, instances: usize) -> Self {
        let address = backend.address();
        Self::start_with(fault, (backend.name(), address), instances, 0)
    }

    /// At an address of its own, with sessions that are some hours old already.
    pub(crate) fn start_with(
        fault: &'static str,
        (backend, address): (&'static str, String),
        instances: usize,
        hours_old: i64,
    ) -> Self {
        let ring = KeyRing::for_tests().unwrap();
        // The documented way to begin without signing everyone out; all others keep the default.
        let first = RevocationList::builder(backend::open(&address));
        let first = first.when_missing(WhenMissing::StartEmpty).settle(Duration::ZERO);
        let first = first.build().unwrap();
        eventually("the log is made", || first.is_fresh().then_some(()));
        drop(first);
        let start = || Instance::new(&ring, &address, WhenMissing::SignOutEveryone);
        let all: Vec<Arc<Instance>> = thread::scope(|scope| {
            let starting: Vec<_> = (0..instances).map(|_| scope.spawn(start)).collect();
            starting.into_iter().map(|it| Arc::new(it.join().unwrap())).collect()
        });
        eventually("all answer", || all.iter().all(|it| it.list.is_fresh()).then_some(()));

        let before = manager(&ring, &ShiftedClock::new(-3_600 * hours_old)).build().unwrap();
        let issuers: Vec<&SessionManager> = match hours_old {
            0 => all.iter().map(|it| &it.sessions).collect(),
            _ => vec![&before],
        };
        let token = |n: usize| {
            let (subject, bearer) =
                (format!("user {n}"), issuers[n % issuers.len()].bearer::<Map>());
            let text = bearer.issue(subject.as_str()).unwrap();
            let id = bearer.open(&text).unwrap().id();
            Token { text, subject, id }
        };
        let tokens: Vec<Token> = (0..BYSTANDERS + STREAM + SPARE).map(token).collect();
        let world = Arc::new(World::new(ring, address, tokens, all));
        let (reader, writer) = (Arc::clone(&world), Arc::clone(&world));
        let threads = vec![
            thread::spawn(move || reader.ask_all_the_time()),
            thread::spawn(move || writer.stream()),
        ];
        Self { world, fault, backend, threads: Mutex::new(threads) }
    }

    /// Until a hundred more were acknowledged.
    pub(crate) fn stream(&self) {
        self.more("acknowledged", &self.world.acknowledged, 100);
    }

    /// Until so many more were not.
    pub(crate) fn more_fail(&self, count: usize) {
        self.more("not acknowledged", &self.world.failed, count);
    }

    fn more(&self, what: &str, counter: &AtomicUsize, count: usize) {
        let enough = counter.load(Ordering::SeqCst) + count;
        let is_enough = || (counter.load(Ordering::SeqCst) >= enough).then_some(());
        eventually(&format!("{}, {}: more are {what}", self.fault, self.backend), is_enough);
    }

    /// The fault begins.
    pub(crate) fn goes_wrong(&self) {
        self.world.moments(|moments| moments.began = Some(Instant::now()));
    }

    /// From now on nobody can learn anything.
    pub(crate) fn is_cut_off(&self) {
        self.world.moments(|moments| moments.cut_off = Some(Instant::now()));
    }

    /// Until every instance refuses to answer.
    pub(crate) fn refuses(&self) {
        self.all_say("refuses", STALE);
    }

    /// Until every instance has read the log as it is now, and answers.
    pub(crate) fn is_clear(&self) {
        for instance in self.world.instances() {
            instance.catch_up();
        }
        self.all_say("answers", Ok(()));
    }

    fn all_say(&self, what: &str, answer: Answer) {
        let Self { world, fault, backend, .. } = self;
        let said = |instances: &[Arc<Instance>]| -> Vec<Answer> {
            instances.iter().enumerate().map(|(at, it)| world.ask(at, it, 0)).collect()
        };
        let began = Instant::now();
        let mut all = said(&world.instances());
        while all.iter().any(|said| *said != answer) {
            let whys: Vec<String> = world.instances().iter().map(|it| it.why()).collect();
            assert!(
                began.elapsed() < PATIENCE,
                "{fault}, {backend}: not each instance {what}: {all:?} {whys:?} {:?}",
                self.world.complaints.lock().unwrap()
            );
            thread::sleep(Duration::from_millis(5));
            all = said(&world.instances());
        }
    }

    /// Ends the fault, and waits until every instance answers.
    pub(crate) fn mend(&self, mend: impl FnOnce()) {
        self.world.moments(|moments| moments.cut_off = None);
        mend();
        self.is_mended();
        self.is_clear();
        self.clear_now();
    }

    pub(crate) fn is_mended(&self) {
        self.world.moments(|moments| moments.mended = Some(Instant::now()));
    }

    pub(crate) fn clear_now(&self) {
        self.world.moments(|moments| {
            let after = moments.mended.map(|at| at.elapsed());
            moments.clear_after = moments.clear_after.max(after);
        });
    }

    /// Somebody was told that an instance cannot answer.
    pub(crate) fn note_refusal(&self) {
        let now = Instant::now();
        self.world.moments(|moments| moments.refused = moments.refused.or(Some(now)));
    }

    /// Ends the stream and the questions, once all is saved.
    pub(crate) fn stop(&self) -> &World {
        self.world.stopped.store(true, Ordering::SeqCst);
        for thread in self.threads.lock().unwrap().drain(..) {
            thread.join().unwrap();
        }
        self.is_saved();
        &self.world
    }

    /// Until the backend has what was not acknowledged, too.
    pub(crate) fn is_saved(&self) {
        let all_saved = || {
            let instances = self.world.instances();
            instances.iter().all(|it| it.list.status().unsaved == 0).then_some(())
        };
        eventually(&format!("{}, {}: all is saved", self.fault, self.backend), all_saved);
    }

    /// Ends it all, and has every instance and a new one asked about everybody.
    pub(crate) fn finish(&self) -> Told {
        let world = self.stop();
        // What one has learnt is given back by it alone: only then by all.
        self.is_clear();
        self.is_saved();
        let given_back = world.instances().iter().map(|it| it.list.status().given_back).sum();
        world.add(&world.address);
        self.is_clear();
        for (at, instance) in world.instances().iter().enumerate() {
            instance.catch_up();
            for number in (0..BYSTANDERS).chain(world.revoked()) {
                let answer = eventually("an answer", || {
                    Some(world.ask(at, instance, number)).filter(|answer| *answer != STALE)
                });
                if number >= BYSTANDERS && answer != REVOKED {
                    world.complain(
                        &world.lost,
                        format!("instance {at} lets {number} in, in the end"),
                    );
                }
            }
        }
        let row = self.report();
        let failed = world.failed.load(Ordering::SeqCst);
        Told { refused_after: row.first_refusal_after_ms, row, failed, given_back }
    }

    /// Notes what happened, and fails if a promise was broken.
    pub(crate) fn report(&self) -> Row {
        let moments = self.world.moments(|moments| *moments);
        let refused = moments.refused.zip(moments.began).map(|(at, began)| at - began);
        let row = Row {
            fault: self.fault,
            backend: self.backend,
            first_refusal_after_ms: refused.map(|after| after.as_millis()),
            clear_again_after_ms: moments.clear_after.map(|after| after.as_millis()),
            revoked: self.world.streamed.load(Ordering::SeqCst),
            lost: self.world.lost.load(Ordering::SeqCst),
            signed_out_wrongly: self.world.wrongly.load(Ordering::SeqCst),
        };
        report::keep(row.clone());
        let complaints = self.world.complaints.lock().unwrap();
        assert!((row.lost, row.signed_out_wrongly) == (0, 0), "{row:?}: {complaints:#?}");
        row
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.world.stopped.store(true, Ordering::SeqCst);
    }
}
