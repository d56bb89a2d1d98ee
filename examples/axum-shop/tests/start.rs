//! How the shop starts and stops: its key file, its settings, its log.

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use common::{Server, command, directory, refused};
use serde_json::json;

#[test]
fn a_restart_keeps_sessions() {
    let server = Server::start("restart");
    let mut visitor = server.browser();
    visitor.post("/cart", &[("item", "tea")]);
    visitor.sign_in("alice", "wonderland");
    let before = visitor.whoami();
    let keys = fs::read(server.data.join("session.keys")).unwrap();
    let data = server.data.clone();
    let (status, _) = server.stop();
    assert!(status.success());

    let server = Server::start_in(&data);

    assert_eq!(visitor.at(&server).whoami(), before);
    assert_eq!(fs::read(data.join("session.keys")).unwrap(), keys);
}

#[cfg(unix)]
#[test]
fn only_its_owner_can_read_the_key_file() {
    use std::os::unix::fs::PermissionsExt;

    let server = Server::start("mode");

    let mode = fs::metadata(server.data.join("session.keys")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_broken_key_file_stops_the_start_and_is_left_alone() {
    let data = directory("broken");
    let path = data.join("session.keys");
    fs::create_dir_all(&data).unwrap();

    for text in ["", "sealsess_k1_short", "\u{0}\u{1}"] {
        fs::write(&path, text).unwrap();
        let told = refused(command(&data));
        assert!(told.contains(path.to_str().unwrap()), "{told}");
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
    fs::write(&path, b"\xff").unwrap();
    assert!(refused(command(&data)).contains(path.to_str().unwrap()));
}

#[cfg(unix)]
#[test]
fn a_key_file_that_others_may_write_stops_the_start() {
    use std::os::unix::fs::PermissionsExt;

    let server = Server::start("writable");
    let path = server.data.join("session.keys");
    let data = server.data.clone();
    server.stop();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o620)).unwrap();

    let told = refused(command(&data));

    assert!(told.contains(path.to_str().unwrap()) && told.contains("chmod 600"), "{told}");
}

#[test]
fn a_directory_that_cannot_be_made_stops_the_start() {
    let data = directory("file");
    fs::create_dir_all(&data).unwrap();
    fs::write(data.join("in-the-way"), "").unwrap();

    let told = refused(command(&data.join("in-the-way")));

    assert!(told.contains("in-the-way/session.keys"), "{told}");
}

#[test]
fn an_address_that_is_none_or_taken_stops_the_start() {
    let server = Server::start("address");

    for addr in ["nonsense", "127.0.0.1:99999", server.addr.as_str()] {
        let mut command = command(&server.data);
        command.env("ADDR", addr);
        let told = refused(command);
        assert!(told.contains(&format!("ADDR={addr}")), "{told}");
    }
}

#[test]
fn a_lost_key_file_locks_nobody_out() {
    let server = Server::start("lost");
    let mut visitor = server.browser();
    visitor.sign_in("alice", "wonderland");
    let data = server.data.clone();
    server.stop();
    fs::remove_file(data.join("session.keys")).unwrap();

    let server = Server::start_in(&data);
    let mut visitor = visitor.at(&server);

    assert_eq!(visitor.subject(), None);
    visitor.sign_in("alice", "wonderland").assert_redirect();
    assert_eq!(visitor.subject().as_deref(), Some("alice"));
}

#[test]
fn plain_http_gets_a_cookie_without_secure_only_when_asked_for() {
    let data = directory("insecure");
    let mut command = command(&data);
    command.env("INSECURE_HTTP_COOKIE", "1");
    let server = Server::spawn(command, &data);
    let mut visitor = server.browser();

    let answer = visitor.get("/");

    let set_cookie = answer.header("set-cookie").unwrap();
    assert!(set_cookie.starts_with("id=") && !set_cookie.contains("Secure"));
    visitor.sign_in("alice", "wonderland").assert_redirect();
    assert_eq!(visitor.subject().as_deref(), Some("alice"));
}

#[test]
fn a_request_that_never_ends_does_not_keep_the_shop_from_stopping() {
    let server = Server::start("stuck");
    let mut stuck = TcpStream::connect(&server.addr).unwrap();
    stuck.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let head = "POST /cart HTTP/1.1\r\nHost: shop\r\nContent-Length: 10\r\n";
    let form = "Content-Type: application/x-www-form-urlencoded\r\nExpect: 100-continue\r\n\r\n";
    stuck.write_all(format!("{head}{form}").as_bytes()).unwrap();
    // Now the shop is waiting for the form.
    let mut answer = [0; 12];
    stuck.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 100");

    let (status, _) = server.stop();

    assert!(status.success());
}

#[test]
fn the_log_tells_what_happened_and_nothing_of_what_was_sent() {
    let server = Server::start("log");
    let mut visitor = server.browser();
    visitor.post("/cart", &[("item", "secret tea")]);
    visitor.sign_in("alice", "wonderland");
    assert_eq!(visitor.whoami()["data"], json!({ "cart": ["secret tea"] }));
    let cookie = visitor.cookies.values().next().unwrap().clone();

    let (_, log) = server.stop();

    assert!(log.contains("signed in"), "{log}");
    for word in ["secret tea", "alice", "wonderland", "sealsess", cookie.as_str()] {
        assert!(!log.contains(word), "{word}");
    }
}
