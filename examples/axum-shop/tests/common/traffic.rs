//! Visitors who browse a fleet all the time, and what they meet.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]
#![allow(clippy::arithmetic_side_effects, reason = "helpers of tests")]
#![allow(clippy::indexing_slicing, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use std::{io, mem};

use serde_json::Value;

use super::common::{Answer, Browser, eventually};
use super::fleet::Fleet;

/// Somebody with an account, whose every request goes to another server than the one before.
pub struct Visitor {
    pub browser: Browser,
    number: usize,
    user: &'static str,
    cart: Vec<String>,
    requests: usize,
}

impl Visitor {
    /// Signs in, every other visitor with "remember me".
    pub fn sign_in(fleet: &Fleet, number: usize) -> Self {
        let (user, password) =
            if number.is_multiple_of(3) { ("alice", "wonderland") } else { ("bob", "builder") };
        let mut browser = fleet.servers[number % Fleet::SIZE].browser();
        let remember = if number.is_multiple_of(2) { "on" } else { "" };
        let form = [("user", user), ("password", password), ("remember", remember)];
        browser.post("/sign-in", &form).assert_redirect();
        Self { browser, number, user, cart: Vec::new(), requests: number }
    }

    pub fn sign_in_all(fleet: &Fleet, numbers: std::ops::Range<usize>) -> Vec<Self> {
        numbers.map(|number| Self::sign_in(fleet, number)).collect()
    }

    /// The key that the visitor's cookie is sealed under.
    pub fn key(&self) -> String {
        self.browser.cookies.values().next().map(|token| key_of(token)).unwrap_or_default()
    }

    /// Whether each server of the fleet knows the visitor, and the cart as it was left.
    pub fn known(&self, fleet: &Fleet) -> [bool; Fleet::SIZE] {
        self.asked(fleet).map(|who| self.is_me(&who))
    }

    /// Whether the visitor is nobody to each server of the fleet.
    pub fn unknown(&self, fleet: &Fleet) -> [bool; Fleet::SIZE] {
        self.asked(fleet).map(|who| who["id"].is_null())
    }

    /// What each server says to a copy of the cookie.
    fn asked(&self, fleet: &Fleet) -> [Value; Fleet::SIZE] {
        std::array::from_fn(|at| self.browser.clone().at(&fleet.servers[at]).whoami())
    }

    fn is_me(&self, who: &Value) -> bool {
        who["subject"] == self.user && who["data"]["cart"] == Value::from(self.cart.clone())
    }

    /// Looks at a page, and now and then puts something into the cart. Every fifth visitor does not:
    /// what they get sealed anew is for their looking alone.
    fn browse(&mut self, addrs: &[String], tally: &Mutex<Tally>) {
        let looks_only = self.number.is_multiple_of(5) || self.cart.len() >= MAX_ITEMS;
        if looks_only || self.requests % ITEM_EVERY != self.number % ITEM_EVERY {
            self.request(addrs, tally, |visitor| {
                let answer = visitor.browser.try_get("/whoami")?;
                Ok((visitor.judge_whoami(&answer), answer))
            });
            return;
        }
        let item = format!("{}-{}", self.number, self.cart.len());
        let mut csrf = String::new();
        self.request(addrs, tally, |visitor| {
            let answer = visitor.browser.try_get("/")?;
            csrf = answer.csrf();
            Ok((visitor.judge_page(&answer), answer))
        });
        self.request(addrs, tally, |visitor| {
            let form = [("csrf", csrf.as_str()), ("item", item.as_str())];
            let answer = visitor.browser.try_post("/cart", &[], &form)?;
            Ok((visitor.judge_form(&answer, &item), answer))
        });
    }

    /// Makes one request at the next server, and writes down what came of it.
    fn request(
        &mut self,
        addrs: &[String],
        tally: &Mutex<Tally>,
        act: impl FnOnce(&mut Self) -> io::Result<(Outcome, Answer)>,
    ) {
        let server = self.requests % addrs.len();
        self.requests += 1;
        self.browser.turn_to(&addrs[server]);
        let under = self.key();
        let outcome = act(self).map_or_else(
            |error| Outcome::Failed(error.to_string()),
            |(outcome, answer)| match outcome {
                _ if self.browser.cookies.len() != 1 => Outcome::Failed("no cookie left".into()),
                _ if is_for_nobody(&answer) && answer.header("set-cookie").is_some() => {
                    Outcome::Failed("an anonymous answer with a cookie".into())
                }
                outcome => outcome,
            },
        );
        let mut tally = locked(tally);
        tally.requests += 1;
        tally.keys.insert(self.number, self.key());
        match outcome {
            Outcome::SignedIn => *tally.served.entry((under, server)).or_default() += 1,
            Outcome::Anonymous => tally.anonymous += 1,
            Outcome::FormRefused => tally.forms_refused += 1,
            Outcome::Failed(why) => {
                let number = self.number;
                tally.errors.push(format!("visitor {number} at server {server}: {why}"));
            }
        }
    }

    fn judge_whoami(&self, answer: &Answer) -> Outcome {
        let who: Value = serde_json::from_str(&answer.body).unwrap_or_default();
        match answer.status {
            200 if self.is_me(&who) => Outcome::SignedIn,
            200 if is_for_nobody(answer) => Outcome::Anonymous,
            status => Outcome::Failed(format!("{status}, not {:?}: {}", self.cart, answer.body)),
        }
    }

    fn judge_page(&self, answer: &Answer) -> Outcome {
        match answer.status {
            200 if answer.body.contains(&who(self.user)) => Outcome::SignedIn,
            200 if is_for_nobody(answer) => Outcome::Anonymous,
            status => Outcome::Failed(format!("{status}, not {}: {}", self.user, answer.body)),
        }
    }

    /// A form that came in time is answered with the cookie that holds the item. One that fell on a
    /// server without the key does nothing, or its token came from such a server.
    fn judge_form(&mut self, answer: &Answer, item: &str) -> Outcome {
        match (answer.status, answer.header("set-cookie")) {
            (303, Some(_)) => {
                self.cart.push(item.to_owned());
                Outcome::SignedIn
            }
            (303, None) => Outcome::Anonymous,
            (403, _) => Outcome::FormRefused,
            (status, _) => Outcome::Failed(format!("{status} for a form: {}", answer.body)),
        }
    }
}

/// Whether the answer takes the visitor for nobody.
fn is_for_nobody(answer: &Answer) -> bool {
    answer.body.contains("\"subject\":null") || answer.body.contains(&who("a guest"))
}

/// How a page tells who is signed in.
fn who(name: &str) -> String {
    format!("<strong id=\"who\">{name}</strong>")
}

enum Outcome {
    SignedIn,
    Anonymous,
    FormRefused,
    Failed(String),
}

/// What all visitors of a fleet met.
#[derive(Clone, Default)]
pub struct Tally {
    pub requests: usize,
    pub anonymous: usize,
    pub forms_refused: usize,
    pub errors: Vec<String>,
    /// How many signed-in answers each server gave to cookies under each key.
    pub served: BTreeMap<(String, usize), usize>,
    /// The key of each visitor's last cookie.
    pub keys: BTreeMap<usize, String>,
}

/// Visitors who browse until they are told to stop.
pub struct Traffic {
    tally: Arc<Mutex<Tally>>,
    stop: Arc<AtomicBool>,
    workers: Vec<JoinHandle<Vec<Visitor>>>,
}

impl Traffic {
    pub fn start(fleet: &Fleet, mut visitors: Vec<Visitor>) -> Self {
        let keys = visitors.iter().map(|visitor| (visitor.number, visitor.key())).collect();
        let tally = Arc::new(Mutex::new(Tally { keys, ..Tally::default() }));
        let stop = Arc::default();
        let others = visitors.split_off(visitors.len() / 2);
        let workers = [visitors, others].map(|visitors| {
            let (tally, stop, addrs) = (Arc::clone(&tally), Arc::clone(&stop), fleet.addrs());
            thread::spawn(move || browse(visitors, &addrs, &tally, &stop))
        });
        Self { tally, stop, workers: workers.into() }
    }

    /// What they met up to now.
    pub fn tally(&self) -> Tally {
        locked(&self.tally).clone()
    }

    /// Whether the cookies of all of them are under this key.
    pub fn all_under(&self, key: &str) -> bool {
        locked(&self.tally).keys.values().all(|under| under == key)
    }

    /// Waits until so many more requests were answered.
    #[track_caller]
    pub fn await_requests(&self, more: usize) {
        let enough = self.tally().requests + more;
        assert!(eventually(|| self.tally().requests >= enough), "nobody browses");
    }

    /// Ends the browsing; the visitors, and what they met.
    pub fn stop(mut self) -> (Vec<Visitor>, Tally) {
        self.stop.store(true, Ordering::Relaxed);
        let visitors = mem::take(&mut self.workers).into_iter().flat_map(|w| w.join().unwrap());
        let visitors = visitors.collect();
        (visitors, self.tally())
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn browse(
    mut visitors: Vec<Visitor>,
    addrs: &[String],
    tally: &Mutex<Tally>,
    stop: &AtomicBool,
) -> Vec<Visitor> {
    let begun = Instant::now();
    while !stop.load(Ordering::Relaxed) && begun.elapsed() < LONGEST {
        let next = Instant::now() + PAUSE;
        for visitor in &mut visitors {
            visitor.browse(addrs, tally);
        }
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    visitors
}

/// From one page to the next of a visitor.
const PAUSE: Duration = Duration::from_millis(280);
/// More than any test takes.
const LONGEST: Duration = Duration::from_secs(600);
/// One page in so many puts something into the cart.
const ITEM_EVERY: usize = 15;
/// What fits into a cart, and more than enough to notice a loss.
const MAX_ITEMS: usize = 100;

fn locked(tally: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
    tally.lock().unwrap()
}

/// The id of the key in the first eight characters: version, key id, a byte of the nonce.
fn key_of(token: &str) -> String {
    const DIGITS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let head = token.chars().take(8).fold(0, |head: u64, character| {
        head << 6 | u64::try_from(DIGITS.find(character).expect("base64url")).unwrap()
    });
    format!("{:08x}", head >> 8 & 0xffff_ffff)
}
