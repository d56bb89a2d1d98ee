//! How the shop starts and stops: its key file, its settings, its log.

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, SystemTime};

use common::{
    CONFIG, KEYS, Server, command, command_under_umask, configure, configure_with_keys,
    configured_command, directory, refused,
};
use sealed_session::{KeyRing, Rotation};
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

#[cfg(unix)]
#[test]
fn a_first_start_passes_its_own_checks_under_any_umask() {
    use std::os::unix::fs::PermissionsExt;

    for umask in ["000", "002", "077"] {
        let data = directory("umask").join("made").join("by the shop");

        let server = Server::spawn(command_under_umask(umask, &data), &data);

        let mode = fs::metadata(&data).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "umask {umask}");
        let (status, log) = server.stop();
        assert!(status.success() && !log.contains("WARN"), "{log}");
    }
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

#[cfg(unix)]
#[test]
fn a_directory_that_others_may_write_stops_the_start() {
    use std::os::unix::fs::PermissionsExt;

    let server = Server::start("writable-directory");
    let data = server.data.clone();
    server.stop();
    fs::set_permissions(&data, fs::Permissions::from_mode(0o770)).unwrap();

    let told = refused(command(&data));

    assert!(told.contains(data.to_str().unwrap()) && told.contains("chmod 755"), "{told}");
}

#[cfg(unix)]
#[test]
fn a_key_file_that_others_may_read_is_told_in_the_log() {
    use std::os::unix::fs::PermissionsExt;

    let server = Server::start("readable");
    let (data, path) = (server.data.clone(), server.data.join("session.keys"));
    let (_, log) = server.stop();
    assert!(!log.contains("WARN"), "{log}");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();

    let server = Server::start_in(&data);

    server.await_log(0, "all users may read this file: chmod 600 or 640");
    assert!(server.log().contains("WARN"));
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
fn a_bad_line_of_the_ring_stops_the_start_with_its_file_and_number() {
    let data = directory("bad-line");
    configure(&data, "");
    let keys = data.join(KEYS);
    let ring = KeyRing::generate().unwrap().expose_text();
    let mistyped = ring.replace("sealsess_k1_", "sealsess_k1_x");
    let ends = format!("{} open_until=2020-01-01T00:00:00Z", ring.trim_end());

    for text in [&mistyped, &ends] {
        fs::write(&keys, text).unwrap();
        for command in [command(&data), configured_command(&data)] {
            let told = refused(command);
            assert!(told.contains(&format!("{}: line 2: ", keys.display())), "{told}");
            assert!(!told.contains("sealsess"), "{told}");
        }
    }
}

#[test]
fn a_key_file_that_the_settings_name_is_for_its_operator_to_make() {
    let data = directory("not-made");
    configure(&data, "");
    let keys = data.join(KEYS);

    let told = refused(configured_command(&data));

    let advice =
        format!("{}: not found: bring the file back, or make the first ring", keys.display());
    assert!(told.contains(&advice), "{told}");
    assert!(!keys.exists());
}

#[test]
fn settings_that_are_wrong_stop_the_start_with_file_and_place() {
    let data = directory("wrong");
    configure(&data, "poll_every = \"1h\"");
    fs::write(data.join(KEYS), KeyRing::generate().unwrap().expose_text()).unwrap();
    let config = data.join(CONFIG);
    let good = fs::read_to_string(&config).unwrap();

    for (text, place) in [
        (good.replace("poll_every", "polls_every"), "line 7"),
        (good.replace("1h", "often"), "line 7"),
        (good.replace("1h", "0s"), "keys.poll_every"),
        (good.replace("[session]", "[sessions]"), "`realm`"),
        ("realm = \"axum-shop\"".to_owned(), "`session`"),
    ] {
        fs::write(&config, text).unwrap();
        let told = refused(configured_command(&data));
        assert!(told.contains(config.to_str().unwrap()) && told.contains(place), "{told}");
    }
    fs::remove_file(&config).unwrap();
    assert!(refused(configured_command(&data)).contains(config.to_str().unwrap()));
}

#[test]
fn a_fault_in_the_line_of_a_password_does_not_show_it() {
    let data = directory("fault");
    configure_with_keys(
        &data,
        "[session.revocation]\nbackend = 'redis'\nurl = 'redis://:s3cret@a' x",
    );

    let told = refused(configured_command(&data));

    assert!(told.contains("line 9") && !told.contains("s3cret"), "{told}");
}

#[test]
fn settings_without_a_list_go_with_any_clock_skew() {
    let data = directory("skew");
    configure_with_keys(&data, "[session.policy]\nclock_skew = '30s'");

    let server = Server::spawn(configured_command(&data), &data);
    let mut visitor = server.browser();
    visitor.sign_in("alice", "wonderland");

    assert!(data.join("revocations.db").exists());
    assert_eq!(visitor.subject().as_deref(), Some("alice"));
}

#[cfg(unix)]
#[test]
fn a_hangup_reads_the_keys_at_once_and_keeps_those_that_are_good() {
    let data = directory("hangup");
    configure(&data, "poll_every = \"1h\"");
    let (keys, ring) = (data.join(KEYS), KeyRing::generate().unwrap());
    fs::write(&keys, ring.expose_text()).unwrap();
    let server = Server::spawn(configured_command(&data), &data);
    let mut visitor = server.browser();
    visitor.sign_in("alice", "wonderland");
    let rotated = ring.rotate(&Rotation::default(), SystemTime::now()).unwrap();
    let fingerprint = rotated.ring().fingerprint();
    fs::write(&keys, rotated.ring().expose_text()).unwrap();
    let before = server.log();
    assert!(!before.contains(&fingerprint), "{before}");

    server.signal("HUP");

    server.await_log(before.len(), &format!("SIGHUP: keys read ring=\"{fingerprint}\""));
    fs::write(&keys, "no ring").unwrap();
    let before = server.log().len();
    server.signal("HUP");
    server.await_log(before, "SIGHUP: keys not read");
    server.await_log(before, &format!("{}: line 1", keys.display()));
    assert_eq!(visitor.subject().as_deref(), Some("alice"));
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
