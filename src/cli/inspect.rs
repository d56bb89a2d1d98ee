//! Shows what a token holds, and whether it would be accepted.

use std::io::Write as _;

use serde_json::{Value, json};

use super::args::Inspect;
use super::settings::{self, Loaded, Settings};
use super::{Failure, Status, Streams, pasted, show};
use crate::base64url;
use crate::clock::{Clock as _, SystemClock, Timestamp};
use crate::cookie::Cookie;
use crate::error::Error;
use crate::key::{FileKeys, KeyId, KeyStatus};
use crate::manager::{Refusal, SessionManager};
use crate::policy::Policy;
use crate::token::{self, Record};

pub(super) fn inspect(args: &Inspect, streams: &mut Streams) -> Result<Status, Failure> {
    if !args.misplaced.is_empty() {
        return Err(MISPLACED.into());
    }
    let now = Timestamp::from_system(SystemClock.now());
    let Application { realm, policy, cookie, loaded } = Application::read(args, now)?;
    let name = (!args.bearer).then(|| cookie.name().to_owned());
    let token = pasted::read(name.as_deref(), streams)?;
    let keys = loaded.ring.status(now.to_system());
    // It has no observers and no list, so nobody hears of this.
    let manager =
        SessionManager::builder(realm, loaded.ring).policy(policy).cookie(cookie).build()?;
    let found = Found::judge(&token, &manager, args.bearer, now);
    if args.json {
        show::json(streams, &found.json(&keys, args.data))?;
    } else {
        found.write(&keys, args.data, streams)?;
    }
    Ok(if found.refused.is_none() { Status::Well } else { Status::Finding })
}

const MISPLACED: &str = "give the token on standard input, not as an argument: arguments show in \
                         process tables and in the shell's history. For example: sealed-session \
                         inspect --config shop.toml < token.txt";

/// What a server would need to know as well.
struct Application {
    realm: String,
    policy: Policy,
    cookie: Cookie,
    loaded: Loaded,
}

impl Application {
    fn read(args: &Inspect, now: Timestamp) -> Result<Self, Failure> {
        let Some(path) = &args.config else {
            // Asked for here and not by the parser, so that a misplaced token is told of first.
            let (Some(keys), Some(realm)) = (&args.keys, args.realm.clone()) else {
                return Err("give --config FILE, or --keys FILE and --realm REALM".into());
            };
            let cookie = args.cookie.clone().map_or_else(Cookie::default, Cookie::new);
            let loaded = settings::load(&FileKeys::new(keys), now)?;
            return Ok(Self { realm, policy: Policy::default(), cookie, loaded });
        };
        let Settings { config, .. } = settings::read(path, args.section.as_deref())?;
        Ok(Self {
            realm: config.realm().to_owned(),
            policy: config.policy()?,
            cookie: config.cookie()?,
            loaded: settings::load(&*config.key_source()?, now)?,
        })
    }
}

/// A token, judged.
struct Found<'a> {
    manager: &'a SessionManager,
    now: Timestamp,
    size: usize,
    version: Option<u8>,
    key: Option<KeyId>,
    /// What is inside, if it is authentic.
    record: Option<Record>,
    refused: Option<Error>,
}

impl<'a> Found<'a> {
    fn judge(token: &str, manager: &'a SessionManager, bearer: bool, now: Timestamp) -> Self {
        let token = token.as_bytes();
        let context = if bearer { manager.bearer_context() } else { manager.cookie_context() };
        let (record, refused) = match manager.authenticate(token, context, now) {
            Ok(opened) => (Some(opened.record), None),
            Err(Refusal::Dead(dead)) => {
                (Some(dead.record.clone()), Some(Refusal::Dead(dead).into()))
            }
            Err(refusal) => (None, Some(refusal.into())),
        };
        // Six bytes in eight characters, of which the first is the version.
        let head = token.get(..8).and_then(base64url::decode_array::<6>);
        let version = head.and_then(|bytes| bytes.first().copied());
        let (size, key) = (token.len(), token::key_id(token));
        Self { manager, now, size, version, key, record, refused }
    }

    fn write(&self, keys: &[KeyStatus], data: bool, streams: &mut Streams) -> Result<(), Failure> {
        let accepted = match &self.refused {
            None => show::green("yes"),
            Some(error) => format!("{}: {error}", show::red("no")),
        };
        let state = |id| match keys.iter().find(|key| key.id() == id) {
            Some(key) => show::state(key.state(), 0),
            None => "not in this ring".to_owned(),
        };
        let key = self.key.map_or("-".to_owned(), |id| format!("{id} ({})", state(id)));
        let mut lines = vec![
            ("accepted", accepted),
            ("size", format!("{} characters", self.size)),
            ("version", self.version.map_or("-".to_owned(), |version| version.to_string())),
            ("key", key),
        ];
        if let Some(record) = &self.record {
            lines.extend(self.session_lines(record));
            if data {
                lines.push(("data", show::harmless(&String::from_utf8_lossy(record.data()))));
            }
        }
        for (name, value) in lines {
            writeln!(streams.out, "{name:16} {value}")?;
        }
        writeln!(streams.err, "note: {NOT_ASKED}")?;
        Ok(())
    }

    fn session_lines(&self, record: &Record) -> Vec<(&'static str, String)> {
        let facts = &record.facts;
        let (kind, times) = (record.kind(), &facts.times);
        let policy = self.manager.policy();
        let date = |at: Timestamp| show::date_from(self.now.to_system(), at.to_system());
        let subject = match record.subject() {
            "" => "- (anonymous)".to_owned(),
            subject => show::harmless(subject),
        };
        let idle = policy.idle_expires_at(kind, times);
        vec![
            ("session", facts.id.to_string()),
            ("subject", subject),
            ("issued_at", date(times.issued_at)),
            ("refreshed_at", date(times.refreshed_at())),
            ("expires_at", date(policy.expires_at(kind, times))),
            ("idle_expires_at", idle.map_or("- (no idle limit)".to_owned(), date)),
            ("generation", facts.generation.to_string()),
            ("persistent", if facts.persistent { "yes" } else { "no" }.to_owned()),
            ("tags", record.tags().len().to_string()),
            ("data_size", format!("{} bytes", record.data().len())),
        ]
    }

    fn json(&self, keys: &[KeyStatus], data: bool) -> Value {
        let state = |id| keys.iter().find(|key| key.id() == id).map(super::keys::json_state);
        json!({
            "accepted": self.refused.is_none(),
            "reason": self.refused.as_ref().map(ToString::to_string),
            "revocations_asked": false,
            "size": self.size,
            "version": self.version,
            "key": self.key.map(|id| id.to_string()),
            "key_state": self.key.and_then(state),
            "session": self.record.as_ref().map(|record| self.json_session(record, data)),
        })
    }

    fn json_session(&self, record: &Record, data: bool) -> Value {
        let facts = &record.facts;
        let (kind, times, policy) = (record.kind(), &facts.times, self.manager.policy());
        let instant = |at: Timestamp| show::json_date(Some(at.to_system()));
        let mut session = json!({
            "id": facts.id.to_string(),
            "subject": Some(record.subject()).filter(|subject| !subject.is_empty()),
            "issued_at": instant(times.issued_at),
            "refreshed_at": instant(times.refreshed_at()),
            "expires_at": instant(policy.expires_at(kind, times)),
            "idle_expires_at": policy.idle_expires_at(kind, times).map(instant),
            "generation": facts.generation,
            "persistent": facts.persistent,
            "tags": record.tags().len(),
            "data_size": record.data().len(),
        });
        if let Some(fields) = session.as_object_mut().filter(|_| data) {
            let text = || String::from_utf8_lossy(record.data()).into_owned().into();
            let value = serde_json::from_slice(record.data()).unwrap_or_else(|_| text());
            fields.insert("data".to_owned(), value);
        }
        session
    }
}

const NOT_ASKED: &str =
    "the list of revoked sessions was not asked, nor whether the data decodes in the application";
