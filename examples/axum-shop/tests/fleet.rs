//! Four servers with a key file each and one revocation log, and visitors who go from one to the
//! other with every request: what they notice of a rotation, of a late one, of a leaked key and of a
//! broken file.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]
#![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "a test may panic")]

#[path = "common/command.rs"]
mod command;
mod common;
#[path = "common/fleet.rs"]
mod fleet;
#[path = "common/traffic.rs"]
mod traffic;

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};
use std::{env, fs, thread};

use common::{KEYS, eventually, eventually_within};
use fleet::{Fleet, Timing};
use sealed_session::KeyState;
use serde_json::{Value, json};
use traffic::{Tally, Traffic, Visitor};

/// Every server has a new ring for seconds before its key seals.
const TIMELY: Timing = Timing { poll_every: "1s", activation_delay: "12s" };
/// A key seals when no server has to have it yet.
const HASTY: Timing = Timing { poll_every: "1s", activation_delay: "3s" };
const HOURLY: Timing = Timing { poll_every: "1h", activation_delay: "1d" };
/// The longest that a ring is on its way to a server.
const LONGEST_LAG: Duration = Duration::from_secs(5);
/// How long a key opens beyond the activation of its successor, and some time for a busy machine.
const UNTIL_EXPIRED: Duration = Duration::from_secs(240);
const ENOUGH_REQUESTS: usize = 20_000;

#[test]
fn a_full_rotation_three_times_over_signs_nobody_out() {
    let mut random = Random::seeded();
    let begun = Instant::now();
    let fleet = Fleet::start("fleet-rotations", TIMELY);
    let traffic = Traffic::start(&fleet, Visitor::sign_in_all(&fleet, 0..50));
    let mut keys = vec![fleet.operator.active()];
    let mut rotations = Vec::new();
    let mut orders = Vec::new();

    for _ in 0..3 {
        let order = loop {
            let order = random.order();
            if !orders.contains(&order) {
                break order;
            }
        };
        let lags = random.lags();
        let (before, since) = (traffic.tally(), Instant::now());
        let key = fleet.operator.rotate();
        deliver(&fleet, &order, &lags);
        fleet.await_ring();
        assert_eq!(fleet.operator.state(&key), KeyState::Pending, "the machine is too slow");
        assert!(eventually(|| traffic.all_under(&key)), "{:?}", traffic.tally().keys);
        rotations.push(rotation(&key, &order, &lags, &before, &traffic.tally(), since));
        orders.push(order);
        keys.push(key);
    }
    let (last, old) = keys.split_last().unwrap();
    for key in old {
        let expired = || fleet.operator.state(key) == KeyState::Expired;
        assert!(eventually_within(UNTIL_EXPIRED, expired), "{key} does not end");
    }
    // Each visitor comes to each server at least once more.
    let enough = ENOUGH_REQUESTS.max(traffic.tally().requests + 50 * 2 * Fleet::SIZE);
    assert!(eventually_within(UNTIL_EXPIRED, || traffic.tally().requests >= enough));
    let (visitors, tally) = traffic.stop();

    report(&json!({
        "visitors": visitors.len(),
        "seed": random.seed,
        "requests": tally.requests,
        "anonymous": tally.anonymous,
        "forms_refused": tally.forms_refused,
        "errors": tally.errors.len(),
        "seconds": begun.elapsed().as_secs(),
        "rotations": rotations,
    }));
    assert_eq!(tally.errors, [""; 0]);
    assert_eq!((tally.anonymous, tally.forms_refused), (0, 0));
    assert!(visitors.iter().all(|visitor| visitor.key() == *last));
    assert!(visitors.iter().all(|visitor| visitor.known(&fleet) == [true; Fleet::SIZE]));
    for key in &keys {
        for server in 0..Fleet::SIZE {
            assert!(tally.served.contains_key(&(key.clone(), server)), "{key} at {server}");
        }
    }
    for server in fleet.servers {
        let (_, log) = server.stop();
        assert!(!log.contains("WARN"), "{log}");
    }
}

#[test]
fn a_key_that_seals_before_every_server_has_it_hides_sessions_and_ends_none() {
    let fleet = Fleet::start("fleet-late", HASTY);
    let traffic = Traffic::start(&fleet, Visitor::sign_in_all(&fleet, 0..20));

    let key = fleet.operator.rotate();
    fleet.deliver(0);
    assert!(eventually(|| traffic.tally().anonymous >= 100), "a late ring does no harm");
    for server in 1..Fleet::SIZE {
        fleet.deliver(server);
        fleet.await_ring_at(server);
    }
    assert!(eventually(|| traffic.all_under(&key)), "{:?}", traffic.tally().keys);
    // What was under way when the last server got the ring has been answered by then.
    traffic.await_requests(40);
    let before = traffic.tally();
    traffic.await_requests(200);
    let (visitors, tally) = traffic.stop();

    // Among the errors are: a cookie deleted, one for a new session, another cart.
    assert_eq!(tally.errors, [""; 0]);
    let hidden = |tally: &Tally| (tally.anonymous, tally.forms_refused);
    assert_eq!(hidden(&tally), hidden(&before));
    assert!(visitors.iter().all(|visitor| visitor.known(&fleet) == [true; Fleet::SIZE]));
}

#[test]
fn a_leaked_key_ends_its_sessions_on_every_server_and_no_others() {
    let fleet = Fleet::start_each("fleet-leak", [HASTY, HASTY, HOURLY, HOURLY]);
    let all = [true; Fleet::SIZE];
    let mut groups = Vec::new();
    for numbers in [0..5, 5..10, 10..15] {
        if !groups.is_empty() {
            let key = fleet.operator.rotate();
            bring(&fleet);
            assert!(eventually(|| fleet.operator.state(&key) == KeyState::Active));
        }
        let (key, visitors) = (fleet.operator.active(), Visitor::sign_in_all(&fleet, numbers));
        assert!(visitors.iter().all(|visitor| visitor.key() == key));
        groups.push((key, visitors));
    }
    let [(_, older), (leaked, under_leaked), (active, newer)] = &groups[..] else { panic!() };

    fleet.operator.revoke(leaked);
    fleet.deliver_to_all();
    for visitor in under_leaked {
        assert_eq!(visitor.known(&fleet)[2..], [true, true], "they have not read it yet");
    }
    bring(&fleet);

    assert!(under_leaked.iter().all(|visitor| visitor.unknown(&fleet) == all));
    assert!(older.iter().chain(newer).all(|visitor| visitor.known(&fleet) == all));
    // The active key as well: its successor seals at once.
    fleet.operator.revoke(active);
    bring(&fleet);
    let latest = Visitor::sign_in_all(&fleet, 15..20);
    assert!(newer.iter().all(|visitor| visitor.unknown(&fleet) == all));
    assert!(latest.iter().all(|visitor| visitor.key() == fleet.operator.active()));
    assert!(older.iter().chain(&latest).all(|visitor| visitor.known(&fleet) == all));
}

/// Brings the ring to all servers, and tells those to read it that would not soon.
fn bring(fleet: &Fleet) {
    fleet.deliver_to_all();
    fleet.servers[2..].iter().for_each(|server| server.signal("HUP"));
    fleet.await_ring();
}

#[test]
fn a_server_that_gets_an_older_ring_keeps_the_newer_one() {
    let fleet = Fleet::start("fleet-older", TIMELY);
    let traffic = Traffic::start(&fleet, Visitor::sign_in_all(&fleet, 0..20));
    let older = fleet.operator.ring_text();
    let key = fleet.operator.rotate();
    fleet.deliver_to_all();
    fleet.await_ring();
    let (server, seen) = (&fleet.servers[2], fleet.servers[2].log().len());

    fleet.deliver_text(2, &older);

    server.await_log(seen, "key ring kept");
    server.await_log(seen, &format!("key {key} is missing, though it still opens: an older ring"));
    assert!(eventually(|| traffic.all_under(&key)), "{:?}", traffic.tally().keys);
    traffic.await_requests(200);
    let (visitors, tally) = traffic.stop();
    assert_eq!(tally.errors, [""; 0]);
    assert_eq!((tally.anonymous, tally.forms_refused), (0, 0));
    assert!(tally.served.contains_key(&(key, 2)));
    assert!(visitors.iter().all(|visitor| visitor.known(&fleet) == [true; Fleet::SIZE]));
}

#[test]
fn a_server_whose_key_file_breaks_goes_on_with_the_keys_it_has() {
    let fleet = Fleet::start("fleet-broken", TIMELY);
    let traffic = Traffic::start(&fleet, Visitor::sign_in_all(&fleet, 0..20));
    let good = fleet.operator.ring_text();
    let half = &good[..good.len() / 2];
    let server = &fleet.servers[1];
    let path = server.data.join(KEYS);

    for (broken, why) in [
        (Some(&b""[..]), "it holds no key"),
        (Some(half), "line 2"),
        (Some(b"\xff\0"), "line 1: not UTF-8"),
        (None, "not found"),
    ] {
        let seen = server.log().len();
        match broken {
            Some(text) => fleet.deliver_text(1, text),
            None => fs::remove_file(&path).unwrap(),
        }
        server.await_log(seen, &format!("{}: {why}", path.display()));
        traffic.await_requests(100);
    }
    fleet.operator.rotate();
    fleet.deliver_to_all();
    fleet.await_ring();
    let (visitors, tally) = traffic.stop();

    assert_eq!(tally.errors, [""; 0]);
    assert_eq!((tally.anonymous, tally.forms_refused), (0, 0));
    assert!(visitors.iter().all(|visitor| visitor.known(&fleet) == [true; Fleet::SIZE]));
}

/// Brings the ring to the servers in this order, each after its part of the lags.
fn deliver(fleet: &Fleet, order: &[usize], lags: &[Duration]) {
    let begun = Instant::now();
    for (server, lag) in order.iter().zip(lags) {
        thread::sleep(lag.saturating_sub(begun.elapsed()));
        fleet.deliver(*server);
    }
}

fn rotation(
    key: &str,
    order: &[usize],
    lags: &[Duration],
    before: &Tally,
    after: &Tally,
    since: Instant,
) -> Value {
    let lags: Vec<_> = lags.iter().map(Duration::as_millis).collect();
    json!({
        "key": key,
        "order": order,
        "delivery_lags_ms": lags,
        "requests": after.requests - before.requests,
        "anonymous": after.anonymous - before.anonymous,
        "errors": after.errors.len() - before.errors.len(),
        "seconds": since.elapsed().as_secs_f64(),
    })
}

/// Leaves the figures where the benchmarks of this project leave theirs.
fn report(figures: &Value) {
    let target = env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let reports = root.join(target).join("reports");
    fs::create_dir_all(&reports).unwrap();
    let text = serde_json::to_string_pretty(figures).unwrap() + "\n";
    fs::write(reports.join("fleet.json"), text).unwrap();
}

/// Chances that can be had again: set `SEED` to what a failed run printed.
struct Random {
    seed: u64,
    state: u64,
}

impl Random {
    fn seeded() -> Self {
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
        let seed = env::var("SEED").map_or(now, |seed| seed.parse().unwrap());
        eprintln!("SEED={seed}");
        Self { seed, state: seed }
    }

    /// `SplitMix64`.
    fn below(&mut self, bound: u64) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    /// The servers in any order.
    fn order(&mut self) -> [usize; Fleet::SIZE] {
        let mut order = std::array::from_fn(|at| at);
        for at in (1..Fleet::SIZE).rev() {
            order.swap(at, usize::try_from(self.below(at as u64 + 1)).unwrap());
        }
        order
    }

    /// How long the ring is on its way to each server in turn.
    fn lags(&mut self) -> [Duration; Fleet::SIZE] {
        let longest = u64::try_from(LONGEST_LAG.as_millis()).unwrap();
        let mut lags = [Duration::ZERO; Fleet::SIZE].map(|_| self.below(longest));
        lags.sort_unstable();
        lags.map(Duration::from_millis)
    }
}
