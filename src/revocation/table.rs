//! A table for readers that never wait: in shards, each with a large `base` and a small `delta` of
//! what came since. A writer copies one delta; now and then it folds that into its base, which is
//! copied then, but is a small part of the whole.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

/// A delta of this size is folded into its base.
pub(super) const MAX_DELTA: usize = 64;
const SHARDS: usize = 64;

/// Facts by the 16 bytes that they are about. What stands in a `delta` counts.
#[derive(Clone)]
pub(super) struct Table<V> {
    /// Empty as long as the table is.
    shards: Vec<Shard<V>>,
    /// Facts in all of them, each counted once.
    len: usize,
}

#[derive(Clone)]
struct Shard<V> {
    base: Arc<Ids<V>>,
    delta: Arc<Ids<V>>,
}

type Ids<V> = HashMap<[u8; 16], V, BuildHasherDefault<IdHasher>>;

impl<V> Default for Table<V> {
    fn default() -> Self {
        Self { shards: Vec::new(), len: 0 }
    }
}

impl<V: Clone> Table<V> {
    /// How many facts there are, of which one key may hold several.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn get(&self, key: &[u8; 16]) -> Option<&V> {
        let Shard { base, delta } = self.shards.get(place(key))?;
        delta.get(key).or_else(|| base.get(key))
    }

    /// Puts a value that adds and replaces this many facts.
    pub(super) fn put(&mut self, key: [u8; 16], value: V, adds: usize, replaces: usize) {
        if self.shards.is_empty() {
            let (base, delta) = (Arc::default(), Arc::default());
            self.shards = vec![Shard { base, delta }; SHARDS];
        }
        if let Some(Shard { base, delta }) = self.shards.get_mut(place(&key)) {
            Arc::make_mut(delta).insert(key, value);
            if delta.len() >= MAX_DELTA {
                let folded = delta.iter().map(|(key, value)| (*key, value.clone()));
                Arc::make_mut(base).extend(folded);
                *delta = Arc::default();
            }
        }
        self.len = self.len.saturating_add(adds).saturating_sub(replaces);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8; 16], &V)> {
        self.shards.iter().flat_map(|Shard { base, delta }| {
            let older = base.iter().filter(|(key, _)| !delta.contains_key(*key));
            delta.iter().chain(older)
        })
    }
}

/// The shard of a key. By its last byte: the first ones are the hash within the shard.
fn place(key: &[u8; 16]) -> usize {
    let [.., last] = key;
    usize::from(*last) % SHARDS
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
