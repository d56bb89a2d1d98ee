//! A session in the making: what the handler sees, and what would be sealed.

use std::borrow::Cow;
use std::sync::Arc;

use super::arrival::{Arrival, end_of};
use super::data::{self, SessionData};
use super::flash::{self, Flash};
use super::sign_in::Next;
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind};
use crate::manager::SessionManager;
use crate::policy::{Kind, Times};
use crate::revocation::{Presented, Revocation};
use crate::token::{Blocks, Facts, Record, SessionId, Tag, kind_of};

#[derive(Clone, Default)]
pub(super) struct Draft<T> {
    /// None while nothing was ever written.
    pub(super) facts: Option<Facts>,
    pub(super) subject: Option<Arc<str>>,
    pub(super) tags: Vec<Tag>,
    pub(super) flash: Vec<Flash>,
    pub(super) data: Arc<T>,
    /// Where `data` came from, as long as `written` is None.
    origin: Origin,
    /// Whether the data goes back to what arrived, even if it was changed since.
    keeps_arrived: bool,
    /// The JSON of `data` where it is to be sealed anew.
    pub(super) written: Option<Vec<u8>>,
    /// The JSON that `data` had before its first change: changed back, it is unchanged.
    first: Option<Vec<u8>>,
    /// Set while the visitor's token is one that cannot be judged: what stands in for its id.
    pub(super) withheld: Option<[u8; 32]>,
    /// Whether something was written all the same.
    pub(super) withheld_writes: bool,
    pub(super) signed_out: bool,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum Origin {
    #[default]
    Default,
    Arrived,
}

impl<T: SessionData> Draft<T> {
    /// No session; with something in place of its id where the visitor's token cannot be judged.
    pub(super) fn anonymous(withheld: Option<[u8; 32]>) -> Self {
        Self { withheld, ..Self::default() }
    }

    /// The session as it arrived.
    pub(super) fn arrived(record: &Record, data: T) -> Self {
        let subject = record.subject();
        Self {
            facts: Some(record.facts),
            subject: (!subject.is_empty()).then(|| subject.into()),
            tags: record.tags().to_vec(),
            flash: flash::from_json(record.flash()),
            data: Arc::new(data),
            origin: Origin::Arrived,
            keeps_arrived: true,
            ..Self::default()
        }
    }

    pub(super) fn kind(&self) -> Kind {
        let persistent = self.facts.is_some_and(|facts| facts.persistent);
        kind_of(self.subject.as_deref().unwrap_or_default(), persistent)
    }

    pub(super) fn presented(&self, facts: &Facts) -> Presented<'_> {
        Presented {
            id: facts.id,
            times: facts.times,
            generation: facts.generation,
            subject: self.subject.as_deref().unwrap_or_default(),
            tags: &self.tags,
        }
    }

    /// Who is signed in.
    pub(super) fn signed_in(&self) -> Result<(Arc<str>, Facts), Error> {
        let signed_out = || Error::new(ErrorKind::SignedOut);
        let subject = self.subject.clone().ok_or_else(signed_out)?;
        Ok((subject, self.facts.ok_or_else(signed_out)?))
    }

    /// The fact that ends this session, if it speaks for someone.
    pub(super) fn end(&self, manager: &SessionManager) -> Option<Revocation> {
        let (_, facts) = self.signed_in().ok()?;
        Some(Revocation::session(facts.id, end_of(&facts.times, manager)))
    }

    /// Begins an anonymous session.
    pub(super) fn begin(
        &mut self,
        issued_at: Timestamp,
        manager: &SessionManager,
    ) -> Result<(), Error> {
        let (lifetime, idle) = manager.limits(Kind::Anonymous, None)?;
        self.facts = Some(new_facts(Times { issued_at, refreshed: 0, lifetime, idle }, false)?);
        Ok(())
    }

    /// Begins the session of a subject.
    pub(super) fn start(&mut self, next: Next<T>, issued_at: Timestamp) -> Result<(), Error> {
        let Next { subject, persistent, limits: (lifetime, idle), tags, data } = next;
        let facts = new_facts(Times { issued_at, refreshed: 0, lifetime, idle }, persistent)?;
        if self.subject.as_ref().is_some_and(|old| *old != subject) {
            self.clear();
        }
        if let Some(data) = data {
            self.keeps_arrived = false;
            self.written = Some(data::to_json(&data)?);
            self.data = Arc::new(data);
            // No JSON is empty: whatever becomes of this data, it is not what there was before.
            self.first = Some(Vec::new());
        }
        self.facts = Some(facts);
        self.subject = Some(subject);
        self.tags = tags;
        self.withheld = None;
        self.signed_out = false;
        Ok(())
    }

    /// Drops everything; whether writes were withheld until now. They stay so where the visitor's
    /// cookie did not come with the request: there is none to remove, but one to be overwritten.
    pub(super) fn sign_out(&mut self, presented: bool) -> bool {
        self.clear();
        self.facts = None;
        self.subject = None;
        self.tags.clear();
        self.signed_out = true;
        let withheld = self.withheld.is_some();
        self.withheld = self.withheld.filter(|_| !presented);
        withheld
    }

    /// Takes changed data, with its JSON before and after the change.
    pub(super) fn set_data(&mut self, data: T, before: Vec<u8>, after: Vec<u8>) {
        self.data = Arc::new(data);
        if before == after {
            return;
        }
        let first = self.first.get_or_insert(before);
        self.written = (*first != after).then_some(after);
    }

    /// Refuses data that does not decode again, such as a NaN: the next request would find a
    /// session that it cannot read.
    pub(super) fn check_readable(&self, manager: &SessionManager) -> Result<(), Error> {
        let json = match (&self.written, self.origin) {
            (Some(json), _) => Cow::Borrowed(json.as_slice()),
            (None, Origin::Arrived) => return Ok(()),
            (None, Origin::Default) => Cow::Owned(data::to_json(&*self.data)?),
        };
        data::from_json::<T>(&json, manager.migration()).map(drop).ok_or_else(|| {
            let detail = "what was written does not decode as the same type again";
            Error::with_detail(ErrorKind::Serialize, detail)
        })
    }

    /// What would be sealed.
    pub(super) fn parts<'a>(&'a self, arrival: &'a Arrival) -> Result<Parts<'a>, Error> {
        let arrived = arrival.session.as_ref().filter(|_| self.origin == Origin::Arrived);
        let data = match (&self.written, arrived) {
            (Some(json), _) => Cow::Borrowed(json.as_slice()),
            (None, Some(opened)) => Cow::Borrowed(opened.record.data()),
            (None, None) => Cow::Owned(data::to_json(&*self.data)?),
        };
        Ok(Parts {
            subject: self.subject.as_deref(),
            tags: &self.tags,
            flash: flash::to_json(&self.flash),
            data,
        })
    }

    /// Whether the data was something, and is the default now.
    pub(super) fn was_emptied(&self) -> Result<bool, Error> {
        match &self.written {
            Some(json) => Ok(*json == data::to_json(&T::default())?),
            None => Ok(false),
        }
    }

    /// Whether what would be sealed holds anything of the session that arrived.
    pub(super) fn keeps_any(&self, arrival: &Arrival) -> Result<bool, Error> {
        let Some(opened) = &arrival.session else { return Ok(false) };
        let messages = flash::from_json(opened.record.flash());
        if messages.iter().any(|message| self.flash.contains(message)) {
            return Ok(true);
        }
        let default = data::to_json(&T::default())?;
        let came = *opened.record.data() != *default;
        Ok(self.keeps_arrived && came && *self.parts(arrival)?.data != *default)
    }

    /// Drops what came with the request: the data, and messages for the next page.
    pub(super) fn clear(&mut self) {
        self.keeps_arrived = false;
        self.data = Arc::default();
        self.origin = Origin::Default;
        self.written = None;
        self.first = None;
        self.flash.clear();
    }
}

fn new_facts(times: Times, persistent: bool) -> Result<Facts, Error> {
    Ok(Facts { id: SessionId::random()?, times, generation: 0, persistent })
}

/// The parts of a record, borrowed where they need no change.
pub(super) struct Parts<'a> {
    subject: Option<&'a str>,
    tags: &'a [Tag],
    flash: Vec<u8>,
    data: Cow<'a, [u8]>,
}

impl Parts<'_> {
    pub(super) fn blocks(&self) -> Blocks<'_> {
        Blocks {
            subject: self.subject.unwrap_or_default(),
            tags: self.tags,
            flash: &self.flash,
            data: &self.data,
        }
    }
}
