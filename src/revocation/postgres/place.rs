//! How far a reader has come.

use std::time::{Duration, SystemTime};

use tokio_postgres::Row;

use super::link::Failure;
use crate::error::Error;
use crate::revocation::{Cursor, Lineage, Page};

/// How far a reader has come: a snapshot of the database, in which it has seen everything. So it is
/// given what has become visible since, each fact once, however long other transactions take.
pub(super) struct Place {
    lineage: [u8; 16],
    /// Since when this server has run on this table: what a snapshot can be compared with.
    era: Box<str>,
    pub(super) seen: Box<str>,
    /// Between pages: the snapshot that will have been seen after the last, which is that of the
    /// first, since later ones are read after it.
    then: Box<str>,
    pub(super) last_xid: Box<str>,
    pub(super) last_fact: Box<[u8]>,
}

pub(super) struct Found {
    pub(super) page: Page,
    pub(super) next: Place,
    pub(super) is_news: bool,
}

impl Place {
    pub(super) fn beginning() -> Self {
        Self {
            lineage: [0; 16],
            era: "".into(),
            seen: NOTHING_SEEN.into(),
            then: "".into(),
            last_xid: "0".into(),
            last_fact: [].into(),
        }
    }

    pub(super) fn begins(&self) -> bool {
        *self.seen == *NOTHING_SEEN
    }

    /// Whether more of the same has been announced.
    pub(super) fn pages(&self) -> bool {
        self.begins() || !self.then.is_empty()
    }

    /// What a row of [`PAGE`] holds, as a page that ends at the next place.
    pub(super) fn next(&self, row: &Row) -> Result<Found, Failure> {
        let lost = |what: &str| {
            let advice = "the revocation log was lost, restored or restarted";
            Err(Failure::Log(Error::backend(format!("{advice}: {what}"))))
        };
        let lineage = row.try_get::<_, &[u8]>("id")?.try_into().map_err(|_| Failure::Strange)?;
        let era: &str = row.try_get("era")?;
        let first = self.era.is_empty();
        if !first && lineage != self.lineage {
            return lost("it has another id");
        }
        if !first && *era != *self.era {
            return lost("the server or the table is another one");
        }
        if row.try_get("went_back")? {
            return lost("the database is older than what was read from it");
        }
        let facts = row.try_get::<_, Option<Vec<&[u8]>>>("facts")?.unwrap_or_default();
        let more = facts.len() >= PAGE_LEN;
        let now: &str = row.try_get("now_seen")?;
        let then = if self.then.is_empty() { now } else { &self.then };
        let next = if let (true, Some(fact)) = (more, facts.last()) {
            let (seen, last_xid) = (self.seen.clone(), row.try_get::<_, &str>("last_xid")?.into());
            Self {
                lineage,
                era: era.into(),
                seen,
                then: then.into(),
                last_xid,
                last_fact: (*fact).into(),
            }
        } else {
            let oldest = then.split(':').next().unwrap_or_default();
            let (seen, last_xid) = (then.into(), oldest.into());
            Self { lineage, era: era.into(), seen, then: "".into(), last_xid, last_fact: [].into() }
        };
        let [born, at] = [instant(row, "born")?, instant(row, "now")?];
        let lineage = Lineage::new(lineage, born, at);
        let mut page = Page::new(lineage, next.to_cursor()).with_more(more);
        for fact in &facts {
            page.push(fact);
        }
        let is_news = self.pages() || !facts.is_empty();
        if !facts.is_empty() {
            page = page.written_at(instant(row, "written_at")?);
        }
        Ok(Found { page, next, is_news })
    }

    fn to_cursor(&self) -> Cursor {
        let text = [&*self.era, &*self.seen, &*self.then, &*self.last_xid, ""].join("\n");
        Cursor::new([&self.lineage[..], text.as_bytes(), &*self.last_fact].concat())
    }

    pub(super) fn from_cursor(cursor: &Cursor) -> Result<Self, Error> {
        let foreign = || Error::backend("a cursor of another log");
        let (lineage, text) = cursor.as_bytes().split_first_chunk().ok_or_else(foreign)?;
        let mut fields = text.splitn(5, |byte| *byte == b'\n');
        let mut field = || fields.next().ok_or_else(foreign);
        let text = |bytes| str::from_utf8(bytes).map(Box::from).map_err(|_| foreign());
        let [era, seen, then, last_xid] =
            [text(field()?)?, text(field()?)?, text(field()?)?, text(field()?)?];
        Ok(Self { lineage: *lineage, era, seen, then, last_xid, last_fact: field()?.into() })
    }
}

/// The most that is sent at once.
const PAGE_LEN: usize = 10_000;

/// A snapshot before every transaction.
const NOTHING_SEEN: &str = "1:1:";

fn instant(row: &Row, column: &str) -> Result<SystemTime, Failure> {
    let millis = u64::try_from(row.try_get::<_, i64>(column)?).unwrap_or_default();
    let since = Duration::from_millis(millis);
    Ok(SystemTime::UNIX_EPOCH.checked_add(since).unwrap_or(SystemTime::UNIX_EPOCH))
}
