//! Generations: `renew`, and which copies of a session it leaves alive.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test may panic"
)]

mod common;
#[path = "common/orders.rs"]
mod orders;

use std::time::Duration;

use common::{Browser, HOUR, MILLI, MINUTE, is_alive, open, signed_in};
use sealed_session::{ErrorKind, Map, Policy, Session, SessionId, SessionManager, SignIn, Target};

const ID: SessionId = SessionId::from_bytes([7; 16]);

#[test]
fn renew_ends_older_copies_and_reports_who_still_sends_them() {
    let (record, log) = common::recorder();
    let (builder, clock) = common::builder();
    let sessions = builder.observer(record).build().unwrap();
    let mut browser = signed_in(&sessions, "alice");
    clock.advance(MINUTE);
    browser.request(&sessions, |s: &Session<Map>| s.insert("cart", 7).unwrap());
    let copy = browser.clone();

    browser.request(&sessions, |s: &Session<Map>| s.renew().unwrap());

    let session = open(&sessions, &browser);
    assert_eq!(session.subject().as_deref(), Some("alice"));
    assert_eq!(session.get::<u32>("cart").unwrap(), Some(7));
    log.lock().unwrap().clear();
    assert!(!is_alive(&sessions, &copy));
    let id = session.id().unwrap();
    let expected = [
        format!("Reuse {{ id: {id:?}, generation: 0 }}"),
        format!("Rejected {{ kind: Revoked, id: Some({id:?}) }}"),
    ];
    assert_eq!(*log.lock().unwrap(), expected);
}

#[test]
fn renew_keeps_id_times_limits_and_csrf_tokens() {
    let (sessions, clock) = common::manager(Policy::default());
    let mut browser = signed_in(&sessions, "alice");
    let facts = |s: &Session<Map>| (s.id(), s.issued_at(), s.expires_at(), s.subject());
    let (before, token) = browser.request(&sessions, |s| (facts(s), s.csrf_token().unwrap()));
    assert!(before.0.is_some());
    clock.advance(20 * MINUTE);

    let during = browser.request(&sessions, |s| {
        s.renew().unwrap();
        facts(s)
    });

    assert_eq!(during, before);
    browser.request(&sessions, |s| {
        assert_eq!(facts(s), before);
        s.verify_csrf(&token).unwrap();
    });
    clock.advance(20 * MINUTE);
    assert!(is_alive(&sessions, &browser), "a renewal is activity");
    for _ in 0..60 {
        clock.advance(20 * MINUTE);
        browser.request(&sessions, |s: &Session<Map>| s.renew().map(drop).unwrap());
    }
    assert!(!is_alive(&sessions, &browser), "a renewal does not push the absolute limit back");
}

#[test]
fn renewed_copies_die_as_one_session() {
    let (sessions, _) = common::manager(Policy::default());
    let mut browser = signed_in(&sessions, "alice");
    let id = open(&sessions, &browser).id().unwrap();
    browser.request(&sessions, |s: &Session<Map>| s.renew().unwrap());
    assert!(is_alive(&sessions, &browser));

    sessions.revoke(Target::session(id)).unwrap();
    assert!(!is_alive(&sessions, &browser));

    // A renewal that was under way does not bring it back.
    let mut late = signed_in(&sessions, "alice");
    let slow = open(&sessions, &late);
    late.request(&sessions, |s: &Session<Map>| s.sign_out().unwrap());
    assert_eq!(slow.renew().unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(slow.close().unwrap().into_iter().next(), None);
}

#[test]
fn what_was_never_sealed_has_no_copies_to_end() {
    let list = sealed_session::RevocationList::in_process();
    let sessions = common::builder().0.revocations(list.clone()).build().unwrap();
    let mut browser = Browser::default();

    browser.request(&sessions, |s: &Session<Map>| s.renew().unwrap());
    assert_eq!(browser.cookie, None);
    browser.request(&sessions, |s: &Session<Map>| {
        s.sign_in("alice").unwrap();
        s.renew().unwrap();
    });

    assert_eq!(browser.subject(&sessions).as_deref(), Some("alice"));
    assert_eq!(list.entries(), 0);
}

#[test]
fn generation_65535_is_the_last_and_a_sign_in_starts_over() {
    let (sessions, _) = common::manager(Policy::default());
    let mut browser = signed_in(&sessions, "alice");
    // In 15 requests, and in each of them many times.
    for _ in 0..15 {
        browser.request(&sessions, |s: &Session<Map>| {
            for _ in 0..4369 {
                s.renew().unwrap();
            }
        });
    }
    let copy = browser.clone();

    browser.request(&sessions, |s: &Session<Map>| {
        assert_eq!(s.renew().unwrap_err().kind(), ErrorKind::Unsupported);
        assert_eq!(s.subject().as_deref(), Some("alice"));
    });
    assert!(is_alive(&sessions, &copy));

    browser.sign_in(&sessions, "alice");
    browser.request(&sessions, |s: &Session<Map>| s.renew().unwrap());
    assert!(is_alive(&sessions, &browser));
    assert!(!is_alive(&sessions, &copy));
}

#[test]
fn a_fact_about_generations_outlives_the_session() {
    let limits = sealed_session::Limits { absolute_timeout: 2 * HOUR, idle_timeout: None };
    let list = sealed_session::RevocationList::in_process();
    let (builder, clock) = common::builder();
    let sessions =
        builder.policy(Policy::default().browser(limits)).revocations(list).build().unwrap();
    let mut browser = signed_in(&sessions, "alice");
    let copy = browser.clone();
    browser.request(&sessions, |s: &Session<Map>| s.renew().unwrap());

    clock.advance(2 * HOUR);
    // Another fact, so that the list prunes itself.
    sessions.revoke(Target::subject("bob")).unwrap();

    assert!(is_alive(&sessions, &browser));
    assert!(!is_alive(&sessions, &copy));
}

// `renew` and `except` in every order, against a model.

const DESK: usize = 0;
const PHONE: usize = 1;
const LATE: usize = 2;

#[derive(Clone, Copy, Debug)]
enum Step {
    Renew(usize),
    Write(usize),
    SignOutOthers(usize),
    /// By subject, tag and "everyone" in turn, sparing one device.
    Force {
        except: Option<usize>,
    },
    SignIn(usize),
}

#[derive(Clone, Copy)]
enum Fact {
    GenerationsBelow(usize, u16),
    AllSoFar { devices: usize, except: Option<usize> },
}

struct Copied {
    device: usize,
    generation: u16,
    browser: Browser,
}

struct World {
    sessions: SessionManager,
    browsers: [Browser; 3],
    ids: [SessionId; 3],
    /// How many devices have signed in, in the order of their numbers.
    devices: usize,
    generations: [u16; 3],
    facts: Vec<Fact>,
    copies: Vec<Copied>,
}

impl World {
    fn new(sessions: SessionManager) -> Self {
        let mut world = Self {
            sessions,
            browsers: [const { Browser { cookie: None } }; 3],
            ids: [ID; 3],
            devices: 0,
            generations: [0; 3],
            facts: Vec::new(),
            copies: Vec::new(),
        };
        world.take(Step::SignIn(DESK), 0);
        world.take(Step::SignIn(PHONE), 0);
        world
    }

    /// Each fact is judged by itself.
    fn is_alive(&self, device: usize, generation: u16) -> bool {
        device < self.devices
            && !self.facts.iter().any(|fact| match *fact {
                Fact::GenerationsBelow(of, below) => of == device && generation < below,
                Fact::AllSoFar { devices, except } => device < devices && except != Some(device),
            })
    }

    fn take(&mut self, step: Step, round: usize) {
        let sessions = self.sessions.clone();
        let devices = self.devices;
        match step {
            Step::SignIn(device) => {
                self.browsers[device] = signed_in(&sessions, SignIn::new("alice").tag("phone"));
                self.ids[device] = open(&sessions, &self.browsers[device]).id().unwrap();
                self.devices += 1;
            }
            Step::Renew(device) => {
                let alive = self.is_alive(device, self.generations[device]);
                self.browsers[device].request(&sessions, |s: &Session<Map>| s.renew().unwrap());
                if alive {
                    self.generations[device] += 1;
                    let generation = self.generations[device];
                    self.facts.push(Fact::GenerationsBelow(device, generation));
                }
            }
            Step::Write(device) => self.browsers[device].request(&sessions, |s: &Session<Map>| {
                if s.subject().is_some() {
                    s.insert("round", round).unwrap();
                }
            }),
            Step::SignOutOthers(device) => {
                let alive = self.is_alive(device, self.generations[device]);
                let result = self.browsers[device]
                    .request(&sessions, |s: &Session<Map>| s.sign_out_others().map(drop));
                let expected = if alive { Ok(()) } else { Err(ErrorKind::SignedOut) };
                assert_eq!(result.map_err(|error| error.kind()), expected);
                if alive {
                    self.facts.push(Fact::AllSoFar { devices, except: Some(device) });
                }
            }
            Step::Force { except } => {
                let targets = [Target::subject("alice"), Target::tag("phone"), Target::everyone()];
                let target = targets[round % 3];
                let spare = |device: usize| target.except(self.ids[device]);
                sessions.revoke(except.map_or(target, spare)).unwrap();
                self.facts.push(Fact::AllSoFar { devices, except });
            }
        }
        self.copies.extend((0..self.devices).map(|device| Copied {
            device,
            generation: self.generations[device],
            browser: self.browsers[device].clone(),
        }));
    }

    fn check(&self, steps: &[Step]) {
        for copy in &self.copies {
            let expected = self.is_alive(copy.device, copy.generation);
            let context = (copy.device, copy.generation, steps);
            assert_eq!(is_alive(&self.sessions, &copy.browser), expected, "{context:?}");
        }
    }
}

/// Tries every order, with this much time between two steps.
fn try_all_orders(pause: Duration) {
    use Step::{Force, Renew, SignIn, SignOutOthers, Write};
    let plans = [
        [
            Renew(DESK),
            SignOutOthers(DESK),
            Renew(PHONE),
            Force { except: Some(PHONE) },
            SignIn(LATE),
        ],
        [Renew(DESK), SignOutOthers(DESK), SignOutOthers(PHONE), Write(DESK), SignIn(LATE)],
        [
            Renew(DESK),
            Renew(DESK),
            Write(DESK),
            Force { except: Some(DESK) },
            Force { except: None },
        ],
        [
            Renew(PHONE),
            Force { except: Some(DESK) },
            Force { except: Some(PHONE) },
            Write(PHONE),
            SignIn(LATE),
        ],
    ];
    for mut plan in plans {
        orders::each(&mut plan, |steps| {
            let (sessions, clock) = common::manager(Policy::default());
            let mut world = World::new(sessions);
            for (round, step) in steps.iter().enumerate() {
                clock.advance(pause);
                world.take(*step, round);
                world.check(steps);
            }
        });
    }
}

#[test]
fn renew_and_except_hold_in_every_order() {
    try_all_orders(MILLI);
}

#[test]
fn renew_and_except_hold_in_every_order_within_one_millisecond() {
    try_all_orders(Duration::ZERO);
}
