//! The files of `tests/vectors`, as SECURITY.md ("Vector files") describes them.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]
#![allow(clippy::panic, clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use sealed_session::{
    Cookie, ErrorKind, KeyRing, Limits, ManualClock, Observer, Policy, RevocationList,
    SessionManager,
};

/// The kinds with which opening a token can end, in the order in which it checks.
pub const KINDS: [ErrorKind; 12] = [
    ErrorKind::Malformed,
    ErrorKind::Version,
    ErrorKind::KeyUnknown,
    ErrorKind::KeyExpired,
    ErrorKind::KeyRevoked,
    ErrorKind::Forged,
    ErrorKind::Record,
    ErrorKind::NotYet,
    ErrorKind::Expired,
    ErrorKind::Idle,
    ErrorKind::Revoked,
    ErrorKind::Data,
];

const FIELDS: [&str; 18] = [
    "comment",
    "expect",
    "id",
    "subject",
    "issued_at",
    "refreshed_at",
    "expires_at",
    "idle_expires_at",
    "generation",
    "persistent",
    "data",
    "now",
    "keys",
    "realm",
    "transport",
    "name",
    "policy",
    "type",
];

#[derive(Clone, Debug)]
pub struct Vector {
    pub file: String,
    pub fields: HashMap<String, String>,
    pub revocations: Vec<String>,
    pub token: String,
}

/// Every vector, by name.
pub fn all() -> Vec<Vector> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    let mut vectors: Vec<Vector> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            let file = path.file_name().unwrap().to_string_lossy().into_owned();
            Vector::parse(&file, &fs::read_to_string(&path).unwrap())
        })
        .collect();
    vectors.sort_by(|one, other| one.file.cmp(&other.file));
    vectors
}

impl Vector {
    pub fn parse(file: &str, text: &str) -> Self {
        let (head, token) = text.split_once("\n\n").unwrap_or_else(|| panic!("{file}: no token"));
        let token = token.strip_suffix('\n').unwrap_or_else(|| panic!("{file}: no last LF"));
        let (mut fields, mut revocations) = (HashMap::new(), Vec::new());
        for line in head.lines() {
            let (field, value) =
                line.split_once(':').unwrap_or_else(|| panic!("{file}: no field: {line}"));
            let value = value.strip_prefix(' ').unwrap_or(value).to_owned();
            if field == "revocations" {
                revocations.push(value);
                continue;
            }
            assert!(FIELDS.contains(&field), "{file}: unknown field {field}");
            assert!(fields.insert(field.into(), value).is_none(), "{file}: {field} twice");
        }
        Self { file: file.into(), fields, revocations, token: token.into() }
    }

    pub fn field(&self, name: &str) -> &str {
        self.fields.get(name).unwrap_or_else(|| panic!("{}: no field {name}", self.file))
    }

    /// The kind it must be refused with, None where it must open.
    pub fn kind(&self) -> Option<ErrorKind> {
        let expect = self.field("expect");
        if expect == "session" {
            return None;
        }
        let kind = KINDS.into_iter().find(|kind| format!("{kind:?}") == expect);
        Some(kind.unwrap_or_else(|| panic!("{}: no kind {expect}", self.file)))
    }

    pub fn is_cookie(&self) -> bool {
        match self.field("transport") {
            "cookie" => true,
            "bearer" => false,
            other => panic!("{}: no transport {other}", self.file),
        }
    }

    /// Whether the application's type is a text; a map otherwise.
    pub fn is_text(&self) -> bool {
        match self.fields.get("type").map(String::as_str) {
            None | Some("map") => false,
            Some("text") => true,
            Some(other) => panic!("{}: no type {other}", self.file),
        }
    }

    /// The request's `Cookie` field.
    pub fn cookie(&self) -> String {
        format!("{}={}", self.field("name"), self.token)
    }

    pub fn clock(&self) -> ManualClock {
        ManualClock::new(at(self.field("now")))
    }

    /// The manager that opens it; `idle` stands in for the idle limit of the policy.
    pub fn manager(
        &self,
        clock: &ManualClock,
        list: &RevocationList,
        idle: Option<u64>,
        observer: impl Observer,
    ) -> SessionManager {
        let ring = KeyRing::insecure_published_keys(self.field("keys")).unwrap();
        let mut builder = SessionManager::builder(self.field("realm"), ring)
            .policy(self.policy(idle))
            .revocations(list.clone())
            .clock(clock.clone())
            .observer(observer);
        if self.is_cookie() {
            builder = builder.cookie(Cookie::new(self.field("name")));
        }
        builder.build().unwrap_or_else(|error| panic!("{}: {error}", self.file))
    }

    /// The same in all three columns, so that it holds in the one that counts.
    fn policy(&self, idle: Option<u64>) -> Policy {
        let words: HashMap<&str, u64> = self
            .fields
            .get("policy")
            .map_or("", String::as_str)
            .split_whitespace()
            .map(|word| word.split_once('=').unwrap())
            .map(|(name, value)| (name, value.parse().unwrap()))
            .collect();
        let known = |word: &&str| ["absolute", "idle", "clock_skew"].contains(word);
        assert!(words.keys().all(known), "{}: unknown policy", self.file);

        let policy_idle = idle.or(words.get("idle").copied());
        let column = |absolute: u64, default_idle: u64| {
            let absolute = words.get("absolute").copied().unwrap_or(absolute);
            // The builder refuses an idle limit over the absolute one; nothing comes of it either.
            let idle = policy_idle.unwrap_or(default_idle).min(absolute);
            Limits {
                absolute_timeout: Duration::from_secs(absolute),
                idle_timeout: (idle != 0).then(|| Duration::from_secs(idle)),
            }
        };
        let policy = Policy::default()
            .browser(column(43_200, 1_800))
            .anonymous(column(43_200, 1_800))
            .remember(column(2_592_000, 604_800));
        match words.get("clock_skew") {
            Some(seconds) => policy.clock_skew(Duration::from_secs(*seconds)),
            None => policy,
        }
    }
}

/// The instant of so many milliseconds.
pub fn at(millis: &str) -> SystemTime {
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(millis.parse().unwrap())).unwrap()
}
