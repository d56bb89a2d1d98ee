//! The facts of a log, and what they say of one subject or session.

use std::io::Write as _;
use std::time::SystemTime;

use serde_json::{Value, json};

use super::super::args::RevocationsList;
use super::super::log::{Log, subject, warn_unreadable};
use super::super::{Failure, Status, Streams, show};
use crate::clock::{Clock as _, SystemClock, Timestamp};
use crate::revocation::outside::Says;
use crate::revocation::{Realm, Revocation, Target};

pub(in super::super) fn list(
    args: &RevocationsList,
    streams: &mut Streams,
) -> Result<Status, Failure> {
    let log = Log::of(&args.log)?;
    let subject = args.subject.as_deref().map(|given| subject(given, streams)).transpose()?;
    let target = match (args.session, &subject, &args.tag) {
        (Some(id), ..) => Some(Target::session(id)),
        (None, Some(subject), _) => Some(Target::subject(subject)),
        (None, None, Some(tag)) => Some(Target::tag(tag)),
        (None, None, None) => None,
    };
    let mut reading = log.read_all()?;
    let now = reading.now();
    let answer = target.map(|target| {
        let asked = target.fact(&log.realm, now, now);
        reading.facts.retain(|fact| fact.concerns(&asked, &log.realm));
        Answer::of(&reading.facts, &log.realm, now)
    });
    warn_unreadable(reading.unreadable.as_ref(), &log, streams)?;
    if args.json {
        let facts: Vec<_> = reading.facts.iter().map(|fact| json_fact(fact, &log.realm)).collect();
        let mut object = json!({ "log": log.name, "facts": facts });
        if let (Some(answer), Some(fields)) = (&answer, object.as_object_mut()) {
            answer.fill(fields);
        }
        show::json(streams, &object)?;
    } else {
        if let Some(answer) = &answer {
            answer.write(streams)?;
        }
        table(&reading.facts, &log, now, streams)?;
    }
    Ok(match answer {
        Some(answer) if !answer.is_revoked() => Status::Finding,
        _ => Status::Well,
    })
}

/// What the facts that are not over say together.
#[derive(Default)]
struct Answer {
    /// All of the session.
    whole: bool,
    /// The session's generations below this one.
    below: Option<u32>,
    /// Sessions that were issued until then.
    until: Option<Timestamp>,
}

impl Answer {
    fn of(facts: &[Revocation], realm: &Realm, now: Timestamp) -> Self {
        let mut answer = Self::default();
        let is_over = |until: SystemTime| Timestamp::from_system(until) <= now;
        for fact in facts.iter().filter(|fact| !fact.until().is_some_and(is_over)) {
            match fact.says(realm) {
                Says::Session(_) => answer.whole = true,
                Says::Generations(_, below) => answer.below = answer.below.max(Some(below)),
                _ => answer.until = answer.until.max(fact.before()),
            }
        }
        answer
    }

    /// Of a session that is not named itself it depends on when it was issued.
    const fn is_revoked(&self) -> bool {
        self.whole || self.below.is_some() || self.until.is_some()
    }

    fn write(&self, streams: &mut Streams) -> Result<(), Failure> {
        let until = self.until.map(|until| show::date(until.to_system()));
        let mut parts = Vec::new();
        if let Some(below) = self.below {
            parts.push(format!("copies from before its renewal {below}"));
        }
        if let Some(until) = until {
            parts.push(format!("if issued until {until}, and not excepted below"));
        }
        let text = match (self.whole, parts.is_empty()) {
            (true, _) => "yes".to_owned(),
            (false, false) => parts.join(", or "),
            (false, true) => "no".to_owned(),
        };
        Ok(writeln!(streams.out, "revoked  {text}\n")?)
    }

    fn fill(&self, fields: &mut serde_json::Map<String, Value>) {
        let until = show::json_date(self.until.map(Timestamp::to_system));
        fields.insert("revoked".to_owned(), self.is_revoked().into());
        fields.insert("all".to_owned(), self.whole.into());
        fields.insert("generations_below".to_owned(), self.below.into());
        fields.insert("issued_until".to_owned(), until);
    }
}

fn table(
    facts: &[Revocation],
    log: &Log,
    now: Timestamp,
    streams: &mut Streams,
) -> Result<(), Failure> {
    if !facts.is_empty() {
        let heads = ("KIND", "WHAT", "ISSUED UNTIL", "KEPT UNTIL");
        let (kind, what, before, until) = heads;
        writeln!(streams.out, "{kind:15} {what:34} {before:21} {until:21} EXCEPT")?;
    }
    for fact in facts {
        let before = fact.before().map(Timestamp::to_system);
        let date = |at: Option<SystemTime>| at.map_or_else(|| "-".to_owned(), show::date);
        let (kind, what) = kind_and_what(fact, &log.realm);
        let except = fact.except().map_or_else(|| "-".to_owned(), |id| id.to_string());
        let over = match fact.until() {
            Some(until) if Timestamp::from_system(until) <= now => " (over)",
            _ => "",
        };
        let (before, until) = (date(before), date(fact.until()));
        writeln!(streams.out, "{kind:15} {what:34} {before:21} {until:21} {except}{over}")?;
    }
    let s = if facts.len() == 1 { "" } else { "s" };
    Ok(writeln!(streams.out, "{} fact{s} in {}", facts.len(), log.name)?)
}

/// A fact on a line of its own, and when it was seen.
pub(super) fn line(fact: &Revocation, realm: &Realm) -> String {
    let (kind, what) = kind_and_what(fact, realm);
    let issued = fact.before().map(|it| format!(" issued until {}", show::date(it.to_system())));
    let except = fact.except().map(|id| format!(" except {id}"));
    let kept = fact.until().map(|until| format!(" kept until {}", show::date(until)));
    let rest = [issued, except, kept].map(Option::unwrap_or_default).concat();
    format!("{} {kind} {what}{rest}", show::date(SystemClock.now()))
}

fn kind_and_what(fact: &Revocation, realm: &Realm) -> (&'static str, String) {
    match fact.says(realm) {
        Says::Session(id) => ("session", id.to_string()),
        Says::Generations(id, below) => ("generations", format!("{id} below {below}")),
        Says::Hash(hash) => ("subject-or-tag", hex(hash)),
        Says::Everyone => ("everyone", "-".to_owned()),
        Says::EveryRealm => ("every-realm", "-".to_owned()),
        Says::Lifetime(lifetime) => ("lifetime", show::length(lifetime)),
        Says::Whole(lineage) => ("whole", hex(lineage)),
    }
}

pub(super) fn json_fact(fact: &Revocation, realm: &Realm) -> Value {
    let mut object = json!({
        "kind": kind_and_what(fact, realm).0.replace('-', "_"),
        "issued_until": show::json_date(fact.before().map(Timestamp::to_system)),
        "kept_until": show::json_date(fact.until()),
        "except": fact.except().map(|id| id.to_string()),
    });
    let own = match fact.says(realm) {
        Says::Session(id) => vec![("session", Value::from(id.to_string()))],
        Says::Generations(id, below) => {
            vec![("session", id.to_string().into()), ("below", below.into())]
        }
        Says::Hash(hash) => vec![("hash", hex(hash).into())],
        Says::Everyone | Says::EveryRealm => Vec::new(),
        Says::Lifetime(lifetime) => vec![("seconds", lifetime.as_secs().into())],
        Says::Whole(lineage) => vec![("log", hex(lineage).into())],
    };
    if let Some(fields) = object.as_object_mut() {
        fields.extend(own.into_iter().map(|(name, value)| (name.to_owned(), value)));
    }
    object
}

pub(super) fn hex(bytes: [u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(bytes))
}
