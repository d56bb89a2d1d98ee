//! Rings that are put in place by moving a link, as Kubernetes does it with a mounted secret.

#![cfg(unix)]
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test may panic"
)]

#[path = "common/folder.rs"]
mod folder;
#[path = "common/rings.rs"]
mod rings;

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use folder::Folder;
use rings::{id, key};
use sealed_session::{
    DirectoryKeys, ErrorKind, FileKeys, KeyRing, KeyState, Rotation, WatchedKeys,
};

/// A mounted secret of one or more files.
struct Mount {
    folder: Folder,
    version: u32,
    files: Vec<&'static str>,
}

impl Mount {
    fn new(files: &[&'static str], texts: &[String]) -> Self {
        let mut mount = Self { folder: Folder::new(), version: 0, files: files.to_vec() };
        mount.folder.mode(0o1777, "");
        mount.swap(texts);
        for file in files {
            symlink(format!("..data/{file}"), mount.folder.at(file)).unwrap();
        }
        mount
    }

    /// Writes a new version beside the old one, moves the link, removes the old one at once.
    fn swap(&mut self, texts: &[String]) {
        let old = format!("..v{}", self.version);
        self.version += 1;
        let new = format!("..v{}", self.version);
        self.folder.directory(&new);
        for (file, text) in self.files.iter().zip(texts) {
            fs::write(self.folder.at(&new).join(file), text).unwrap();
        }
        symlink(&new, self.folder.at("..data_tmp")).unwrap();
        fs::rename(self.folder.at("..data_tmp"), self.folder.at("..data")).unwrap();
        if self.version > 1 {
            fs::remove_dir_all(self.folder.at(&old)).unwrap();
        }
    }
}

fn five_swaps(mut mount: Mount, keys: &WatchedKeys) {
    for _ in 0..5 {
        let old = keys.ring();
        let active = old.status(std::time::SystemTime::now());
        let active = active.iter().find(|key| key.state() == KeyState::Active).unwrap().id();
        let revoked =
            old.revoke_keys(&[active], &Rotation::default(), std::time::SystemTime::now()).unwrap();

        mount.swap(&[revoked.ring().expose_text().to_string()]);
        assert_eq!(keys.ring().fingerprint(), old.fingerprint());
        keys.reload_now().unwrap();

        assert_eq!(keys.ring().fingerprint(), revoked.ring().fingerprint());
        assert_ne!(keys.ring().fingerprint(), old.fingerprint());
    }
    assert_eq!(keys.ring().status(std::time::SystemTime::now()).len(), 6);
}

#[test]
fn five_versions_in_a_row_are_each_seen_in_a_file() {
    let mount = Mount::new(&["session.keys"], &[key()]);
    let keys = KeyRing::watch(FileKeys::new(mount.folder.at("session.keys"))).unwrap();

    five_swaps(mount, &keys);
}

#[test]
fn five_versions_in_a_row_are_each_seen_in_a_directory() {
    let mount = Mount::new(&["session.keys"], &[key()]);
    let keys = KeyRing::watch(DirectoryKeys::new(mount.folder.path())).unwrap();

    five_swaps(mount, &keys);
}

/// What a source gave while versions were swapped as fast as possible: either the whole of one
/// version, or an error that says that it found none.
fn race(
    files: &'static [&'static str],
    load: impl Fn(&Mount) -> Box<dyn sealed_session::KeySource>,
) {
    let lines: Vec<String> = files.iter().map(|_| key()).collect();
    // Which version it is stands in every file.
    let texts = |version: u32| -> Vec<String> {
        let line = |line: &String| format!("# {version}\n{line}\n").repeat(8);
        lines.iter().map(line).collect()
    };
    let mut mount = Mount::new(files, &texts(0));
    let source = load(&mount);
    let (done, loaded) = (AtomicBool::new(false), AtomicUsize::new(0));
    let loads: Vec<_> = thread::scope(|scope| {
        scope.spawn(|| {
            for version in 1.. {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                mount.swap(&texts(version));
                // So that a load is met now in the middle and now between two swaps.
                let enough = loaded.load(Ordering::Relaxed) + 2;
                while loaded.load(Ordering::Relaxed) < enough && !done.load(Ordering::Relaxed) {
                    thread::yield_now();
                }
            }
        });
        // Judged afterwards, so that the other thread ends in any case.
        let load = |_| {
            let load = source.load();
            loaded.fetch_add(1, Ordering::Relaxed);
            load
        };
        let loads = (0..500).map(load).collect();
        done.store(true, Ordering::Relaxed);
        loads
    });
    let (mut whole, mut missed) = (0, 0);
    for load in loads {
        match load {
            Ok(text) => {
                let version = text.lines().next().and_then(|line| line.strip_prefix("# "));
                let version = version.and_then(|version| version.parse().ok());
                assert_eq!(Some(text.to_string()), version.map(|n| texts(n).concat()));
                whole += 1;
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::KeyRing);
                let known = ["not found", "it changed each time it was read"];
                let text = error.to_string();
                assert!(known.iter().any(|known| text.contains(known)), "{text}");
                missed += 1;
            }
        }
    }
    assert!(whole > 50, "{whole} whole, {missed} missed");
    source.load().unwrap();
}

#[test]
fn every_load_of_a_file_gives_one_whole_version_while_versions_are_swapped() {
    race(&["session.keys"], |mount| Box::new(FileKeys::new(mount.folder.at("session.keys"))));
}

#[test]
fn every_load_of_a_directory_gives_one_whole_version_while_versions_are_swapped() {
    let files =
        &["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q", "r"];
    race(files, |mount| Box::new(DirectoryKeys::new(mount.folder.path())));
}

#[test]
fn a_mount_with_two_files_is_one_ring() {
    let (one, two) = (key(), key());
    let texts = [one.clone(), format!("{two} seal_from=2099-01-01T00:00:00Z")];
    let mount = Mount::new(&["a", "b"], &texts);
    let keys = KeyRing::watch(DirectoryKeys::new(mount.folder.path())).unwrap();

    let states = rings::states(&keys.ring(), std::time::SystemTime::now());

    assert_eq!(states, [(id(&one), KeyState::Active), (id(&two), KeyState::Pending)]);
}
