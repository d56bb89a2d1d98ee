//! Where rings are read from: who may have written there, and what a place says that is not fit.

#![cfg(unix)]
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test may panic"
)]

#[path = "common/folder.rs"]
mod folder;
#[path = "common/rings.rs"]
mod rings;

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, chown, symlink};
use std::path::Path;
use std::process::Command;

use folder::Folder;
use rings::{Log, key};
use sealed_session::{
    DirectoryKeys, EnvKeys, ErrorKind, FileKeys, KeyRing, KeySource, SessionManager,
};

/// The message of a refusal, which names the place.
fn refusal(source: &impl KeySource, place: &Path) -> String {
    let error = source.load().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::KeyRing);
    let message = error.to_string();
    let names = format!("the key ring is unusable: {}: ", place.display());
    message.strip_prefix(&names).unwrap_or_else(|| panic!("{message}")).to_owned()
}

#[track_caller]
fn assert_refused(path: &Path, reason: &str) {
    let message = refusal(&FileKeys::new(path), path);
    assert!(message.contains(reason), "{message}");
}

#[track_caller]
fn assert_loads(path: &Path, text: &str) {
    assert_eq!(*FileKeys::new(path).load().unwrap(), text);
}

#[test]
fn a_file_that_others_cannot_read_loads_without_a_warning() {
    let (folder, text) = (Folder::new(), key());
    let path = folder.file("keys", &text);
    for mode in [0o400, 0o600, 0o640, 0o440, 0o700] {
        folder.mode(mode, "keys");
        let source = FileKeys::new(&path);

        assert_eq!(*source.load().unwrap(), text);
        assert_eq!(source.warning(), None, "{mode:o}");
        assert_eq!(source.name(), path.display().to_string());
    }
}

#[test]
fn a_file_that_others_can_read_loads_with_a_warning_that_reaches_a_later_observer() {
    let (folder, text) = (Folder::new(), key());
    let path = folder.file("keys", &text);
    let source = FileKeys::new(&path);
    for mode in [0o644, 0o604, 0o444] {
        folder.mode(mode, "keys");
        source.load().unwrap();
        assert_eq!(source.warning().unwrap(), "all users may read this file: chmod 600 or 640");
    }
    folder.mode(0o600, "keys");
    source.load().unwrap();
    assert_eq!(source.warning(), None);
    folder.mode(0o644, "keys");

    let (keys, log) = (KeyRing::watch(source).unwrap(), Log::default());
    let _sessions = SessionManager::builder("shop", keys).observer(log.observer()).build().unwrap();

    let events = log.take();
    assert_eq!(events.len(), 2);
    assert!(events[0].starts_with("KeyRingLoaded"));
    assert!(events[1].starts_with("KeySourceWarning { warning: \"all users may read"));
}

#[test]
fn a_file_that_group_or_others_may_write_is_refused() {
    let folder = Folder::new();
    let path = folder.file("keys", key());
    for mode in [0o620, 0o602, 0o660, 0o666, 0o664] {
        folder.mode(mode, "keys");
        assert_refused(&path, "may write this file: chmod 600, and make new keys if they did");
    }
}

#[test]
fn a_directory_that_group_or_others_may_write_is_refused() {
    let folder = Folder::new();
    let path = folder.file("keys", key());
    for mode in [0o775, 0o757, 0o777, 0o2775] {
        folder.mode(mode, "");
        assert_refused(&path, &format!("may write the directory {}", folder.path().display()));
        let message = refusal(&DirectoryKeys::new(folder.path()), folder.path());
        assert!(message.contains("chmod 755"), "{message}");
    }
    folder.mode(0o700, "");
    FileKeys::new(&path).load().unwrap();
}

#[test]
fn a_sticky_directory_is_accepted_if_what_it_holds_has_its_owner() {
    let (folder, text) = (Folder::new(), key());
    let path = folder.file("keys", &text);
    folder.mode(0o1777, "");
    assert_loads(&path, &text);
    folder.mode(0o3777, "");
    assert_loads(&path, &text);

    // Only root can give files away; without that, a foreign directory must do.
    if chown(&path, Some(65_534), None).is_ok() {
        assert_refused(&path, "may write the directory");
        chown(folder.path(), Some(65_534), None).unwrap();
        assert_loads(&path, &text);
        return;
    }
    let shared = fs::metadata("/tmp").unwrap();
    let own = fs::metadata(&path).unwrap().uid();
    assert!(shared.mode() & 0o1002 == 0o1002 && shared.uid() != own, "no foreign directory");
    let path = Path::new("/tmp").join(folder.path().file_name().unwrap()).with_extension("keys");
    fs::copy(folder.at("keys"), &path).unwrap();
    let message = refusal(&FileKeys::new(&path), &path);
    fs::remove_file(&path).unwrap();
    assert!(message.contains("may write the directory"), "{message}");
}

#[test]
fn a_link_in_a_directory_that_others_may_write_is_refused_wherever_it_stands_on_the_way() {
    let (folder, text) = (Folder::new(), key());
    let (open, safe) = (folder.directory("open"), folder.directory("safe"));
    fs::write(safe.join("keys"), &text).unwrap();
    folder.mode(0o600, "safe/keys");
    symlink("..", safe.join("up")).unwrap();
    symlink(safe.join("keys"), open.join("file")).unwrap();
    symlink("../safe", open.join("directory")).unwrap();
    symlink(open.join("directory"), folder.at("there")).unwrap();
    symlink("up/open/file", safe.join("twice")).unwrap();
    fs::create_dir(safe.join("v1")).unwrap();
    fs::copy(safe.join("keys"), safe.join("v1/keys")).unwrap();
    symlink("v1", safe.join("..data")).unwrap();
    let files =
        ["open/file", "open/directory/keys", "there/keys", "safe/twice", "open/directory/v1/keys"];
    let directories = ["open/directory", "there"];
    let load = |reason: Option<&str>| {
        for path in files.map(|name| folder.at(name)) {
            match reason {
                Some(reason) => assert_refused(&path, reason),
                None => assert_loads(&path, &text),
            }
        }
        for path in directories.map(|name| folder.at(name)) {
            let source = DirectoryKeys::new(&path);
            match reason {
                Some(reason) => assert!(refusal(&source, &path).contains(reason)),
                None => assert_eq!(*source.load().unwrap(), format!("{text}\n")),
            }
        }
    };

    load(None);
    folder.mode(0o777, "open");
    load(Some(&format!("may write the directory {}", open.display())));
    fs::remove_file(safe.join("..data")).unwrap();
    let through = DirectoryKeys::new(open.join("directory"));
    assert!(refusal(&through, &open.join("directory")).contains("may write the directory"));
}

#[test]
fn links_that_go_round_in_a_circle_are_refused() {
    let folder = Folder::new();
    symlink("b", folder.at("a")).unwrap();
    symlink("a", folder.at("b")).unwrap();

    refusal(&FileKeys::new(folder.at("a")), &folder.at("a"));
    refusal(&DirectoryKeys::new(folder.at("a")), &folder.at("a"));
}

#[test]
fn what_is_no_file_is_refused_and_never_waited_for() {
    let folder = Folder::new();
    let pipe = folder.at("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    symlink("pipe", folder.at("link")).unwrap();

    assert_refused(&pipe, "not a file: ");
    assert_refused(&folder.at("link"), "not a file: ");
    assert_refused(folder.path(), "not a file: ");
    let message = refusal(&DirectoryKeys::new(folder.path()), folder.path());
    assert!(message.starts_with("link: not a file: "), "{message}");
}

#[test]
fn what_is_not_there_is_refused_with_what_to_do() {
    let folder = Folder::new();
    symlink("gone", folder.at("dangling")).unwrap();
    for name in ["missing", "missing/keys", "dangling"] {
        let path = folder.at(name);
        assert_refused(
            &path,
            "not found: bring the file back, or make the first ring with sealed-session keys new",
        );
        let message = refusal(&DirectoryKeys::new(&path), &path);
        assert!(message.starts_with("not found: "), "{message}");
    }
    let file = folder.file("keys", key());
    refusal(&DirectoryKeys::new(&file), &file);
    let empty = folder.directory("empty");
    let error = KeyRing::watch(DirectoryKeys::new(&empty)).unwrap_err().to_string();
    assert!(
        error.starts_with(&format!(
            "the key ring is unusable: {}: it holds no key",
            empty.display()
        )),
        "{error}"
    );
}

#[test]
fn a_file_has_at_most_64_kib() {
    let (folder, key) = (Folder::new(), key());
    let text = |bytes: usize| format!("{key}\n#{}", "x".repeat(bytes - key.len() - 2));

    let path = folder.file("keys", text(65_536));
    assert!(FileKeys::new(&path).load().unwrap().parse::<KeyRing>().is_ok());
    folder.file("keys", text(65_537));
    assert_refused(&path, "over 64 KiB of text: keep at most 16 keys");
    // Without an end, at that.
    symlink("/dev/zero", folder.at("endless")).unwrap();
    assert_refused(&folder.at("endless"), "not a file");
    let both = folder.directory("both");
    for name in ["both/a", "both/b"] {
        folder.file(name, text(40_000));
    }
    assert!(refusal(&DirectoryKeys::new(&both), &both).contains("over 64 KiB"));
}

#[test]
fn text_that_is_not_utf_8_is_refused_by_its_line() {
    let folder = Folder::new();
    let cases: [(&[u8], &str); 4] = [
        (b"\xff", "line 1: not UTF-8"),
        (b"# one\n# two\n# \xe9\n", "line 3: not UTF-8"),
        (b"# one;# two;\xc3", "line 3: not UTF-8"),
        (b"\xff\xfes\0e\0", "line 1: not UTF-8"),
    ];
    for (bytes, reason) in cases {
        let path = folder.file("keys", bytes);
        assert_refused(&path, reason);
    }
    let message = refusal(&DirectoryKeys::new(folder.path()), folder.path());
    assert!(message.starts_with("keys: line 1: not UTF-8"), "{message}");
}

#[test]
fn a_name_that_is_not_utf_8_loads_as_well() {
    let (folder, text) = (Folder::new(), key());
    let name = std::ffi::OsStr::from_bytes(b"keys-\xff");
    fs::write(folder.path().join(name), &text).unwrap();

    assert_eq!(*DirectoryKeys::new(folder.path()).load().unwrap(), format!("{text}\n"));
}

#[test]
fn the_files_of_a_directory_are_joined_by_name_and_named_in_errors() {
    let folder = Folder::new();
    let (a, b) =
        (format!("# first\n{}", key()), format!("{} seal_from=2026-11-30T00:00:00Z\n", key()));
    folder.file("b", &b);
    folder.file("a", &a);
    folder.file(".hidden", "no key at all");
    folder.directory("sub");
    let source = DirectoryKeys::new(folder.path());

    assert_eq!(*source.load().unwrap(), format!("{a}\n{b}"));
    source.load().unwrap().parse::<KeyRing>().unwrap();

    folder.file("b", "# good\nbad");
    let error = KeyRing::watch(source).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::KeyRing);
    let place = format!("{} (a has lines 1 to 2, b has lines 3 to 4)", folder.path().display());
    let message = format!("the key ring is unusable: {place}: line 4: no key");
    assert!(error.to_string().starts_with(&message), "{error}");

    folder.mode(0o622, "a");
    let message = refusal(&DirectoryKeys::new(folder.path()), folder.path());
    assert!(message.starts_with("a: its group or others may write this file"), "{message}");
}

/// Set by the test below for a process of its own: a variable must not change while threads run.
const VARIABLE: &str = "SEALED_SESSION_TEST_KEYS";

#[test]
fn a_ring_in_an_environment_variable_loads_with_a_warning() {
    let name = format!("environment variable {VARIABLE}");
    let source = EnvKeys::new(VARIABLE);
    assert_eq!(source.name(), name);
    if let Some(value) = std::env::var_os(VARIABLE) {
        match value.to_str() {
            Some(text) => assert_eq!(*source.load().unwrap(), text),
            None => assert!(refusal(&source, Path::new(&name)).starts_with("not UTF-8: ")),
        }
        if value.is_empty() {
            let error = KeyRing::watch(source).unwrap_err().to_string();
            assert!(error.contains(&format!("{name}: it holds no key")), "{error}");
        } else if value.to_str().is_some() {
            let (keys, log) = (KeyRing::watch(source).unwrap(), Log::default());
            assert_eq!(keys.ring().status(std::time::SystemTime::now()).len(), 2);
            let builder = SessionManager::builder("shop", keys).observer(log.observer());
            let _sessions = builder.build().unwrap();
            assert!(log.take()[1].contains("an environment variable cannot change"));
        }
        return;
    }
    assert!(refusal(&source, Path::new(&name)).starts_with("not set: set it to the text"));
    let ring = format!("{};{} seal_from=2099-01-01T00:00:00Z", key(), key());
    let values: [&[u8]; 3] = [ring.as_bytes(), b"", b"\xff"];
    for value in values {
        let test = "a_ring_in_an_environment_variable_loads_with_a_warning";
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test])
            .env(VARIABLE, std::ffi::OsStr::from_bytes(value))
            .output()
            .unwrap();
        let shown = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && shown.contains("1 passed"), "{shown}");
    }
}
