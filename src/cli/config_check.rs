//! Tells what a configuration puts in force.

use std::io::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use super::args::ConfigCheck;
use super::check::{Finding, report};
use super::keys::{json_key, table};
use super::settings::{self, Ring, Settings};
use super::{Failure, Status, Streams, show};
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
    let report = report(&loaded, &found, now);
    let keys = loaded.ring.status(now);
    if args.json {
        let mut object = in_force.json();
        if let Some(fields) = object.as_object_mut() {
            let keys: Vec<_> = keys.iter().map(json_key).collect();
            let findings: Vec<_> = report.findings.iter().map(Finding::json).collect();
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
        report.write(streams)?;
    }
    Ok(report.status())
}

struct InForce {
    realm: String,
    policy: Policy,
    cookie: String,
    rotation: Rotation,
}

impl InForce {
    fn of(config: &Config) -> Result<Self, crate::error::Error> {
        config.validate()?;
        Ok(Self {
            realm: config.realm().to_owned(),
            policy: config.policy()?,
            cookie: config.cookie()?.set("…", None),
            rotation: config.rotation()?,
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
