//! A table for readers that never wait: a large `base`, and a small `delta` of what came since. A
//! writer copies only the delta; now and then it folds the delta into the base.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

/// A delta of this size is folded into the base.
pub(super) const MAX_DELTA: usize = 1024;

/// Facts by the 16 bytes that they are about. What stands in `delta` counts.
#[derive(Clone)]
pub(super) struct Table<V> {
    base: Arc<Ids<V>>,
    delta: Arc<Ids<V>>,
    /// Facts in both, each counted once.
    len: usize,
}

pub(super) type Ids<V> = HashMap<[u8; 16], V, BuildHasherDefault<IdHasher>>;

impl<V> Default for Table<V> {
    fn default() -> Self {
        Self { base: Arc::default(), delta: Arc::default(), len: 0 }
    }
}

impl<V: Clone> Table<V> {
    /// A table of `len` facts, of which one key may hold several.
    pub(super) fn from_base(len: usize, base: Ids<V>) -> Self {
        Self { base: Arc::new(base), delta: Arc::default(), len }
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn get(&self, key: &[u8; 16]) -> Option<&V> {
        if self.is_empty() {
            return None;
        }
        self.delta.get(key).or_else(|| self.base.get(key))
    }

    /// Puts a value that adds and replaces this many facts.
    pub(super) fn put(&mut self, key: [u8; 16], value: V, adds: usize, replaces: usize) {
        Arc::make_mut(&mut self.delta).insert(key, value);
        self.len = self.len.saturating_add(adds).saturating_sub(replaces);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8; 16], &V)> {
        let older = self.base.iter().filter(|(key, _)| !self.delta.contains_key(*key));
        self.delta.iter().chain(older)
    }

    pub(super) fn fold_if_large(&mut self) {
        if self.delta.len() < MAX_DELTA {
            return;
        }
        let base = Arc::make_mut(&mut self.base);
        base.extend(self.delta.iter().map(|(key, value)| (*key, value.clone())));
        self.delta = Arc::default();
    }
}

/// Keys are random or already hashed, and are looked up only for authentic tokens, so nobody can
/// aim collisions at a table: eight of their bytes are the hash.
#[derive(Default)]
pub(super) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk() {
            self.0 = u64::from_le_bytes(*first);
        }
    }

    // The length that an array's `Hash` writes first says nothing.
    fn write_usize(&mut self, _: usize) {}
}
