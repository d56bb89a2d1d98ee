//! Keys leave nothing in memory once they are dropped: a process searches its own.
//!
//! Each test runs in a process of its own, which gets what to search for under a mask, so that no
//! copy of the test's own can be found. Linux only, where a process can read itself as a file.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "helpers of tests"
)]

#[path = "common/folder.rs"]
mod folder;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use folder::Folder;
use hmac::{Hmac, KeyInit, Mac};
use sealed_session::{
    DirectoryKeys, FileKeys, KeyRing, KeySource as _, ManualClock, Map, Rotation, Session,
    SessionManager,
};
use sha2::Sha256;
use zeroize::Zeroizing;

const KEYS: usize = 16;
const MASK: u8 = 0xAA;
const DAY: Duration = Duration::from_secs(86_400);
const MASKED_KEYS: &str = "SEALED_SESSION_TEST_MASKED_KEYS";

#[test]
fn dropped_keys_are_gone_from_memory() {
    in_its_own_process("dropped_keys_are_gone_from_memory", |keys| {
        let found = after(keys, |keys| {
            let text = ring_text(keys, "");
            let ring: KeyRing = text.parse().unwrap();
            drop(text);
            drop(ring.expose_text());
            use_every_key(ring);
        });

        assert_eq!(found, Found::default());
    });
}

#[test]
fn the_keys_of_a_refused_ring_are_gone_from_memory() {
    in_its_own_process("the_keys_of_a_refused_ring_are_gone_from_memory", |keys| {
        let found = after(keys, |keys| {
            let text = ring_text(keys, "seal_from=tomorrow");
            assert!(text.parse::<KeyRing>().unwrap_err().to_string().contains("line 16"));
            drop(text);
            let text = ring_text(keys, "open_until=2026-01-01T00:00:00Z");
            assert!(text.parse::<KeyRing>().unwrap_err().to_string().contains("line 16"));
        });

        assert_eq!(found, Found::default());
    });
}

#[test]
fn the_keys_of_a_followed_source_are_gone_from_memory() {
    in_its_own_process("the_keys_of_a_followed_source_are_gone_from_memory", |keys| {
        let found = after(keys, |keys| {
            let folder = Folder::new();
            let text = ring_text(keys, "");
            let (first, second) = text.split_at(text.find('\n').unwrap() + 1);
            let path = folder.file("whole", &*text);
            let parts = folder.directory("parts");
            folder.file("parts/a", first);
            folder.file("parts/b", second);
            drop(text);
            let file = KeyRing::watch(FileKeys::new(path)).unwrap();
            let directory = KeyRing::watch(DirectoryKeys::new(parts)).unwrap();
            assert_eq!(file.ring().fingerprint(), directory.ring().fingerprint());
            // Refused, read again without a change, and with one.
            let text = ring_text(keys, "seal_from=tomorrow");
            folder.file("whole", &*text);
            assert!(file.reload_now().unwrap_err().to_string().contains("line 16"));
            drop(text);
            directory.reload_now().unwrap();
            let text = ring_text(keys, "revoked");
            folder.file("whole", &*text);
            drop(text);
            file.reload_now().unwrap();
            let (rotation, now) = (Rotation::default(), SystemTime::UNIX_EPOCH + 16 * DAY);
            drop(file.ring().revoke_keys(&[], &rotation, now).unwrap());
        });

        assert_eq!(found, Found::default());
        // What is done last leaves nothing either: after it, nothing else uses the memory again.
        let found = after(keys, |keys| {
            let folder = Folder::new();
            let path = folder.file("keys", &*ring_text(keys, ""));
            drop(FileKeys::new(path).load().unwrap());
        });
        assert_eq!(found, Found::default(), "file");
        let found = after(keys, |keys| {
            let folder = Folder::new();
            folder.file("keys", &*ring_text(keys, ""));
            drop(DirectoryKeys::new(folder.path()).load().unwrap());
        });
        assert_eq!(found, Found::default(), "directory");
    });
}

#[test]
fn a_generated_key_is_gone_from_memory() {
    in_its_own_process("a_generated_key_is_gone_from_memory", |keys| {
        let (tell, told) = mpsc::channel();
        let found = in_a_parked_thread(
            move || {
                for _ in 0..KEYS {
                    let ring = KeyRing::generate().unwrap();
                    let text = ring.expose_text();
                    tell.send(unmask_to_mask(text.lines().nth(1).unwrap())).unwrap();
                }
            },
            || {
                let roots: Vec<[u8; 32]> = told.try_iter().collect();
                assert_eq!(roots.len(), KEYS);
                // Nothing is known of what is derived from them: only the roots count.
                search(&Needles { roots, ..Needles::default() })
            },
        );

        assert_eq!(found, Found::default());
        assert_eq!(keys.roots.len(), KEYS);
    });
}

/// Proof that the search finds keys where there are some.
#[test]
fn keys_in_use_are_found_in_memory() {
    in_its_own_process("keys_in_use_are_found_in_memory", |keys| {
        let text = ring_text(keys, "");
        let ring: KeyRing = text.parse().unwrap();
        drop(text);

        let found = search(keys);

        assert_eq!((found.roots, found.seal, found.csrf, found.texts), (KEYS, KEYS, KEYS, 0));
        drop(ring);
    });
}

/// Proof that the search finds what was freed without being wiped.
#[test]
fn a_copy_that_was_not_wiped_is_found_in_memory() {
    in_its_own_process("a_copy_that_was_not_wiped_is_found_in_memory", |keys| {
        let found = after(keys, |keys| {
            // The allocator writes its own notes into the first bytes of what is freed.
            let mut copy = vec![0; 64];
            copy.extend(keys.roots[3].iter().map(|byte| byte ^ MASK));
            std::hint::black_box(&copy);
        });

        assert_eq!(found, Found { roots: 1, ..Found::default() });
    });
}

/// What was done last with a key leaves nothing on the stack either, nothing came after it.
#[test]
fn whatever_is_done_last_leaves_no_key_in_memory() {
    type Step = fn(&SessionManager, &str);
    let steps: [(&str, Step); 7] = [
        ("nothing", |_, _| {}),
        ("issue", |sessions, _| drop(sessions.bearer::<Map>().issue("alice").unwrap())),
        ("open", |sessions, token| drop(sessions.bearer::<Map>().open(token).unwrap())),
        ("refuse", |sessions, token| {
            assert!(sessions.bearer::<Map>().open(&format!("{token}AAAA")).is_err());
        }),
        ("close", |sessions, _| drop(sessions.cookie_for::<Map>("alice").unwrap())),
        ("csrf_token", |sessions, _| {
            let session: Session = sessions.open(None::<&str>).unwrap();
            session.csrf_token().unwrap();
        }),
        ("verify_csrf", |sessions, _| {
            let session: Session = sessions.open(None::<&str>).unwrap();
            let token = session.csrf_token().unwrap();
            session.verify_csrf(&token).unwrap();
        }),
    ];
    in_its_own_process("whatever_is_done_last_leaves_no_key_in_memory", |keys| {
        for (name, step) in steps {
            let found = after(keys, move |keys| {
                let ring: KeyRing = ring_text(keys, "").parse().unwrap();
                let clock = ManualClock::new(SystemTime::UNIX_EPOCH + 16 * DAY);
                let builder = SessionManager::builder("shop", ring).clock(clock);
                let sessions = builder.build().unwrap();
                let token = sessions.bearer::<Map>().issue("alice").unwrap();
                step(&sessions, &token);
            });
            assert_eq!(found, Found::default(), "{name}");
        }
        let found = after(keys, |keys| drop(ring_text(keys, "").parse::<KeyRing>().unwrap()));
        assert_eq!(found, Found::default(), "parse");
        let found = after(keys, |keys| {
            let ring: KeyRing = ring_text(keys, "").parse().unwrap();
            drop(ring.expose_text());
        });
        assert_eq!(found, Found::default(), "expose_text");
    });
}

/// Seals and opens under each of the keys, and makes and checks CSRF tokens under it.
fn use_every_key(ring: KeyRing) {
    let clock = ManualClock::new(SystemTime::UNIX_EPOCH + DAY);
    let sessions = SessionManager::builder("shop", ring).clock(clock.clone()).build().unwrap();
    for _ in 0..KEYS {
        let bearer = sessions.bearer::<Map>();
        let token = bearer.issue("alice").unwrap();
        assert_eq!(bearer.open(&token).unwrap().subject(), "alice");

        let cookie = sessions.cookie_for::<Map>("alice").unwrap();
        let session: Session = sessions.open([&cookie]).unwrap();
        let csrf = session.csrf_token().unwrap();
        session.verify_csrf(&csrf).unwrap();
        session.insert("cart", [7]).unwrap();
        assert_eq!(session.close().unwrap().into_iter().count(), 1);
        assert!(bearer.open(&format!("{}AAAA", &token[..token.len() - 4])).is_err());
        clock.advance(DAY);
    }
}

/// The ring of these keys, one a day from 1970-01-02 on, with a word more on the last line.
fn ring_text(keys: &Needles, last: &str) -> Zeroizing<String> {
    // Room for all of it: what grows leaves itself behind.
    let mut text = Zeroizing::new(String::with_capacity(4096));
    for (number, root) in (1..).zip(&keys.roots) {
        let start = text.len();
        text.push_str("sealsess_k1_");
        base64_of_unmasked(root, |char| text.push(char));
        text.push('_');
        let checksum = crc32fast::hash(&text.as_bytes()[start..]);
        text.push_str(&URL_SAFE_NO_PAD.encode(checksum.to_be_bytes()));
        let word = if number == KEYS { last } else { "" };
        writeln!(text, " seal_from=1970-01-{:02}T00:00:00Z {word}", number + 1).unwrap();
    }
    text
}

/// What to search for, every byte of it under the mask.
#[derive(Clone, Default)]
struct Needles {
    roots: Vec<[u8; 32]>,
    seal: Vec<[u8; 32]>,
    csrf: Vec<[u8; 32]>,
}

/// How many of them were found; `texts` are roots in base64url.
#[derive(Debug, Default, Eq, PartialEq)]
struct Found {
    roots: usize,
    seal: usize,
    csrf: usize,
    texts: usize,
}

/// Runs a test's body in a process of its own, with fresh keys.
fn in_its_own_process(name: &str, body: impl FnOnce(&Needles)) {
    if let Ok(masked) = std::env::var(MASKED_KEYS) {
        let keys: Vec<[u8; 32]> = URL_SAFE_NO_PAD
            .decode(masked)
            .unwrap()
            .chunks(32)
            .map(|key| key.try_into().unwrap())
            .collect();
        let kind = |n: usize| keys.iter().skip(n).step_by(3).copied().collect();
        return body(&Needles { roots: kind(0), seal: kind(1), csrf: kind(2) });
    }
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(MASKED_KEYS, URL_SAFE_NO_PAD.encode(fresh_masked_keys()))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = String::new();
    child.stdout.take().unwrap().read_to_string(&mut output).unwrap();
    assert!(child.wait().unwrap().success(), "{output}");
    assert!(output.contains("1 passed"), "the process did not run the test: {output}");
}

/// Root, seal key, CSRF key and so on, under the mask.
fn fresh_masked_keys() -> Vec<u8> {
    let mut masked = Vec::new();
    for _ in 0..KEYS {
        let mut root = [0; 32];
        getrandom::fill(&mut root).unwrap();
        let derive = |label: &str| {
            let mac = Hmac::<Sha256>::new_from_slice(&root).unwrap();
            mac.chain_update(label).chain_update([1]).finalize().into_bytes()
        };
        let derived = [derive("sealed-session v1 seal"), derive("sealed-session v1 csrf")].concat();
        masked.extend(root.iter().chain(&derived).map(|byte| byte ^ MASK));
    }
    masked
}

/// What is found after `work` is done and everything in it is dropped.
fn after(keys: &Needles, work: impl FnOnce(&Needles) + Send + 'static) -> Found {
    let own = keys.clone();
    in_a_parked_thread(move || work(&own), || search(keys))
}

/// Searches while the thread that worked stands still, so that its stack is as it left it.
fn in_a_parked_thread<R>(work: impl FnOnce() + Send + 'static, search: impl FnOnce() -> R) -> R {
    let (done, is_done) = mpsc::channel();
    let (leave, may_leave) = mpsc::channel::<()>();
    let worker = thread::spawn(move || {
        work();
        done.send(()).unwrap();
        may_leave.recv().unwrap();
    });
    is_done.recv().unwrap();
    let result = search();
    leave.send(()).unwrap();
    worker.join().unwrap();
    result
}

fn search(needles: &Needles) -> Found {
    let texts: Vec<Vec<u8>> = needles.roots.iter().map(masked_text).collect();
    let keys = [&needles.roots, &needles.seal, &needles.csrf];
    let keys = (0..).zip(keys).flat_map(|(kind, keys)| keys.iter().map(move |key| (kind, *key)));
    let mut all: Vec<Needle> = Vec::new();
    for (number, (kind, key)) in keys.enumerate() {
        all.extend(traces(&key).into_iter().map(|masked| Needle { kind, number, masked }));
    }
    for (number, text) in texts.into_iter().enumerate() {
        all.push(Needle { kind: 3, number, masked: text });
    }
    let mut found = [const { BTreeSet::new() }; 4];
    for needle in occurring(&all) {
        found[needle.kind].insert(needle.number);
    }
    let [roots, seal, csrf, texts] = found.map(|numbers| numbers.len());
    Found { roots, seal, csrf, texts }
}

struct Needle {
    kind: usize,
    number: usize,
    masked: Vec<u8>,
}

/// What betrays a key as well as the key itself: either half of it, as it is, as HMAC pads it, and
/// with the bytes of each word reversed, as a hash reads it.
fn traces(masked: &[u8; 32]) -> Vec<Vec<u8>> {
    let mut traces = Vec::new();
    for half in masked.chunks(16) {
        for pad in [0, 0x36, 0x5c] {
            let padded: Vec<u8> = half.iter().map(|byte| byte ^ pad).collect();
            traces.push(padded.chunks(4).flat_map(|word| word.iter().rev().copied()).collect());
            traces.push(padded);
        }
    }
    traces
}

/// The needles that occur in this process's writable memory.
fn occurring(needles: &[Needle]) -> Vec<&Needle> {
    let mut by_start: Vec<Vec<&Needle>> = vec![Vec::new(); 1 << 16];
    for needle in needles {
        by_start[start(&needle.masked, 0)].push(needle);
    }
    let mut found = Vec::new();
    for region in writable_regions() {
        for (at, pair) in region.windows(2).enumerate() {
            for needle in &by_start[start(pair, MASK)] {
                let here = region.get(at..at + needle.masked.len()).unwrap_or_default();
                if here.len() == needle.masked.len()
                    && here.iter().zip(&needle.masked).all(|(here, masked)| here ^ MASK == *masked)
                {
                    found.push(*needle);
                }
            }
        }
    }
    found
}

fn start(bytes: &[u8], mask: u8) -> usize {
    usize::from(u16::from_be_bytes([bytes[0] ^ mask, bytes[1] ^ mask]))
}

/// The contents of heap, stacks and everything else that can be written to.
fn writable_regions() -> impl Iterator<Item = Vec<u8>> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let mut memory = File::open("/proc/self/mem").unwrap();
    let regions: Vec<(u64, u64)> = maps
        .lines()
        .filter(|line| line.split(' ').nth(1).unwrap().starts_with("rw"))
        .map(|line| {
            let (from, to) = line.split(' ').next().unwrap().split_once('-').unwrap();
            let number = |hex| u64::from_str_radix(hex, 16).unwrap();
            (number(from), number(to))
        })
        .collect();
    regions.into_iter().map(move |(from, to)| {
        let mut bytes = vec![0; usize::try_from(to - from).unwrap()];
        memory.seek(SeekFrom::Start(from)).unwrap();
        memory.read_exact(&mut bytes).unwrap();
        bytes
    })
}

/// Base64url of what is under the mask, a character at a time.
fn base64_of_unmasked(masked: &[u8; 32], mut take: impl FnMut(char)) {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    for three in masked.chunks(3) {
        let bits = three.iter().fold(0_usize, |bits, byte| bits << 8 | usize::from(byte ^ MASK));
        let bits = bits << (8 * (3 - three.len()));
        for place in 0..=three.len() {
            take(char::from(ALPHABET[bits >> (18 - 6 * place) & 63]));
        }
    }
}

fn masked_text(masked: &[u8; 32]) -> Vec<u8> {
    let mut text = Vec::with_capacity(43);
    base64_of_unmasked(masked, |char| text.push(u8::try_from(char).unwrap() ^ MASK));
    text
}

/// The masked root of a key's line, without an unmasked copy.
fn unmask_to_mask(line: &str) -> [u8; 32] {
    let mut root = [0; 32];
    let (mut bits, mut held, mut at) = (0_u32, 0, 0);
    for char in line["sealsess_k1_".len()..].bytes().take(43) {
        let value = match char {
            b'A'..=b'Z' => char - b'A',
            b'a'..=b'z' => char - b'a' + 26,
            b'0'..=b'9' => char - b'0' + 52,
            b'-' => 62,
            _ => 63,
        };
        bits = (bits << 6 | u32::from(value)) & 0xffff;
        held += 6;
        if held >= 8 && at < root.len() {
            held -= 8;
            root[at] = u8::try_from(bits >> held & 0xff).unwrap() ^ MASK;
            at += 1;
        }
    }
    root
}
