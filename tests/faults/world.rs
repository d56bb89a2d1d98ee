//! Instances on one backend, a stream of revocations, somebody who asks all the time, and the rules:
//!
//! - What was acknowledged is refused by every instance that answers, `max_staleness` later at the
//!   latest, and for ever; where it was revoked, at once.
//! - An instance that was cut off for longer than `max_staleness` lets nobody in.
//! - Nobody else is ever told that his session was revoked.
//! - In the end all is in the backend, also what was not acknowledged: a new instance refuses it.

use std::collections::VecDeque;
use std::error::Error as _;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use sealed_session::revocation::WhenMissing;
use sealed_session::{
    ErrorKind, KeyRing, Limits, Map, Policy, Receipt, RevocationList, SessionId, SessionManager,
    Target,
};

use crate::backend;
use crate::faulty_log::ShiftedClock;
use crate::redis_server::eventually;

pub(crate) const STALENESS: Duration = Duration::from_secs(2);
/// What clocks may be apart that are looked at one after the other.
pub(crate) const JITTER: Duration = Duration::from_millis(50);
pub(crate) const REVOKED: Answer = Err(ErrorKind::Revoked);
pub(crate) const STALE: Answer = Err(ErrorKind::Backend);
/// Those that nobody revokes.
pub(crate) const BYSTANDERS: usize = 40;
/// Those that the stream revokes, ten milliseconds apart.
pub(crate) const STREAM: usize = 3_000;
/// Those that a test may revoke.
pub(crate) const SPARE: usize = 400;
const PACE: Duration = Duration::from_millis(10);

pub(crate) type Answer = Result<(), ErrorKind>;

/// One instance of the application.
pub(crate) struct Instance {
    pub(crate) clock: ShiftedClock,
    pub(crate) list: RevocationList,
    pub(crate) sessions: SessionManager,
}

impl Instance {
    pub(crate) fn new(ring: &KeyRing, address: &str, when_missing: WhenMissing) -> Self {
        let clock = ShiftedClock::default();
        let list = RevocationList::builder(backend::open(address)).when_missing(when_missing);
        let list = list.max_staleness(STALENESS).clock(clock.clone());
        let list = match backend::settle(address) {
            Some(settle) => list.settle(settle),
            None => list,
        };
        let list = list.build().unwrap();
        let sessions = manager(ring, &clock).revocations(list.clone()).build().unwrap();
        Self { clock, list, sessions }
    }

    pub(crate) fn sign_in(&self, subject: &str) -> String {
        self.sessions.bearer::<Map>().issue(subject).unwrap()
    }

    pub(crate) fn ask(&self, token: &(impl AsRef<str> + ?Sized)) -> Answer {
        let opened = self.sessions.bearer::<Map>().open(token.as_ref());
        opened.map(drop).map_err(|error| error.kind())
    }

    pub(crate) fn catch_up(&self) {
        eventually("the list has caught up", || self.list.catch_up().wait().ok());
    }

    /// Why the log cannot be read or written, with all causes.
    pub(crate) fn why(&self) -> String {
        let Some(error) = self.list.status().last_error else { return String::new() };
        let cause = error.source().map(ToString::to_string).unwrap_or_default();
        format!("{error}: {cause}")
    }
}

pub(crate) fn manager(
    ring: &KeyRing,
    clock: &ShiftedClock,
) -> sealed_session::SessionManagerBuilder {
    let half_a_day = Duration::from_secs(12 * 3_600);
    let limits = Limits { absolute_timeout: half_a_day, idle_timeout: None };
    let ring: KeyRing = ring.expose_text().parse().unwrap();
    SessionManager::builder("shop", ring)
        .policy(Policy::default().browser(limits))
        .clock(clock.clone())
}

pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) subject: String,
    pub(crate) id: SessionId,
}

impl AsRef<str> for Token {
    fn as_ref(&self) -> &str {
        &self.text
    }
}

/// What became of a session.
#[derive(Clone, Copy, Default)]
struct Fate {
    /// Somebody began to revoke it.
    begun: bool,
    /// Since when it is in force, and where.
    revoked: Option<(Instant, usize)>,
    acknowledged: Option<Instant>,
}

pub(crate) struct World {
    pub(crate) ring: KeyRing,
    pub(crate) address: String,
    pub(crate) tokens: Vec<Token>,
    pub(crate) lost: AtomicUsize,
    instances: RwLock<Vec<Arc<Instance>>>,
    fates: Vec<Mutex<Fate>>,
    /// How many of the stream were revoked.
    pub(crate) streamed: AtomicUsize,
    pub(crate) acknowledged: AtomicUsize,
    pub(crate) failed: AtomicUsize,
    pub(crate) wrongly: AtomicUsize,
    pub(crate) complaints: Mutex<Vec<String>>,
    moments: Mutex<Moments>,
    pub(crate) stopped: AtomicBool,
}

/// When things happened.
#[derive(Clone, Copy, Default)]
pub(crate) struct Moments {
    pub(crate) began: Option<Instant>,
    pub(crate) refused: Option<Instant>,
    /// Since when nobody can have learnt anything.
    pub(crate) cut_off: Option<Instant>,
    pub(crate) mended: Option<Instant>,
    pub(crate) clear_after: Option<Duration>,
}

impl World {
    pub(crate) fn new(
        ring: KeyRing,
        address: String,
        tokens: Vec<Token>,
        instances: Vec<Arc<Instance>>,
    ) -> Self {
        Self {
            fates: tokens.iter().map(|_| Mutex::default()).collect(),
            ring,
            address,
            tokens,
            lost: AtomicUsize::new(0),
            instances: RwLock::new(instances),
            streamed: AtomicUsize::new(0),
            acknowledged: AtomicUsize::new(0),
            failed: AtomicUsize::new(0),
            wrongly: AtomicUsize::new(0),
            complaints: Mutex::default(),
            moments: Mutex::default(),
            stopped: AtomicBool::new(false),
        }
    }

    pub(crate) fn instances(&self) -> Vec<Arc<Instance>> {
        self.instances.read().unwrap().clone()
    }

    /// One more, which those who ask will ask from now on.
    pub(crate) fn add(&self, address: &str) {
        let instance = self.instance_with(address, WhenMissing::SignOutEveryone);
        self.instances.write().unwrap().push(Arc::new(instance));
    }

    pub(crate) fn instance_with(&self, address: &str, when_missing: WhenMissing) -> Instance {
        Instance::new(&self.ring, address, when_missing)
    }

    pub(crate) fn drop_instances(&self) {
        self.instances.write().unwrap().clear();
    }

    /// Those that were acknowledged longer ago.
    pub(crate) fn acknowledged(&self, ago: Duration) -> Vec<&Token> {
        let is_old =
            |n: &usize| self.fate(*n).acknowledged.is_some_and(|at| at.elapsed() > ago + JITTER);
        self.revoked().into_iter().filter(is_old).map(|n| &self.tokens[n]).collect()
    }

    /// The numbers of those that the stream has revoked.
    pub(crate) fn revoked(&self) -> Vec<usize> {
        (BYSTANDERS..BYSTANDERS + self.streamed.load(Ordering::SeqCst)).collect()
    }

    /// Sessions that nobody has revoked.
    pub(crate) fn spare(&self, count: usize) -> &[Token] {
        &self.tokens[BYSTANDERS + STREAM..][..count]
    }

    /// Waits until every instance refuses a session.
    pub(crate) fn all_refuse(&self, token: &Token) {
        eventually("all refuse it", || {
            self.instances().iter().all(|it| it.ask(token) == REVOKED).then_some(())
        });
    }

    fn fate(&self, number: usize) -> Fate {
        *self.fates[number].lock().unwrap()
    }

    pub(crate) fn moments<T>(&self, with: impl FnOnce(&mut Moments) -> T) -> T {
        with(&mut self.moments.lock().unwrap())
    }

    pub(crate) fn complain(&self, count: &AtomicUsize, what: String) {
        count.fetch_add(1, Ordering::SeqCst);
        let mut complaints = self.complaints.lock().unwrap();
        if complaints.len() < 10 {
            complaints.push(what);
        }
    }

    /// Asks an instance about a session, and holds the answer against the rules.
    pub(crate) fn ask(&self, at: usize, instance: &Instance, number: usize) -> Answer {
        let cut_off = || self.moments(|moments| moments.cut_off);
        let (before, cut_off_before, asked) = (self.fate(number), cut_off(), Instant::now());
        let answer = instance.ask(&self.tokens[number]);
        let late = |since: Instant| {
            asked.checked_duration_since(since + STALENESS).filter(|late| *late > JITTER)
        };
        match answer {
            Ok(()) => {
                let here = before.revoked.is_some_and(|(_, revoker)| revoker == at);
                if here || before.acknowledged.and_then(late).is_some() {
                    let [since_revoked, since_known] =
                        [before.revoked.map(|it| it.0), before.acknowledged]
                            .map(|at| at.map(|at| asked.saturating_duration_since(at)));
                    let what = format!(
                        "instance {at} lets {number} in, revoked {since_revoked:?} and acknowledged \
                         {since_known:?} before, here: {here}"
                    );
                    self.complain(&self.lost, what);
                }
                if let Some(late) = cut_off_before.and_then(late)
                    && cut_off() == cut_off_before
                {
                    let what = format!("instance {at} lets {number} in, stale for {late:?}");
                    self.complain(&self.lost, what);
                }
            }
            REVOKED => {
                if !self.fate(number).begun {
                    self.complain(&self.wrongly, format!("instance {at} refuses {number}"));
                }
            }
            STALE => self.moments(|moments| {
                if moments.began.is_some() && moments.refused.is_none() {
                    moments.refused = Some(Instant::now());
                }
            }),
            other => self.complain(&self.wrongly, format!("instance {at}: {number} {other:?}")),
        }
        answer
    }

    /// Asks until it is stopped: about bystanders, about the latest, and about all others in turn.
    pub(crate) fn ask_all_the_time(&self) {
        let mut turn = 0_usize;
        while !self.stopped.load(Ordering::SeqCst) {
            for (at, instance) in self.instances().iter().enumerate() {
                turn += 1;
                let streamed = self.streamed.load(Ordering::SeqCst);
                let latest = (1..=3).filter_map(|back| streamed.checked_sub(back));
                let walk = (0..4).filter_map(|n| (turn * 4 + n).checked_rem(streamed));
                let revoked: Vec<usize> = latest.chain(walk).map(|n| n + BYSTANDERS).collect();
                for number in [turn % BYSTANDERS].iter().chain(&revoked) {
                    let _ = self.ask(at, instance, *number);
                }
            }
            thread::sleep(Duration::from_millis(4));
        }
    }

    /// Revokes one after the other, as subject or by id, each on another instance, and keeps the receipts.
    pub(crate) fn stream(&self) {
        let mut receipts: VecDeque<(usize, Receipt)> = VecDeque::new();
        let began = Instant::now();
        for n in 0.. {
            let stopped = self.stopped.load(Ordering::SeqCst);
            if stopped && receipts.is_empty() {
                break;
            }
            if !stopped && n < STREAM {
                let (number, instances) = (BYSTANDERS + n, self.instances());
                let token = &self.tokens[number];
                let (at, target) = match n % 2 {
                    0 => (n / 2 % instances.len(), Target::subject(&token.subject)),
                    _ => (n / 2 % instances.len(), Target::session(token.id)),
                };
                self.fates[number].lock().unwrap().begun = true;
                let receipt = instances[at].sessions.revoke(target).unwrap();
                self.fates[number].lock().unwrap().revoked = Some((Instant::now(), at));
                self.streamed.store(n + 1, Ordering::SeqCst);
                receipts.push_back((number, receipt));
            }
            receipts.retain_mut(|(number, receipt)| match poll(receipt) {
                Poll::Pending => true,
                Poll::Ready(result) => {
                    let count = match result {
                        Ok(()) => {
                            self.fates[*number].lock().unwrap().acknowledged = Some(Instant::now());
                            &self.acknowledged
                        }
                        Err(_) => &self.failed,
                    };
                    count.fetch_add(1, Ordering::SeqCst);
                    false
                }
            });
            let next = PACE.saturating_mul(u32::try_from(n).unwrap());
            thread::sleep(next.saturating_sub(began.elapsed()).clamp(PACE / 4, PACE));
        }
    }
}

fn poll(receipt: &mut Receipt) -> Poll<Result<(), sealed_session::Error>> {
    Future::poll(Pin::new(receipt), &mut Context::from_waker(Waker::noop()))
}
