//! Tells what a configuration puts in force.

use std::io::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use super::args::ConfigCheck;
use super::check::{Finding, report};
use super::keys::{json_key, table};
use super::log::Log;
use super::revocations::fine;
use super::settings::{self, Ring, Settings};
use super::{Failure, Status, Streams, chain, show};
use crate::clock::{Clock as _, SystemClock, Timestamp};
use crate::config::Config;
use crate::key::Rotation;
use crate::policy::{Kind, Policy};

pub(super) fn check(args: &ConfigCheck, streams: &mut Streams) -> Result<Status, Failure> {
    let now = SystemClock.now();
    let Settings { config, place } = settings::read(&args.file, args.section.as_deref())?;
    let in_force = InForce::of(&config).map_err(|error| error.at(&place))?;
    let section = args.section.as_deref();
    let found = Ring::of(&config, &args.file, section).map_err(|error| error.at(&place))?;
    let loaded = settings::load(&*found.source, Timestamp::from_system(now))?;
    let mut report = report(&loaded, &found, now);
    let keys = loaded.ring.status(now);
    let log = if args.connect { read_log(&config) } else { Connected::NotAsked };
    if let Connected::No(why) = &log {
        report.findings.push(Finding::wrong("revocation", why.clone()));
    }
    if args.json {
        let mut object = in_force.json();
        if let Some(fields) = object.as_object_mut() {
            let keys: Vec<_> = keys.iter().map(json_key).collect();
            let findings: Vec<_> = report.findings.iter().map(Finding::json).collect();
            let readable = log.as_json();
            fields.insert("revocation_readable".to_owned(), readable);
            fields.insert("config".to_owned(), place.into());
            fields.insert("source".to_owned(), loaded.name.into());
            fields.insert("fingerprint".to_owned(), loaded.ring.fingerprint().into());
            fields.insert("keys".to_owned(), keys.into());
            fields.insert("well".to_owned(), report.is_well().into());
            fields.insert("findings".to_owned(), findings.into());
        }
        show::json(streams, &object)?;
    } else {
        writeln!(streams.out, "config    {place}")?;
        in_force.write(streams)?;
        writeln!(streams.out, "keys      {}\n", loaded.name)?;
        table(&keys, &loaded.ring.fingerprint(), streams)?;
        writeln!(streams.out)?;
        if let Connected::Yes(text) = &log {
            writeln!(streams.out, "{text}")?;
        }
        report.write(streams)?;
    }
    // A server would start, and let nobody in.
    Ok(if matches!(log, Connected::No(_)) { Status::Unusable } else { report.status() })
}

/// Whether the revocation log could be read.
enum Connected {
    NotAsked,
    /// There is none that could be.
    Nothing,
    Yes(String),
    No(String),
}

impl Connected {
    fn as_json(&self) -> Value {
        match self {
            Self::NotAsked | Self::Nothing => Value::Null,
            Self::Yes(_) => true.into(),
            Self::No(_) => false.into(),
        }
    }
}

fn read_log(config: &Config) -> Connected {
    let log = match Log::of_config(config) {
        Ok(Some(log)) => log,
        Ok(None) => return Connected::Nothing,
        Err(error) => return Connected::No(chain(&error)),
    };
    match log.read_all() {
        Ok(reading) => {
            let (count, took) = (reading.facts.len(), fine(reading.took));
            Connected::Yes(format!("{}: {count} facts, read in {took}", log.name))
        }
        Err(error) => Connected::No(chain(&*error)),
    }
}

struct InForce {
    realm: String,
    policy: Policy,
    cookie: String,
    rotation: Rotation,
    /// Setting and value; None without the table.
    revocation: Option<Vec<(&'static str, String)>>,
}

impl InForce {
    fn of(config: &Config) -> Result<Self, crate::error::Error> {
        config.validate()?;
        Ok(Self {
            realm: config.realm().to_owned(),
            policy: config.policy()?,
            cookie: config.cookie()?.set("…", None),
            rotation: config.rotation()?,
            revocation: config.revocation_in_force(),
        })
    }

    fn write(&self, streams: &mut Streams) -> Result<(), Failure> {
        let out = &mut streams.out;
        writeln!(out, "realm     {}", settings::without_keys(&show::harmless(&self.realm)))?;
        writeln!(out, "cookie    {}", settings::without_keys(&self.cookie))?;
        writeln!(out, "\n{:18}{:14}{:14}anonymous", "", "browser", "remember")?;
        let columns = KINDS.map(|(_, kind)| Column::of(&self.policy, kind));
        for (name, value) in ROWS {
            let [browser, remember, anonymous] = columns
                .map(|column| value(&column).map_or_else(|| "none".to_owned(), show::length));
            writeln!(out, "{name:18}{browser:14}{remember:14}{anonymous}")?;
        }
        let [activation_delay, reload_lag, rotate_every] = self.rotation.delays().map(show::length);
        writeln!(
            out,
            "\nrotation  every {rotate_every}, a new key seals after {activation_delay}, a server may \
             be late by {reload_lag}"
        )?;
        let Some(revocation) = &self.revocation else {
            return Ok(writeln!(out, "revoked   not configured: what the application gives")?);
        };
        for (i, (name, value)) in revocation.iter().enumerate() {
            let head = if i == 0 { "revoked" } else { "" };
            let value = settings::without_keys(&show::harmless(value));
            writeln!(out, "{head:10}{name:18}{value}")?;
        }
        Ok(())
    }

    fn json(&self) -> Value {
        let [activation_delay, reload_lag, rotate_every] =
            self.rotation.delays().map(|delay| delay.as_secs());
        let mut policy = serde_json::Map::new();
        for (name, kind) in KINDS {
            let column = Column::of(&self.policy, kind);
            let rows = ROWS.map(|(name, value)| {
                (name.to_owned(), value(&column).map(|length| length.as_secs()).into())
            });
            policy.insert(name.to_owned(), Value::Object(rows.into_iter().collect()));
        }
        json!({
            "realm": self.realm,
            "cookie": self.cookie,
            "policy": policy,
            "revocation": self.revocation.as_ref().map(|rows| {
                let rows = rows.iter().map(|(name, value)| ((*name).to_owned(), value.clone().into()));
                Value::Object(rows.collect())
            }),
            "rotation": {
                "activation_delay": activation_delay,
                "reload_lag": reload_lag,
                "rotate_every": rotate_every,
            },
        })
    }
}

const KINDS: [(&str, Kind); 3] =
    [("browser", Kind::Browser), ("remember", Kind::Remember), ("anonymous", Kind::Anonymous)];

type Row = (&'static str, fn(&Column) -> Option<Duration>);

const ROWS: [Row; 3] = [
    ("absolute_timeout", |column| Some(column.absolute_timeout)),
    ("idle_timeout", |column| column.idle_timeout),
    ("refresh_after", |column| column.refresh_after),
];

/// The limits of one kind of session.
#[derive(Clone, Copy)]
struct Column {
    absolute_timeout: Duration,
    idle_timeout: Option<Duration>,
    refresh_after: Option<Duration>,
}

impl Column {
    fn of(policy: &Policy, kind: Kind) -> Self {
        let (limits, refresh_after) = policy.in_force(kind);
        let (absolute_timeout, idle_timeout) = (limits.absolute_timeout, limits.idle_timeout);
        Self { absolute_timeout, idle_timeout, refresh_after }
    }
}
