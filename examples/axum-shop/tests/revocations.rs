//! The sessions that were ended early, in the database that shops on one machine share.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "common/command.rs"]
mod command;
mod common;
#[path = "../../../tests/common/folder.rs"]
mod folder;

use std::fs;
use std::process::Command;

use command::operate;
use common::{
    CONFIG, SHOP, Server, command_of, configure_with_keys, configured_command, directory,
    eventually, refused,
};
use folder::Folder;
use sealed_session::KeyRing;

const DATABASE: [&str; 3] = ["revocations.db", "revocations.db-wal", "revocations.db-shm"];

#[test]
fn a_session_that_was_signed_out_stays_so_when_the_shop_is_killed_and_started_again() {
    let server = Server::start("revoked-killed");
    let (mut leaving, mut staying) = (server.browser(), server.browser());
    leaving.sign_in("alice", "wonderland");
    staying.sign_in("alice", "wonderland");
    let copy = leaving.clone();
    leaving.post("/sign-out", &[]).assert_redirect();
    let data = server.data.clone();
    server.kill();

    let server = Server::start_in(&data);

    assert!(!server.knows(&copy));
    assert!(server.knows(&staying), "nobody else is signed out by a restart");
}

#[test]
fn what_one_shop_ends_the_other_with_the_same_data_refuses() {
    let one = Server::start("revoked-two");
    let other = Server::start_in(&one.data);
    let (mut leaving, mut staying) = (one.browser(), other.browser());
    leaving.sign_in("alice", "wonderland");
    staying.sign_in("bob", "builder");
    let copy = leaving.clone();
    assert!(other.knows(&copy));

    leaving.post("/sign-out", &[]).assert_redirect();

    assert!(eventually(|| !other.knows(&copy)), "the other shop does not learn of it");
    let mut phone = other.browser();
    phone.sign_in("alice", "wonderland");
    assert!(one.knows(&phone) && one.knows(&staying));
    staying.post("/sign-out-everywhere", &[]).assert_redirect();
    assert!(eventually(|| !one.knows(&staying)));
    assert!(one.knows(&phone));
}

#[test]
fn an_account_is_not_shown_to_a_session_that_another_shop_has_ended_just_now() {
    let one = Server::start("revoked-strict");
    let other = Server::start_in(&one.data);

    for _ in 0..20 {
        let mut visitor = one.browser();
        visitor.sign_in("alice", "wonderland");
        let copy = visitor.clone();
        let page = other.asked("/account", &copy);
        assert!(page.status == 200 && page.body.contains("<strong id=\"who\">alice</strong>"));

        visitor.post("/sign-out", &[]).assert_redirect();

        // At once, without waiting for the other to hear of it.
        let page = other.asked("/account", &copy);
        assert_eq!(page.status, 401);
        assert!(page.body.contains("You are not signed in."));
    }
}

#[test]
fn the_command_ends_sessions_while_the_shop_runs() {
    let data = directory("revoked-by-hand");
    let database = data.join("list.db");
    let table =
        format!("[session.revocation]\nbackend = \"sqlite\"\npath = '{}'", database.display());
    configure_with_keys(&data, &table);
    let server = Server::spawn(configured_command(&data), &data);
    let (mut alice, mut bob) = (server.browser(), server.browser());
    alice.sign_in("alice", "wonderland");
    bob.sign_in("bob", "builder");

    operate(&["revoke", "--subject", "alice"], &data.join(CONFIG));

    assert!(eventually(|| !server.knows(&alice)), "the shop does not learn of it");
    assert!(server.knows(&bob));
    alice.sign_in("alice", "wonderland").assert_redirect();
    assert!(server.knows(&alice));
    assert!(!data.join("revocations.db").exists(), "the settings name another place");
}

#[test]
fn settings_without_a_table_for_it_leave_the_shop_its_own_database() {
    let data = directory("revoked-own");
    configure_with_keys(&data, "");
    let server = Server::spawn(configured_command(&data), &data);
    let mut visitor = server.browser();
    visitor.sign_in("alice", "wonderland");
    let copy = visitor.clone();
    visitor.post("/sign-out", &[]).assert_redirect();
    server.kill();

    let server = Server::spawn(configured_command(&data), &data);

    assert!(!server.knows(&copy));
    assert!(data.join("revocations.db").exists());
}

#[test]
fn a_database_that_is_deleted_while_the_shop_runs_signs_nobody_out_and_revives_nobody() {
    for files in [&DATABASE[..1], &DATABASE] {
        let server = Server::start("revoked-deleted");
        let (mut leaving, mut staying) = (server.browser(), server.browser());
        leaving.sign_in("alice", "wonderland");
        staying.sign_in("alice", "wonderland");
        let copy = leaving.clone();
        leaving.post("/sign-out", &[]).assert_redirect();
        let seen = server.log().len();

        for file in files {
            fs::remove_file(server.data.join(file)).unwrap();
        }

        // Asked all the time until the shop has made the database anew.
        let healed = || {
            assert!(server.knows(&staying) && !server.knows(&copy));
            server.log()[seen..].contains("revocation log given back")
        };
        assert!(eventually(healed), "not given back:\n{}", server.log());
        assert!(server.knows(&staying) && !server.knows(&copy));
        // What it gave back is all that another shop knows.
        let other = Server::start_in(&server.data);
        assert!(other.knows(&staying) && !other.knows(&copy));
    }
}

#[cfg(unix)]
#[test]
fn a_database_in_a_directory_that_cannot_be_written_stops_the_start_and_says_what_to_do() {
    use std::os::unix::fs::{MetadataExt, chown};
    use std::os::unix::process::CommandExt;

    // Where any user can start it: root may write everywhere.
    let folder = Folder::new();
    let (program, data) = (folder.at("program"), folder.directory("data"));
    // By another process: one that a test starts meanwhile would hold the file open for writing.
    assert!(Command::new("cp").arg(SHOP).arg(&program).status().unwrap().success());
    let keys = folder.file("data/session.keys", KeyRing::generate().unwrap().expose_text());
    let mut command = command_of(&program, &data);
    if fs::metadata(&data).unwrap().uid() == 0 {
        for path in [&data, &keys] {
            chown(path, Some(65_534), Some(65_534)).unwrap();
        }
        command.uid(65_534).gid(65_534);
    }
    folder.mode(0o555, "data");

    let told = refused(command);

    folder.mode(0o755, "data");
    assert!(told.contains(data.join("revocations.db").to_str().unwrap()), "{told}");
    assert!(told.contains("the user of this process has to be able to write the file"), "{told}");
}
