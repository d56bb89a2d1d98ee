//! Rotation in a fleet whose clocks differ and whose servers load the new text when they can: nobody
//! is signed out by it. Shows that `open_until` is late enough, and that it may not be earlier.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::unchecked_time_subtraction,
    clippy::unwrap_used,
    reason = "a test may panic"
)]

mod common;
#[path = "common/rings.rs"]
mod rings;

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use common::{Browser, HOUR, MILLI, MINUTE, SECOND};
use proptest::prelude::*;
use rings::{date, id, key};
use sealed_session::{
    ErrorKind, KeyRing, Limits, ManualClock, Map, Policy, Rotation, Session, SessionManager,
};

const SKEW: Duration = MINUTE;
const IDLE: Duration = Duration::from_secs(10 * 60);
const ABSOLUTE: Duration = HOUR;
const REFRESH: Duration = MINUTE;
const DELAY: Duration = Duration::from_secs(20 * 60);
/// A visitor who comes within this is never idle, on whatever clocks: see `Policy`.
const REGULAR: Duration = Duration::from_secs(10 * 60 - 60 - 2 * 60 - 1);

fn policy() -> Policy {
    let limits = Limits { absolute_timeout: ABSOLUTE, idle_timeout: Some(IDLE) };
    Policy::default().browser(limits).remember(limits).refresh_after(REFRESH).clock_skew(SKEW)
}

fn rotation() -> Rotation {
    Rotation::new(&policy()).activation_delay(DELAY).reload_lag(Duration::ZERO)
}

fn begin() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000)
}

/// A clock that is off, by so many milliseconds.
fn off(now: SystemTime, by: i64) -> SystemTime {
    let much = Duration::from_millis(by.unsigned_abs());
    if by < 0 { now - much } else { now + much }
}

/// A server with the rings it gets in the course of time, and a clock of its own.
struct Server {
    clock: ManualClock,
    clock_error: i64,
    /// Each text with the instant from which on the server has it.
    texts: Vec<(SystemTime, String)>,
    managers: BTreeMap<usize, SessionManager>,
}

impl Server {
    fn new(clock_error: i64, texts: Vec<(SystemTime, String)>) -> Self {
        let clock = ManualClock::new(begin());
        Self { clock, clock_error, texts, managers: BTreeMap::new() }
    }

    /// What answers on this server at an instant.
    fn at(&mut self, now: SystemTime) -> &SessionManager {
        self.clock.set(off(now, self.clock_error));
        let version = self.texts.iter().rposition(|(from, _)| *from <= now).unwrap();
        self.managers.entry(version).or_insert_with(|| {
            let ring: KeyRing = self.texts[version].1.parse().unwrap();
            let builder = SessionManager::builder("shop", ring).policy(policy());
            builder.clock(self.clock.clone()).build().unwrap()
        })
    }
}

/// A visit, whose handler writes or not; whether the visitor was known.
fn visit(sessions: &SessionManager, browser: &mut Browser, writes: bool) -> bool {
    browser.request(sessions, |session: &Session<Map>| {
        let known = session.subject().as_deref() == Some("alice");
        if known && writes {
            session.update(|data| *data = Map::new()).unwrap();
        }
        known
    })
}

/// The same keys without any end: what the limits alone make of a session.
fn without_ends(texts: &[String]) -> String {
    let mut lines = BTreeMap::new();
    for line in texts.iter().flat_map(|text| text.lines()).filter(|line| !line.starts_with('#')) {
        let kept: Vec<_> = line.split(' ').filter(|word| !word.starts_with("open_until")).collect();
        lines.insert(kept[0].to_owned(), kept.join(" "));
    }
    lines.into_values().collect::<Vec<_>>().join("\n")
}

#[test]
fn two_servers_know_every_visitor_in_whatever_order_they_load_a_rotated_ring() {
    let old: KeyRing = key().parse().unwrap();
    let skew = i64::try_from(SKEW.as_millis()).unwrap();
    let texts = [
        old.expose_text().to_string(),
        old.rotate(&rotation(), begin()).unwrap().ring().expose_text().to_string(),
    ];
    // The last moment before the new key seals on the fastest clock.
    let last = DELAY - 2 * SKEW - MILLI;
    let loads = [Duration::ZERO, DELAY / 4, DELAY / 2, last];
    let mut visits = 0;
    for (load_0, load_1) in loads.iter().flat_map(|one| loads.map(|other| (*one, other))) {
        for (error_0, error_1) in [(0, 0), (-skew, skew), (skew, -skew), (skew, skew)] {
            let server = |load, error| {
                let before = (begin() - HOUR, texts[0].clone());
                Server::new(error, vec![before, (begin() + load, texts[1].clone())])
            };
            let mut servers = [server(load_0, error_0), server(load_1, error_1)];
            for pattern in 0..16_usize {
                let mut now = begin() - MINUTE;
                let first = servers[pattern & 1].at(now);
                let mut browser = common::signed_in(first, "alice");
                for step in 0..10 {
                    now += Duration::from_secs(299);
                    let sessions = servers[pattern >> (step % 4) & 1].at(now);
                    assert!(visit(sessions, &mut browser, step % 3 == 0), "{pattern} {step}");
                    visits += 1;
                }
            }
        }
    }
    assert_eq!(visits, 16 * 4 * 16 * 10);
}

/// What happens in a fleet, in parts of what may happen.
#[derive(Clone, Debug)]
struct Plan {
    clock_errors: Vec<i64>,
    /// The error of the clock where the rotation runs, when it runs after the last one, and when
    /// each server has it.
    rotations: Vec<(i64, u32, Vec<f64>)>,
    /// How long after the last visit, where, whether something is written.
    visits: Vec<(f64, usize, bool)>,
}

fn plans() -> impl Strategy<Value = Plan> {
    let skew = i64::try_from(SKEW.as_millis()).unwrap();
    let error = move || prop_oneof![Just(-skew), Just(skew), -skew..=skew];
    let part = || prop_oneof![Just(1.0), Just(0.999), 0.0..1.0];
    (2..=4_usize).prop_flat_map(move |servers| {
        let load = prop::collection::vec(part(), servers);
        let rotation = (error(), 3_000..9_000_u32, load);
        let visit = (part(), 0..servers, any::<bool>());
        (
            prop::collection::vec(error(), servers),
            prop::collection::vec(rotation, 3),
            prop::collection::vec(visit, 64..256),
        )
            .prop_map(|(clock_errors, rotations, visits)| Plan {
                clock_errors,
                rotations,
                visits,
            })
    })
}

/// The texts, when they were made, and the servers that load them.
fn fleet(plan: &Plan) -> (Vec<String>, SystemTime, Vec<Server>) {
    let mut ring: KeyRing = key().parse().unwrap();
    let mut texts = vec![ring.expose_text().to_string()];
    let mut servers: Vec<_> = plan
        .clock_errors
        .iter()
        .map(|error| Server::new(*error, vec![(begin(), texts[0].clone())]))
        .collect();
    let mut now = begin();
    for (error, after, loads) in &plan.rotations {
        now += Duration::from_secs(u64::from(*after));
        ring = ring
            .rotate(&rotation(), off(now, *error))
            .unwrap()
            .ring()
            .expose_text()
            .parse()
            .unwrap();
        texts.push(ring.expose_text().to_string());
        for (server, part) in servers.iter_mut().zip(loads) {
            // Before the new key seals on any clock, if all that can be off is off.
            let latest = DELAY - 2 * SKEW - MILLI;
            server.texts.push((now + latest.mul_f64(*part), texts.last().unwrap().clone()));
        }
    }
    (texts, now, servers)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_regular_visitor_is_known_on_every_server_through_three_rotations(plan in plans()) {
        let (texts, last, mut servers) = fleet(&plan);
        prop_assert!(!texts[3].contains(texts[0].lines().nth(1).unwrap()), "the first key stayed");
        let mut now = begin();
        let mut signed_in_at = now;
        let mut browser = common::signed_in(servers[0].at(now), "alice");
        for (part, at, writes) in plan.visits.iter().cycle() {
            if now > last + DELAY + IDLE {
                break;
            }
            now += REGULAR.mul_f64(*part) + MILLI;
            let sessions = servers[*at].at(now);
            if now.duration_since(signed_in_at).unwrap() > ABSOLUTE - 2 * SKEW - SECOND {
                (browser, signed_in_at) = (common::signed_in(sessions, "alice"), now);
            }
            prop_assert!(visit(sessions, &mut browser, *writes));
        }
    }

    #[test]
    fn no_session_that_the_limits_spare_ends_by_a_rotation(plan in plans()) {
        let (texts, last, mut servers) = fleet(&plan);
        let spared = |error| Server::new(error, vec![(begin(), without_ends(&texts))]);
        let mut limits: Vec<_> = plan.clock_errors.iter().map(|error| spared(*error)).collect();
        let mut now = begin();
        let mut browser = common::signed_in(servers[0].at(now), "alice");
        for (part, at, writes) in plan.visits.iter().cycle() {
            if now > last + DELAY + IDLE {
                break;
            }
            // At times a little longer than the idle limit, and at times a little shorter.
            now += (IDLE + 2 * SKEW + SECOND).mul_f64(*part) + MILLI;
            let alive = common::is_alive(limits[*at].at(now), &browser);
            let sessions = servers[*at].at(now);
            prop_assert_eq!(visit(sessions, &mut browser, *writes), alive);
            if !alive {
                browser = common::signed_in(sessions, "alice");
            }
        }
    }
}

/// The worst that can happen to a session: refreshed by the fastest clock, sealed under the old key
/// by the slowest at the last moment, and then idle for as long as it may. Tells what the fastest
/// server says when the visitor comes back.
fn worst_case(earlier: Duration) -> Result<(), ErrorKind> {
    let old: KeyRing = key().parse().unwrap();
    let rotated = old.rotate(&rotation(), begin()).unwrap();
    let [one, two] = rotated.ring().status(begin())[..] else { unreachable!() };
    let (seal_from, open_until) = (two.seal_from().unwrap(), one.open_until().unwrap());
    assert_eq!(id(old.expose_text().lines().nth(1).unwrap()), one.id());
    let [ends, shortened] = [open_until, open_until - earlier].map(date);
    let text = rotated.ring().expose_text().replace(&ends, &shortened);
    let skew = i64::try_from(SKEW.as_millis()).unwrap();
    let server = |error| Server::new(error, vec![(begin() - HOUR, text.clone())]);
    let (mut fast, mut slow) = (server(skew), server(-skew));

    // On the slow clock the new key does not seal yet.
    let sealed_at = seal_from + SKEW - MILLI;
    let mut browser = common::signed_in(fast.at(sealed_at), "alice");
    browser.request(slow.at(sealed_at), |session: &Session<Map>| {
        session.insert("cart", 7).unwrap();
    });
    // The first six characters hold the version and nearly all of the key id.
    let sealed = browser.cookie.as_deref().unwrap().split_once('=').unwrap().1;
    let of_old = slow.at(sealed_at).bearer::<Map>().issue("alice").unwrap();
    assert_eq!(sealed[..6], of_old[..6], "under the old key");

    // The last instant within the idle limit, which counts from the fast clock's whole second.
    let back = sealed_at + IDLE - Duration::from_millis(999);
    let session: Session<Map> = fast.at(back).open(browser.cookie.as_deref()).unwrap();
    let spared = without_ends(&[text]);
    let mut limits = Server::new(skew, vec![(begin() - HOUR, spared)]);
    assert!(common::is_alive(limits.at(back), &browser), "the limits spare it");
    match session.subject() {
        Some(_) => Ok(()),
        None => Err(ErrorKind::KeyExpired),
    }
}

#[test]
fn open_until_covers_the_worst_case_and_may_not_be_two_seconds_earlier() {
    assert_eq!(worst_case(Duration::ZERO), Ok(()));
    assert_eq!(worst_case(2 * SECOND), Err(ErrorKind::KeyExpired));
}

/// With one clock and no lag, all that is left of the overlap is the idle limit.
#[test]
fn a_key_that_ends_a_second_before_the_idle_limit_signs_out_who_is_alive() {
    let old: KeyRing = key().parse().unwrap();
    let lag = 7 * SECOND;
    let rotated = old.rotate(&rotation().reload_lag(lag), begin()).unwrap();
    let [one, two] = rotated.ring().status(begin())[..] else { unreachable!() };
    let (seal_from, open_until) = (two.seal_from().unwrap(), one.open_until().unwrap());
    let margin = 2 * SKEW + SECOND + lag;
    assert_eq!(open_until, seal_from + margin + IDLE);
    let known = |earlier: Duration| {
        let [ends, shortened] = [open_until, open_until - earlier].map(date);
        let text = rotated.ring().expose_text().replace(&ends, &shortened);
        let mut server = Server::new(0, vec![(begin() - HOUR, text)]);
        let mut browser = common::signed_in(server.at(seal_from - MILLI), "alice");
        visit(server.at(seal_from + IDLE - SECOND), &mut browser, false)
    };

    assert!(known(Duration::ZERO));
    assert!(known(margin));
    assert!(!known(margin + SECOND));
}
