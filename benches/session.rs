//! What a session costs beside its floor: the same bytes through the same AEAD, `base64`,
//! `serde_json` and `getrandom`, and nothing else. No limits, no key ring, no cookie, no events.
//!
//! `cargo bench --bench session` measures the back end *ring*, and with `--no-default-features` the
//! pure one. It prints a table and leaves it in `target/reports/session-<backend>.json`. Only the
//! ratios mean anything elsewhere: contenders take turns in every round, `to_floor` is the median of
//! the ratios within each. `ROUNDS=n` sets how many. Without `--bench`, as `cargo test --benches`
//! runs it, it checks that every contender does its work, and times nothing.
#![allow(clippy::print_stdout, reason = "the table is what it is for")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed benchmark may panic")]
#![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "small known sizes")]

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};
use std::{env, fs};

use sealed_session::{
    Bearer, ErrorKind, KeyRing, ManualClock, RevocationList, Session, SessionManager,
    SessionManagerBuilder, SignIn,
};
use serde::{Deserialize, Serialize};

use floor::Floor;

const BACKEND: &str = if cfg!(feature = "ring") { "ring" } else { "pure" };
const REALM: &str = "shop";
const SUBJECT: &str = "alice";
const COOKIE: &str = "__Host-Http-id";
const OURS: &str = "sealed-session";

fn main() {
    let timed = env::args().any(|arg| arg == "--bench");
    let visitors = [Visitor::small(), Visitor::medium(), Visitor::large()];
    let mut rows = Vec::new();
    for operation in [issue, open, open_lazy, refresh, update_close] {
        for race in visitors.iter().map(operation) {
            if timed {
                rows.extend(race.run(rounds()));
            }
        }
    }
    if timed {
        print(&rows);
        println!("\n{}", save(&rows).display());
    }
}

/// A sign-in with this data, as a bearer token.
fn issue(visitor: &Visitor) -> Race {
    let (bearer, floor) = (manager().0.bearer::<Visitor>(), Floor::new(REALM, "bearer", ""));
    let token = bearer.issue(visitor.sign_in()).unwrap();
    assert_eq!(bearer.open(&token).unwrap().data(), visitor);
    assert_refused(&bearer, &forged(&token));
    floor.check(visitor, &token);

    // Both are handed the data, and drop it.
    let (ours, theirs) = (visitor.clone(), visitor.clone());
    Race::new("issue", visitor)
        .with_input(FLOOR, move || theirs.clone(), move |visitor| floor.issue(&visitor))
        .with_input(OURS, move || ours.sign_in(), move |sign_in| bearer.issue(sign_in).unwrap())
}

/// A bearer token, to its data. Once more with the system's clock in place of one that stands.
fn open(visitor: &Visitor) -> Race {
    let (bearer, floor) = (manager().0.bearer::<Visitor>(), Floor::new(REALM, "bearer", ""));
    let ticking = builder().build().unwrap().bearer::<Visitor>();
    let mut race = Race::new("open", visitor);

    let token = floor.issue(visitor);
    floor.check(visitor, &token);
    race = race.contender(FLOOR, move || floor.open(black_box(&token)).unwrap());
    for (name, bearer) in [(OURS, bearer), ("sealed-session, system clock", ticking)] {
        let token = bearer.issue(visitor.sign_in()).unwrap();
        assert_eq!(bearer.open(&token).unwrap().data(), visitor);
        assert_refused(&bearer, &forged(&token));
        race = race.contender(name, move || bearer.open(black_box(&token)).unwrap());
    }
    race
}

/// The same without the JSON, on both sides.
fn open_lazy(visitor: &Visitor) -> Race {
    let (bearer, floor) = (manager().0.bearer::<Visitor>(), Floor::new(REALM, "bearer", ""));
    let token = bearer.issue(visitor.sign_in()).unwrap();
    assert_eq!(bearer.open_lazily(&token).unwrap(), bearer.open(&token).unwrap().id());
    let error = bearer.open_lazily(&forged(&token)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Forged);
    floor.check(visitor, &token);

    let theirs = floor.issue(visitor);
    Race::new("open-lazy", visitor)
        .contender(FLOOR, move || floor.authenticate(black_box(&theirs)).unwrap())
        .contender(OURS, move || bearer.open_lazily(black_box(&token)).unwrap())
}

/// The next token of a session that is open, for which a refresh is due. The JSON is copied.
fn refresh(visitor: &Visitor) -> Race {
    let (sessions, clock) = manager();
    let (bearer, floor) = (sessions.bearer::<Visitor>(), Floor::new(REALM, "bearer", ""));
    let first = bearer.issue(visitor.sign_in()).unwrap();
    clock.advance(Duration::from_secs(600));
    let opened = bearer.open(&first).unwrap();
    let next = opened.refresh().unwrap().expect("ten minutes later one is due");
    let reopened = bearer.open(&next).unwrap();
    assert_eq!(reopened.data(), visitor);
    assert_eq!(reopened.refreshed_at(), opened.refreshed_at() + Duration::from_secs(600));
    assert_refused(&bearer, &forged(&next));
    let json = visitor.json();
    assert_eq!(floor.open(&floor.refresh(&json)).as_ref(), Some(visitor));
    floor.check(visitor, &next);

    Race::new("refresh", visitor)
        .contender(FLOOR, move || floor.refresh(black_box(&json)))
        .contender(OURS, move || opened.refresh().unwrap().unwrap())
}

/// A request that changes its session: from the `Cookie` header to the `Set-Cookie` header.
fn update_close(visitor: &Visitor) -> Race {
    let (sessions, _) = manager();
    let floor = Floor::new(REALM, "cookie", COOKIE);
    let cookie = sessions.cookie_for(visitor.sign_in()).unwrap();
    let (_, token) = cookie.split_once('=').unwrap();
    floor.check(visitor, token);
    let theirs = floor.issue(visitor);

    let request = move |cookie: &str| {
        let session: Session<Visitor> = sessions.open(Some(cookie)).unwrap();
        session.update(Visitor::change).unwrap();
        (session.close().unwrap().into_iter().next().unwrap(), session)
    };
    let floor_request = move |token: &str| {
        let mut visitor = floor.open(token)?;
        visitor.change();
        Some((floor.issue(&visitor), visitor))
    };
    let mut twice = visitor.clone();
    twice.change();
    twice.change();
    let (set_cookie, _) = request(&cookie);
    let (_, session) = request(set_cookie.split(';').next().unwrap());
    assert_eq!(*session.data(), twice);
    assert_eq!(session.subject().as_deref(), Some(SUBJECT));
    assert_eq!(request(&forged(&cookie)).1.subject(), None);
    let (token, _) = floor_request(&theirs).unwrap();
    assert_eq!(floor_request(&token).unwrap().1, twice);

    Race::new("update-close", visitor)
        .contender(FLOOR, move || floor_request(black_box(&theirs)).unwrap())
        .contender(OURS, move || request(black_box(&cookie)))
}

/// A manager as an application has it, but for observers, and a clock that stands still.
fn manager() -> (SessionManager, ManualClock) {
    let clock = ManualClock::new(SystemTime::now());
    (builder().clock(clock.clone()).build().unwrap(), clock)
}

fn builder() -> SessionManagerBuilder {
    let keys = KeyRing::for_tests().unwrap();
    SessionManager::builder(REALM, keys).revocations(RevocationList::in_process())
}

fn assert_refused(bearer: &Bearer<Visitor>, token: &str) {
    assert_eq!(bearer.open(token).unwrap_err().kind(), ErrorKind::Forged);
}

/// The token with one character of its tag replaced, not the last, which may hold fewer bits.
fn forged(token: &str) -> String {
    let at = token.len() - 4;
    let other = if &token[at..=at] == "A" { "B" } else { "A" };
    format!("{}{other}{}", &token[..at], &token[at + 1..])
}

/// The session data.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
struct Visitor {
    user_id: u64,
    name: String,
    roles: Vec<String>,
    csrf: String,
    flash: Option<String>,
    cart: Vec<Item>,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
struct Item {
    sku: String,
    title: String,
    quantity: u32,
    cents: u32,
}

impl Visitor {
    fn small() -> Self {
        let visitor = Self {
            user_id: 20_250_512,
            name: "Grace Hopper".into(),
            roles: vec!["user".into()],
            csrf: "mZ4vC1sYt8Kq0RbE".into(),
            flash: None,
            cart: Vec::new(),
        };
        visitor.of_size(108)
    }

    fn medium() -> Self {
        let visitor = Self {
            roles: vec!["user".into(), "editor".into()],
            flash: Some("The notebook was added.".into()),
            cart: (1..=2).map(Item::volume).collect(),
            ..Self::small()
        };
        visitor.of_size(295)
    }

    fn large() -> Self {
        let visitor = Self {
            flash: Some("The notebook was added. Total: 29 volumes.".into()),
            cart: (1..=29).map(Item::volume).collect(),
            ..Self::medium()
        };
        visitor.of_size(2447)
    }

    /// The sizes at which all studies of this project measured.
    fn of_size(self, bytes: usize) -> Self {
        assert_eq!(self.json().len(), bytes);
        self
    }

    fn json(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap()
    }

    fn sign_in(&self) -> SignIn<Self> {
        SignIn::new(SUBJECT).data(self.clone())
    }

    /// What a request changes: the size stays, and the difference comes late in the JSON, so that
    /// nobody saves by finding it early.
    fn change(&mut self) {
        match self.cart.last_mut() {
            Some(item) => item.quantity += 1,
            None => self.user_id += 1,
        }
    }
}

impl Item {
    fn volume(number: u32) -> Self {
        Self {
            sku: format!("SKU-{}", 10_000 + 37 * number),
            title: format!("Notebook A5, volume {number:02}"),
            quantity: 1 + number % 3,
            cents: 1_250 + 75 * number,
        }
    }
}

/// The floor: a token of the same length as ours, made and read with the same libraries.
mod floor {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::{SUBJECT, Visitor, aead, forged};

    /// Version and key id.
    const CLEAR: usize = 5;
    const NONCE: usize = 24;
    /// The record up to the data: its fixed part and the subject.
    const FACTS: usize = 39 + SUBJECT.len();
    const TAG: usize = 16;
    /// What the longest token has room in.
    const ROOM: usize = 3072;

    pub(super) struct Floor {
        key: [u8; 32],
        associated_data: Vec<u8>,
    }

    impl Floor {
        pub(super) fn new(realm: &str, transport: &str, name: &str) -> Self {
            let mut associated_data = b"sealed-session v1 vkkkk".to_vec();
            for part in [realm, transport, name] {
                associated_data.extend_from_slice(b"00");
                associated_data.extend_from_slice(part.as_bytes());
            }
            let mut key = [0; 32];
            getrandom::fill(&mut key).unwrap();
            Self { key, associated_data }
        }

        pub(super) fn issue(&self, visitor: &Visitor) -> String {
            self.seal(|record| serde_json::to_writer(record, visitor).unwrap())
        }

        pub(super) fn refresh(&self, json: &[u8]) -> String {
            self.seal(|record| record.extend_from_slice(json))
        }

        fn seal(&self, append_data: impl FnOnce(&mut Vec<u8>)) -> String {
            let mut nonce = [0; NONCE];
            getrandom::fill(&mut nonce).unwrap();
            let mut bytes = Vec::with_capacity(ROOM);
            bytes.extend_from_slice(&[1; CLEAR]);
            bytes.extend_from_slice(&nonce);
            bytes.extend_from_slice(&[0; FACTS]);
            append_data(&mut bytes);
            let message = &mut bytes[CLEAR + NONCE..];
            let tag = aead::seal(&self.key, &nonce, &self.associated_data, message);
            bytes.extend_from_slice(&tag);
            URL_SAFE_NO_PAD.encode(bytes)
        }

        pub(super) fn open(&self, token: &str) -> Option<Visitor> {
            let bytes = self.authenticate(token)?;
            let json = bytes.get(CLEAR + NONCE + FACTS..bytes.len() - TAG)?;
            serde_json::from_str(str::from_utf8(json).ok()?).ok()
        }

        pub(super) fn authenticate(&self, token: &str) -> Option<Vec<u8>> {
            let mut bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
            let (head, sealed) = bytes.split_at_mut_checked(CLEAR + NONCE)?;
            let nonce = head.last_chunk()?;
            aead::open(&self.key, nonce, &self.associated_data, sealed).then_some(bytes)
        }

        /// Whether it does the work that it stands for: the same length, nothing forged accepted.
        pub(super) fn check(&self, visitor: &Visitor, ours: &str) {
            let token = self.issue(visitor);
            assert_eq!(token.len(), ours.len());
            assert_eq!(self.open(&token).as_ref(), Some(visitor));
            assert!(self.authenticate(&forged(&token)).is_none());
            assert!(self.open(&forged(&token)).is_none());
        }
    }
}

/// `XChaCha20-Poly1305` by *ring*, to which `HChaCha20` gives the subkey.
#[cfg(feature = "ring")]
mod aead {
    use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

    pub(super) fn seal(
        key: &[u8; 32],
        nonce: &[u8; 24],
        aad: &[u8],
        message: &mut [u8],
    ) -> [u8; 16] {
        let (key, nonce) = subkey(key, nonce);
        let tag = key.seal_in_place_separate_tag(nonce, Aad::from(aad), message).unwrap();
        tag.as_ref().try_into().unwrap()
    }

    pub(super) fn open(key: &[u8; 32], nonce: &[u8; 24], aad: &[u8], sealed: &mut [u8]) -> bool {
        let (key, nonce) = subkey(key, nonce);
        key.open_in_place(nonce, Aad::from(aad), sealed).is_ok()
    }

    fn subkey(key: &[u8; 32], nonce: &[u8; 24]) -> (LessSafeKey, Nonce) {
        let (first, last) = nonce.split_first_chunk::<16>().unwrap();
        let subkey = chacha20::hchacha::<chacha20::R20>(key.into(), first.into());
        let mut short = [0; 12];
        short[4..].copy_from_slice(last);
        let key = UnboundKey::new(&CHACHA20_POLY1305, &subkey).unwrap();
        (LessSafeKey::new(key), Nonce::assume_unique_for_key(short))
    }
}

/// `XChaCha20-Poly1305` by `chacha20poly1305`.
#[cfg(not(feature = "ring"))]
mod aead {
    use chacha20poly1305::{AeadInOut, KeyInit, Tag, XChaCha20Poly1305};

    pub(super) fn seal(
        key: &[u8; 32],
        nonce: &[u8; 24],
        aad: &[u8],
        message: &mut [u8],
    ) -> [u8; 16] {
        let cipher = XChaCha20Poly1305::new(key.into());
        cipher.encrypt_inout_detached(nonce.into(), aad, message.into()).unwrap().into()
    }

    pub(super) fn open(key: &[u8; 32], nonce: &[u8; 24], aad: &[u8], sealed: &mut [u8]) -> bool {
        let cipher = XChaCha20Poly1305::new(key.into());
        let (message, tag) = sealed.split_last_chunk_mut::<16>().unwrap();
        let tag = Tag::from(*tag);
        cipher.decrypt_inout_detached(nonce.into(), aad, message.into(), &tag).is_ok()
    }
}

/// The first contender of every race.
const FLOOR: &str = "floor";
/// How long a contender runs when it is its turn.
const TURN: Duration = Duration::from_micros(500);
const ROUNDS: usize = 301;
/// How many inputs are made at a time, outside of the clock: few enough to stay in the cache.
const BATCH: u32 = 16;

/// One operation on one payload, by several contenders.
struct Race {
    operation: &'static str,
    payload: usize,
    contenders: Vec<Contender>,
}

struct Contender {
    name: &'static str,
    /// Runs so many times, and tells how long that took.
    run: Box<dyn FnMut(u32) -> Duration>,
}

#[derive(Serialize)]
struct Row {
    contender: &'static str,
    operation: &'static str,
    /// Bytes of JSON.
    payload: usize,
    median_ns: f64,
    to_floor: f64,
}

impl Race {
    fn new(operation: &'static str, visitor: &Visitor) -> Self {
        Self { operation, payload: visitor.json().len(), contenders: Vec::new() }
    }

    fn contender<R>(self, name: &'static str, mut work: impl FnMut() -> R + 'static) -> Self {
        self.push(name, move |times| {
            let start = Instant::now();
            for _ in 0..times {
                drop(black_box(work()));
            }
            start.elapsed()
        })
    }

    /// A contender whose work uses up an input. Making that is not timed.
    fn with_input<I, R>(
        self,
        name: &'static str,
        input: impl Fn() -> I + 'static,
        work: impl Fn(I) -> R + 'static,
    ) -> Self {
        self.push(name, move |times| {
            let mut taken = Duration::ZERO;
            for done in (0..times).step_by(BATCH as usize) {
                let inputs: Vec<I> = (done..times.min(done + BATCH)).map(|_| input()).collect();
                let start = Instant::now();
                for input in inputs {
                    drop(black_box(work(black_box(input))));
                }
                taken += start.elapsed();
            }
            taken
        })
    }

    fn push(mut self, name: &'static str, run: impl FnMut(u32) -> Duration + 'static) -> Self {
        self.contenders.push(Contender { name, run: Box::new(run) });
        self
    }

    fn run(mut self, rounds: usize) -> Vec<Row> {
        let contenders = self.contenders.len();
        let times: Vec<u32> = self.contenders.iter_mut().map(Contender::times_per_turn).collect();
        let mut samples = vec![Vec::with_capacity(rounds); contenders];
        for round in 0..rounds {
            // Who comes first changes, so that nobody always follows the same neighbour.
            for at in (0..contenders).map(|turn| (round + turn) % contenders) {
                let taken = (self.contenders[at].run)(times[at]);
                samples[at].push(taken.as_secs_f64() * 1e9 / f64::from(times[at]));
            }
        }
        let floor = &samples[0];
        let row = |(contender, own): (&Contender, &Vec<f64>)| Row {
            contender: contender.name,
            operation: self.operation,
            payload: self.payload,
            median_ns: rounded(median(own.iter().copied()), 10.0),
            to_floor: rounded(median(own.iter().zip(floor).map(|(own, floor)| own / floor)), 1e3),
        };
        self.contenders.iter().zip(&samples).map(row).collect()
    }
}

impl Contender {
    /// How often to run it when it is its turn; warms it up as well.
    fn times_per_turn(&mut self) -> u32 {
        let mut times = 1;
        while (self.run)(times) < TURN {
            times *= 2;
        }
        times
    }
}

fn rounds() -> usize {
    let asked = env::var("ROUNDS").map(|n| n.parse().expect("ROUNDS is a number"));
    asked.unwrap_or(ROUNDS).max(1)
}

fn median(samples: impl Iterator<Item = f64>) -> f64 {
    let mut samples: Vec<f64> = samples.collect();
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}

/// Cut to the digits that a shared machine can tell.
fn rounded(value: f64, parts: f64) -> f64 {
    (value * parts).round() / parts
}

fn print(rows: &[Row]) {
    println!("back end {BACKEND}, median of {} rounds\n", rounds());
    println!(
        "{:<13} {:>5}  {:<28} {:>10} {:>9}",
        "operation", "bytes", "contender", "ns", "to floor"
    );
    for Row { contender, operation, payload, median_ns, to_floor } in rows {
        println!("{operation:<13} {payload:>5}  {contender:<28} {median_ns:>10.1} {to_floor:>9.3}");
    }
}

/// Leaves the rows where every benchmark of this project leaves its own.
fn save(rows: &[Row]) -> PathBuf {
    let target = env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    let reports = Path::new(env!("CARGO_MANIFEST_DIR")).join(target).join("reports");
    fs::create_dir_all(&reports).unwrap();
    let path = reports.join(format!("session-{BACKEND}.json"));
    fs::write(&path, serde_json::to_string_pretty(rows).unwrap() + "\n").unwrap();
    path
}
