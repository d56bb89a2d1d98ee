//! A log with one thing wrong, and what it is made of.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use sealed_session::revocation::conformance::Suite;
use sealed_session::revocation::{Cursor, Lineage, MemoryLog, Page, Revocation, RevocationLog};
use sealed_session::{Error, ErrorKind};

type Append = dyn Fn(&MemoryLog, &[Revocation]) -> Result<(), Error> + Send + Sync;
type Read = dyn Fn(&MemoryLog, Option<&Cursor>, Duration) -> Result<Page, Error> + Send + Sync;

/// A log in memory with one thing wrong.
pub(crate) struct Wrong {
    pub(crate) log: MemoryLog,
    append: Box<Append>,
    read: Box<Read>,
}

impl Wrong {
    /// Nothing wrong yet, on a log that handles share.
    pub(crate) fn of(log: &MemoryLog) -> Self {
        Self {
            log: log.clone(),
            append: Box::new(RevocationLog::append),
            read: Box::new(RevocationLog::read),
        }
    }

    pub(crate) fn append(
        self,
        append: impl Fn(&MemoryLog, &[Revocation]) -> Result<(), Error> + Send + Sync + 'static,
    ) -> Self {
        Self { append: Box::new(append), ..self }
    }

    pub(crate) fn read(
        self,
        read: impl Fn(&MemoryLog, Option<&Cursor>, Duration) -> Result<Page, Error>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        Self { read: Box::new(read), ..self }
    }

    /// All handles are this one.
    pub(crate) fn suite(self) -> Suite<'static, Arc<Self>> {
        let (log, wrong) = (self.log.clone(), Arc::new(self));
        Suite::new(move || Ok(Arc::clone(&wrong))).wiped_by(move || log.wipe())
    }
}

impl Default for Wrong {
    fn default() -> Self {
        Self::of(&MemoryLog::new().unwrap())
    }
}

impl RevocationLog for Wrong {
    fn append(&self, facts: &[Revocation]) -> Result<(), Error> {
        (self.append)(&self.log, facts)
    }

    fn read(&self, after: Option<&Cursor>, wait: Duration) -> Result<Page, Error> {
        (self.read)(&self.log, after, wait)
    }
}

#[track_caller]
pub(crate) fn refused<L: RevocationLog>(rule: &str, suite: Suite<'_, L>) -> Error {
    let error = suite.run().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Backend);
    let text = error.to_string();
    assert!(text.contains(&format!("rule broken: {rule}: expected ")), "{text}\nnot: {rule}");
    error
}

/// How many facts a log in memory has given by then: its cursor is its lineage, and that.
pub(crate) fn place(cursor: &Cursor) -> usize {
    usize::from_be_bytes(cursor.as_bytes()[16..].try_into().unwrap())
}

pub(crate) fn moved(cursor: &Cursor, place: usize) -> Cursor {
    Cursor::new([&cursor.as_bytes()[..16], &place.to_be_bytes()].concat())
}

pub(crate) fn without_facts(page: &Page) -> Page {
    Page::new(page.lineage(), page.cursor().clone()).with_more(page.has_more())
}

pub(crate) fn with_lineage(page: &Page, lineage: Lineage) -> Page {
    let mut other = Page::new(lineage, page.cursor().clone()).with_more(page.has_more());
    page.facts().iter().for_each(|fact| other.push(&fact.to_bytes()));
    other
}

/// For a lineage of the page's age.
pub(crate) fn born_and_now(page: &Page) -> (SystemTime, SystemTime) {
    let born = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    (born, born + page.lineage().age())
}

pub(crate) fn only(facts: &[Revocation], keep: impl FnMut(&Revocation) -> bool) -> Vec<Revocation> {
    let mut keep = keep;
    facts.iter().filter(|fact| keep(fact)).copied().collect()
}

pub(crate) fn is_over(fact: &Revocation) -> bool {
    fact.until().is_some_and(|until| until < SystemTime::now())
}

/// How long sessions live: 30 days and 5 ms, which the suite does not say.
pub(crate) fn some_fact() -> Revocation {
    Revocation::from_bytes(&[4, 0, 0, 0x9A, 0x7E, 0xC8, 5, 0x96, 0xF8, 0x16, 0x3E]).unwrap()
}
