//! The operator's command, as its users meet it: what it says, what it writes, how it ends.
//!
//! What one sees on a terminal stands as data in `tests/cli`; what needs a ring or a token of today, or
//! files with rights of their own, is here.
#![cfg(all(feature = "cli", unix))]
#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a test may panic")]

#[path = "common/shell.rs"]
mod shell;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::Path;
use std::process::{Child, Stdio};

use sealed_session::{KeyState, Map, SessionManager};
use shell::{BINARY, Place, Ran, TEMP};

#[test]
fn what_a_terminal_shows() {
    // A copy, since the rights of files in a checkout are anybody's, and a ring that others may
    // write is refused.
    let copy = Place::new("trycmd");
    copy_folder(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli"), copy.path());

    let cases = trycmd::TestCases::new();
    cases.register_bin("sealed-session", Path::new(BINARY));
    cases.case(copy.path().join("*.trycmd")).case(copy.path().join("*.toml"));
    cases.run();
}

fn copy_folder(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let from = entry.unwrap().path();
        let to = to.join(from.file_name().unwrap());
        if from.is_dir() {
            fs::create_dir(&to).unwrap();
            fs::set_permissions(&to, fs::Permissions::from_mode(0o755)).unwrap();
            copy_folder(&from, &to);
        } else {
            fs::write(&to, fs::read(&from).unwrap()).unwrap();
            fs::set_permissions(&to, fs::Permissions::from_mode(0o600)).unwrap();
        }
    }
}

#[test]
fn no_output_holds_any_part_of_a_key() {
    let (place, first) = Place::with_ring("secrets");
    let config = "realm = \"shop\"\nkeys = { source = \"file\", path = \"session.keys\" }\n";
    place.write("shop.toml", config, 0o600);
    let mut texts = vec![place.text()];
    let mut shown = String::new();
    let mut show = |ran: Ran| {
        shown.push_str(&ran.out);
        shown.push_str(&ran.err);
    };

    show(place.run(&["keys", "rotate"]));
    texts.push(place.text());
    show(place.run(&["keys", "rotate", "--revoke", &first, "--now"]));
    texts.push(place.text());
    show(place.run(&["keys", "rotate", "--if-due"]));
    show(place.run(&["keys", "new"]));
    for args in [
        &["keys", "list"][..],
        &["keys", "list", "--json"],
        &["keys", "check"],
        &["keys", "check", "--json"],
        &["config", "check", "shop.toml"],
        &["config", "check", "shop.toml", "--json"],
    ] {
        show(place.run(args));
    }
    let sessions = SessionManager::builder("shop", place.ring()).build().unwrap();
    let token = sessions.cookie_for::<Map>("alice").unwrap();
    for args in [&["--data"][..], &["--json"], &["--json", "--data"]] {
        let args = [&["inspect", "--config", "shop.toml"], args].concat();
        show(place.feed(&args, token.as_bytes()));
    }
    // Where it stands wrong, and with a typo.
    let key = place.text().lines().find(|line| line.starts_with("sealsess")).unwrap().to_owned();
    let word = key.split(' ').next().unwrap();
    place.write("word.toml", &format!("{word} = 1\n"), 0o600);
    place.write("word.json", &format!("{{\"{word}\": 1}}"), 0o600);
    place.write("key.toml", &format!("keys = \"{key}\"\n"), 0o600);
    place.write("key.json", &format!("{{\"keys\": \"{key}\"}}"), 0o600);
    place.write("syntax.toml", &format!("keys = {key}\n"), 0o600);
    place.write("typo.keys", &key.replacen("sealsess_k1_", "sealsess_k1_A", 1), 0o600);
    place.write("words.keys", &format!("{key} {key}"), 0o600);
    for file in ["word.toml", "word.json", "key.toml", "key.json", "syntax.toml"] {
        show(place.run(&["config", "check", file]));
    }
    for file in ["typo.keys", "words.keys"] {
        show(place.run(&["keys", "check", file]));
        show(place.run(&["keys", "rotate", file]));
    }

    let keys: BTreeSet<&str> = texts.iter().flat_map(|text| roots(text)).collect();
    assert_eq!(keys.len(), 3);
    assert!(shown.contains("sealsess_k1_…"), "a message that repeats what it was given");
    for key in keys {
        for window in key.as_bytes().windows(8).map(|window| str::from_utf8(window).unwrap()) {
            assert!(!shown.contains(window), "{window} of a key in:\n{shown}");
        }
    }
}

fn roots(text: &str) -> impl Iterator<Item = &str> {
    text.split("sealsess_k1_").skip(1).map(|rest| &rest[..43])
}

#[test]
fn of_rotations_at_once_one_adds_a_key_and_the_others_find_it_or_give_way() {
    for round in 0..10 {
        let (place, _) = Place::with_ring("at-once");
        let start = || {
            let mut command = place.command();
            command.args(["keys", "rotate"]).stdout(Stdio::piped()).stderr(Stdio::piped());
            command.spawn().unwrap()
        };

        let children: Vec<Child> = (0..8).map(|_| start()).collect();
        let ran: Vec<Ran> =
            children.into_iter().map(|child| child.wait_with_output().unwrap().into()).collect();

        let added = ran.iter().filter(|ran| ran.out.contains("added ")).count();
        assert_eq!(added, 1, "round {round}: {ran:?}");
        for ran in &ran {
            let gave_way = ran.status == 2 && ran.err.contains("of this file is under way");
            assert!(ran.status == 0 || gave_way, "round {round}: {ran:?}");
        }
        assert_eq!(place.ring().status(std::time::SystemTime::now()).len(), 2);
        assert_eq!(place.names(), ["session.keys"]);
    }
}

#[test]
fn a_rotation_gives_way_to_one_that_is_under_way() {
    let (place, _) = Place::with_ring("under-way");
    let before = place.text();
    let other = File::create(place.path().join(TEMP)).unwrap();
    other.try_lock().unwrap();

    let ran = place.run(&["keys", "rotate"]);
    assert_eq!(ran.status, 2);
    assert_eq!(
        ran.err,
        "sealed-session: session.keys: another rotation of this file is under way: try again\n"
    );
    assert_eq!(place.text(), before);
    assert_eq!(place.names(), [TEMP, "session.keys"]);

    drop(other);
    assert_eq!(place.run(&["keys", "rotate"]).status, 0);
    assert_eq!(place.names(), ["session.keys"]);
}

#[test]
fn what_a_killed_run_left_is_used_again_and_never_left_behind() {
    let (place, _) = Place::with_ring("leftover");
    place.write(TEMP, &"sealsess_k1_left_over\n".repeat(100), 0o644);

    assert_eq!(place.run(&["keys", "rotate"]).status, 0);

    assert_eq!(place.ring().status(std::time::SystemTime::now()).len(), 2);
    assert_eq!(mode(&place, "session.keys"), 0o600);
    assert_eq!(place.names(), ["session.keys"]);
}

#[test]
fn a_temporary_file_of_somebody_else_is_not_written_to() {
    for args in [&["keys", "rotate"][..], &["keys", "new", "other.keys"]] {
        let (place, _) = Place::with_ring("planted");
        let before = place.text();
        let temp = if args[1] == "new" { ".other.keys.tmp" } else { TEMP };
        place.write(temp, "", 0o666);
        // As in /tmp, where a stranger can make the file first, and read along. Only root can give
        // a file away; anybody else is shown a directory that is not safe to begin with.
        let given = chown(place.path().join(temp), Some(65_534), None).is_ok();
        let shared = if given { 0o1777 } else { 0o777 };
        fs::set_permissions(place.path(), fs::Permissions::from_mode(shared)).unwrap();

        let ran = place.run(args);

        assert_eq!(ran.status, 2, "{ran:?}");
        assert!(ran.err.contains("may write the directory"), "{ran:?}");
        assert_eq!(place.text(), before);
        let planted = fs::read_to_string(place.path().join(temp)).unwrap_or_default();
        assert_eq!(planted, "");
    }
}

#[test]
fn a_key_in_the_wrong_place_is_not_repeated() {
    let (place, _) = Place::with_ring("pasted");
    let key = place.text().lines().nth(1).unwrap().split(' ').next().unwrap().to_owned();
    for args in [
        &["keys", "rotate", "--revoke", &key][..],
        &["keys", "list", &key],
        &["keys", "check", &key],
        &["keys", &key],
        &["inspect", "--keys", &key, "--realm", "shop"],
    ] {
        let ran = place.run(args);

        assert_eq!(ran.status, 2, "{ran:?}");
        assert!(!ran.err.contains(&key[12..30]) && !ran.out.contains(&key[12..30]), "{ran:?}");
    }
}

#[test]
fn a_new_file_that_was_put_in_place_by_a_killed_run_is_not_written_to() {
    for args in [&["keys", "rotate"][..], &["keys", "new"]] {
        let (place, id) = Place::with_ring("linked");
        let before = place.text();
        fs::hard_link(place.path().join("session.keys"), place.path().join(TEMP)).unwrap();

        let ran = place.run(args);

        assert_eq!(ran.status, if args[1] == "new" { 2 } else { 0 }, "{ran:?}");
        assert_eq!(place.id(KeyState::Active), id);
        assert_eq!(place.text() == before, args[1] == "new");
        assert_eq!(place.names(), ["session.keys"]);
    }
}

#[test]
fn a_rotation_keeps_mode_owner_comments_and_the_lines_that_need_not_change() {
    let (place, _) = Place::with_ring("kept");
    let line = place.text().lines().nth(1).unwrap().to_owned();
    let path = place.path().join("session.keys");
    place.write("session.keys", &format!("# ours\r\n\n  {line} \r\n# end"), 0o640);
    if fs::metadata(&path).unwrap().uid() == 0 {
        chown(&path, Some(12_345), Some(12_346)).unwrap();
    }
    let rights = || {
        let found = fs::metadata(&path).unwrap();
        (found.mode(), found.uid(), found.gid())
    };
    let before = rights();

    assert_eq!(place.run(&["keys", "rotate"]).status, 0);

    assert_eq!(rights(), before);
    let text = place.text();
    let lines: Vec<&str> = text.split('\n').collect();
    assert_eq!((lines[0], lines[1], lines[3]), ("# ours\r", "", "# end"), "{text}");
    assert!(lines[2].starts_with(&format!("  {line} open_until=")), "{text}");
    assert!(lines[2].ends_with("Z\r"), "{text}");
    assert!(lines[4].starts_with("sealsess_k1_"), "{text}");
    assert_eq!((lines[5], lines.len()), ("", 6), "{text}");

    let id = place.id(KeyState::Pending);
    assert_eq!(place.run(&["keys", "rotate", "--revoke", &id]).status, 0);
    let text = place.text();
    let lines: Vec<&str> = text.split('\n').collect();
    assert_eq!((lines[0], lines[1], lines[3]), ("# ours\r", "", "# end"), "{text}");
    assert!(lines[4].ends_with(" revoked"), "{text}");
}

#[test]
fn a_ring_with_semicolons_stays_one_line_but_for_the_new_key() {
    let (place, _) = Place::with_ring("semicolons");
    let line = place.text().lines().nth(1).unwrap().to_owned();
    place.write("session.keys", &format!("# ours; {line};"), 0o600);

    assert_eq!(place.run(&["keys", "rotate"]).status, 0);

    let text = place.text();
    assert!(text.starts_with(&format!("# ours; {line} open_until=")), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert_eq!(place.ring().status(std::time::SystemTime::now()).len(), 2);
}

#[test]
fn comments_that_leave_no_room_for_a_key_give_way() {
    let (place, _) = Place::with_ring("full");
    let comments = "# ours\n".repeat(64 * 1024 / 7 - 60);
    place.write("session.keys", &format!("{comments}{}", place.text()), 0o600);
    assert_eq!(place.run(&["keys", "rotate"]).status, 0);
    assert!(place.text().contains("# ours"), "there was room");

    let rest = 64 * 1024 - place.text().len() - 3;
    let filled = format!("{}# {}", place.text(), "x".repeat(rest));
    place.write("session.keys", &filled, 0o600);
    let id = place.id(KeyState::Pending);
    assert_eq!(place.run(&["keys", "rotate", "--revoke", &id]).status, 0);

    assert!(!place.text().contains("# ours"));
    assert_eq!(place.id(KeyState::Revoked), id);
}

#[test]
fn a_file_that_others_may_replace_is_not_written() {
    let refused = |place: &Place, args: &[&str], what: &str| {
        let names = place.names();
        let ran = place.run(args);
        assert_eq!(ran.status, 2, "{ran:?}");
        assert!(ran.err.contains(what), "{ran:?}");
        assert_eq!(place.names(), names);
    };
    let (place, _) = Place::with_ring("rights");
    let path = place.path().join("session.keys");
    let before = place.text();
    symlink("session.keys", place.path().join("link.keys")).unwrap();
    symlink("nowhere", place.path().join("dangling.keys")).unwrap();

    refused(&place, &["keys", "rotate", "link.keys"], "link.keys: is a link: name the file itself");
    refused(&place, &["keys", "new", "dangling.keys"], "dangling.keys: it exists");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o620)).unwrap();
    refused(&place, &["keys", "rotate"], "session.keys: its group or others may write this file");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o775)).unwrap();
    refused(
        &place,
        &["keys", "rotate"],
        "session.keys: its group or others may write the directory",
    );
    refused(
        &place,
        &["keys", "new", "n.keys"],
        "n.keys: its group or others may write the directory",
    );
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();

    // Where the temporary file would be.
    symlink("link.keys", place.path().join(TEMP)).unwrap();
    refused(&place, &["keys", "rotate"], ".session.keys.tmp: not a file: remove it");
    assert_eq!(place.text(), before);
}

#[test]
fn a_new_file_is_readable_to_its_owner_only() {
    let place = Place::new("new");
    place.write(TEMP, "what a killed run left", 0o644);

    assert_eq!(place.run(&["keys", "new"]).status, 0);

    assert_eq!(mode(&place, "session.keys"), 0o600);
    assert_eq!(place.names(), ["session.keys"]);
}

#[test]
fn a_file_that_all_may_read_is_a_finding() {
    let (place, _) = Place::with_ring("readable");
    assert_eq!(place.run(&["keys", "check"]).status, 0);
    let path = place.path().join("session.keys");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();

    let ran = place.run(&["keys", "check"]);

    assert_eq!(ran.status, 1);
    let text = "wrong: session.keys: all users may read this file: chmod 600 or 640\n";
    assert_eq!(ran.out, text);
}

#[test]
fn a_configuration_says_where_the_ring_is_and_how_it_rotates() {
    let (place, _) = Place::with_ring("config");
    fs::create_dir(place.path().join("keys")).unwrap();
    fs::copy(place.path().join("session.keys"), place.path().join("keys/one.keys")).unwrap();
    let config = |source: &str| {
        format!("realm = \"shop\"\nkeys = {{ {source}, activation_delay = \"2h\" }}\n")
    };
    place.write("file.toml", &config("source = \"file\", path = \"session.keys\""), 0o600);
    place.write("folder.toml", &config("source = \"directory\", path = \"keys\""), 0o600);

    let list = place.run(&["keys", "list", "--config", "folder.toml"]);
    assert_eq!((list.status, list.out), (0, place.run(&["keys", "list"]).out));
    let refused = place.run(&["keys", "rotate", "--config", "folder.toml"]);
    assert_eq!(refused.status, 2);
    assert!(refused.err.contains("rotate the ring where it is kept"), "{refused:?}");
    let rotated = place.run(&["keys", "rotate", "--config", "file.toml"]);
    assert!(rotated.out.contains("(in 2h)\n"), "{rotated:?}");

    fs::set_permissions(place.path().join("keys"), fs::Permissions::from_mode(0o755)).unwrap();
    let args = ["keys", "rotate", "keys/one.keys", "--config", "file.toml"];
    let rotated = place.run(&[&args[..], &["--activation-delay", "1h"]].concat());
    assert!(rotated.out.contains("(in 1h)\n"), "{rotated:?}");
}

#[test]
fn a_reader_who_goes_away_changes_no_exit_status() {
    let (place, _) = Place::with_ring("pipe");
    for (args, status) in [
        (&["keys", "list"][..], 0),
        (&["keys", "rotate"], 0),
        (&["man"], 0),
        (&["completions", "bash"], 0),
        (&["--help"], 0),
        (&["keys", "list", "missing.keys"], 2),
    ] {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);

        let ran = Ran::of(place.command().args(args).stdout(writer));

        assert_eq!(ran.status, status, "{args:?}: {ran:?}");
        assert!(!ran.err.contains("panic"), "{ran:?}");
    }
}

#[test]
fn states_have_colours_only_where_they_are_wanted() {
    let (place, _) = Place::with_ring("colours");
    let list = |variables: &[&str]| {
        let mut command = place.command();
        command.args(["keys", "list"]).env_remove("NO_COLOR").env_remove("CLICOLOR_FORCE");
        command.envs(variables.iter().map(|name| (name, "1")));
        Ran::of(&mut command).out
    };

    assert!(list(&["CLICOLOR_FORCE"]).contains("\u{1b}[32mactive"));
    assert!(!list(&[]).contains('\u{1b}'));
    assert!(!list(&["NO_COLOR"]).contains('\u{1b}'));
}

#[test]
fn there_are_manual_pages_and_completions_for_each_shell() {
    let place = Place::new("papers");
    let man = place.run(&["man"]);
    assert_eq!(man.status, 0);
    for page in [
        "sealed-session",
        "sealed-session-keys-rotate",
        "sealed-session-config-check",
        "sealed-session-revoke",
        "sealed-session-revocations-follow",
    ] {
        assert!(man.out.contains(&format!(".TH {page} ")), "{page}:\n{}", man.out);
    }
    assert!(!man.out.contains("misplaced"));
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = place.run(&["completions", shell]);
        assert_eq!(script.status, 0);
        for word in ["activation-delay", "everyone", "follow"] {
            assert!(script.out.contains(word), "{shell}: {word}");
        }
    }
}

#[test]
fn a_bearer_token_is_inspected_as_one() {
    let (place, _) = Place::with_ring("bearer");
    let sessions = SessionManager::builder("shop", place.ring()).build().unwrap();
    let token = sessions.bearer::<Map>().issue("alice").unwrap();
    let args = ["inspect", "--keys", "session.keys", "--realm", "shop", "--bearer"];

    for shape in
        [token.clone(), format!("Bearer {token}"), format!("authorization: bearer {token}")]
    {
        let ran = place.feed(&args, shape.as_bytes());
        assert_eq!(ran.status, 0, "{ran:?}");
        assert!(ran.out.contains("subject          alice\n"), "{ran:?}");
    }
    let as_cookie = place.feed(&args[..5], token.as_bytes());
    assert_eq!(as_cookie.status, 1, "{as_cookie:?}");
    assert!(as_cookie.out.starts_with("accepted         no: the token is not authentic\n"));
}

fn mode(place: &Place, name: &str) -> u32 {
    fs::metadata(place.path().join(name)).unwrap().mode() & 0o7777
}
