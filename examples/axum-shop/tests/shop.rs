//! What a visitor meets: signing in and out, the cart, and forms that are not the shop's own.

mod common;

use common::Server;
use serde_json::{Value, json};

const NAME: &str = "__Host-Http-id";

#[test]
fn a_new_visitor_is_nobody_and_gets_no_cookie_by_asking_who_they_are() {
    let server = Server::start("nobody");
    let mut visitor = server.browser();

    let answer = visitor.get("/whoami");

    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("set-cookie"), None);
    let body: Value = serde_json::from_str(&answer.body).unwrap();
    let nothing = json!({
        "subject": null, "id": null, "issued_at": null, "expires_at": null, "data": null,
    });
    assert_eq!(body, nothing);
}

#[test]
fn the_home_page_starts_an_anonymous_session_for_its_forms() {
    let server = Server::start("anonymous");
    let mut visitor = server.browser();

    let answer = visitor.get("/");

    assert_eq!(answer.status, 200);
    let set_cookie = answer.header("set-cookie").unwrap();
    assert!(set_cookie.starts_with(&format!("{NAME}=")));
    assert!(set_cookie.ends_with("; Path=/; Secure; HttpOnly; SameSite=Lax"));
    let who = visitor.whoami();
    assert_eq!((&who["subject"], &who["data"]), (&Value::Null, &json!({ "cart": [] })));
    assert_eq!(who["id"].as_str().map(str::len), Some(22));
}

#[test]
fn a_visitor_signs_in_and_keeps_the_cart() {
    let server = Server::start("sign-in");
    let mut visitor = server.browser();

    visitor.post("/cart", &[("item", "tea & <biscuits>")]).assert_redirect();
    let before = visitor.whoami();
    visitor.sign_in("alice", "wonderland").assert_redirect();

    let after = visitor.whoami();
    assert_eq!(after["subject"], "alice");
    assert_eq!(after["data"], json!({ "cart": ["tea & <biscuits>"] }));
    assert_ne!(after["id"], before["id"]);
    for at in ["issued_at", "expires_at"] {
        assert!(after[at].as_str().is_some_and(|time| time.ends_with('Z') && time.contains('T')));
    }
    let page = visitor.get("/").body;
    assert!(page.contains("<strong id=\"who\">alice</strong>"));
    assert!(page.contains("<li>tea &amp; &lt;biscuits&gt;</li>"));
    assert!(page.contains("You are signed in."));
    assert!(!visitor.get("/").body.contains("You are signed in."));
}

#[test]
fn remember_me_outlives_the_browser() {
    let server = Server::start("remember");
    let form = [("user", "bob"), ("password", "builder")];

    let short = server.browser().post("/sign-in", &form);
    let long = server.browser().post("/sign-in", &[&form[..], &[("remember", "on")]].concat());

    assert!(!short.header("set-cookie").unwrap().contains("Max-Age"));
    let seconds = long.header("set-cookie").unwrap().split("; Max-Age=").nth(1).unwrap();
    let seconds: u64 = seconds.split(';').next().unwrap().parse().unwrap();
    // Up to a minute more than 30 days: a revocation log that is new ends all sessions from before
    // now and `clock_skew`, so the first ones begin after that.
    assert!((2_591_000..=2_592_060).contains(&seconds), "{seconds}");
}

#[test]
fn a_wrong_password_is_told_on_the_next_page_once() {
    let server = Server::start("password");
    let mut visitor = server.browser();
    let told = "User name or password is wrong.";

    for (user, password) in [("alice", "builder"), ("alice", ""), ("mallory", "wonderland")] {
        visitor.sign_in(user, password).assert_redirect();
        assert_eq!(visitor.subject(), None);
        assert!(visitor.get("/").body.contains(told));
        assert!(!visitor.get("/").body.contains(told));
    }
}

#[test]
fn wrong_passwords_beyond_the_room_for_messages_are_still_answered() {
    let server = Server::start("passwords");
    let mut visitor = server.browser();
    let csrf = visitor.get("/").csrf();
    let form = [("csrf", csrf.as_str()), ("user", "alice"), ("password", "?")];

    for _ in 0..12 {
        visitor.post_bare("/sign-in", &[], &form).assert_redirect();
    }

    assert_eq!(visitor.get("/").body.matches("password is wrong").count(), 8);
}

#[test]
fn signing_out_kills_copies_of_the_cookie() {
    let server = Server::start("sign-out");
    let mut visitor = server.browser();
    visitor.sign_in("alice", "wonderland");
    visitor.get("/");
    let mut copy = visitor.clone();
    assert_eq!(copy.subject().as_deref(), Some("alice"));

    let answer = visitor.post("/sign-out", &[]);

    answer.assert_redirect();
    assert!(answer.header("set-cookie").unwrap().contains("Max-Age=0"));
    assert_eq!(visitor.whoami()["id"], Value::Null);
    assert_eq!(copy.subject(), None);
}

#[test]
fn signing_out_everywhere_ends_the_session_in_another_browser() {
    let server = Server::start("everywhere");
    let (mut desk, mut phone, mut other) = (server.browser(), server.browser(), server.browser());
    desk.sign_in("alice", "wonderland");
    phone.sign_in("alice", "wonderland");
    other.sign_in("bob", "builder");

    desk.post("/sign-out-everywhere", &[]).assert_redirect();

    assert_eq!(desk.subject(), None);
    assert_eq!(phone.subject(), None);
    assert_eq!(other.subject().as_deref(), Some("bob"));
    desk.sign_in("alice", "wonderland").assert_redirect();
    assert_eq!(desk.subject().as_deref(), Some("alice"));
}

#[test]
fn nobody_can_sign_out_everywhere_without_being_signed_in() {
    let server = Server::start("nowhere");

    let answer = server.browser().post("/sign-out-everywhere", &[]);

    assert_eq!(answer.status, 401);
    assert!(answer.body.contains("You are not signed in."));
}

#[test]
fn a_form_without_a_good_token_is_shown_again_with_its_input() {
    let server = Server::start("csrf");
    let mut visitor = server.browser();
    let foreign = server.browser().get("/").csrf();

    for csrf in ["", "no token", foreign.as_str()] {
        let cart = [("csrf", csrf), ("item", "\"green\" tea")];
        let answer = visitor.post_bare("/cart", &["Sec-Fetch-Site: same-origin"], &cart);
        assert_eq!(answer.status, 403);
        assert!(answer.body.contains("name=\"item\" value=\"&quot;green&quot; tea\""));
        assert!(answer.body.contains("role=\"alert\""));

        let form =
            [("csrf", csrf), ("user", "alice"), ("password", "wonderland"), ("remember", "on")];
        let answer = visitor.post_bare("/sign-in", &[], &form);
        assert_eq!(answer.status, 403);
        assert!(answer.body.contains("name=\"user\" value=\"alice\""));
        assert!(answer.body.contains("value=\"on\" checked"));
        assert_eq!(answer.body.matches("wonderland").count(), 1, "the hint, not the input");
    }
    let answer = visitor.post_bare("/cart", &[], &[("item", "green tea")]);
    assert_eq!(visitor.whoami()["data"], json!({ "cart": [] }));
    let again = [("csrf", answer.csrf()), ("item", "green tea".to_owned())];
    let again = again.each_ref().map(|(name, value)| (*name, value.as_str()));
    visitor.post_bare("/cart", &[], &again).assert_redirect();
    assert_eq!(visitor.whoami()["data"], json!({ "cart": ["green tea"] }));
}

#[test]
fn a_token_dies_at_sign_in() {
    let server = Server::start("csrf-sign-in");
    let mut visitor = server.browser();
    let csrf = visitor.get("/").csrf();
    visitor.sign_in("alice", "wonderland");

    let answer = visitor.post_bare("/sign-out", &[], &[("csrf", &csrf)]);

    assert_eq!(answer.status, 403);
    assert_eq!(visitor.subject().as_deref(), Some("alice"));
}

#[test]
fn what_another_site_sends_is_refused_whatever_its_token() {
    let server = Server::start("cross-site");
    let mut visitor = server.browser();
    visitor.sign_in("alice", "wonderland");
    let csrf = visitor.get("/").csrf();

    for header in ["Sec-Fetch-Site: cross-site", "Sec-Fetch-Site: same-site", "Origin: null"] {
        for path in ["/cart", "/sign-in", "/sign-out", "/sign-out-everywhere"] {
            let answer = visitor.post_bare(path, &[header], &[("csrf", &csrf), ("item", "tea")]);
            assert_eq!(answer.status, 403, "{header} {path}");
            assert!(answer.body.contains("Another site"));
            assert_eq!(answer.header("set-cookie"), None);
        }
    }
    let who = visitor.whoami();
    assert_eq!((&who["subject"], &who["data"]), (&json!("alice"), &json!({ "cart": [] })));
}

#[test]
fn a_full_cart_refuses_more_keeps_the_input_and_leaves_room_to_sign_in() {
    let server = Server::start("full");
    let mut visitor = server.browser();
    let item = "\"".repeat(199);
    let mut fitted = 0;

    let answer = loop {
        let answer = visitor.post("/cart", &[("item", &item)]);
        if answer.status != 303 {
            break answer;
        }
        fitted += 1;
        assert!(fitted < 100);
    };

    assert_eq!(answer.status, 413);
    assert!(answer.body.contains("The cart is full"));
    assert!(answer.body.contains(&format!("value=\"{}\"", "&quot;".repeat(199))));
    visitor.sign_in("alice", "wonderland").assert_redirect();
    assert_eq!(visitor.whoami()["data"]["cart"].as_array().unwrap().len(), fitted);
}

#[test]
fn an_item_has_at_most_two_hundred_characters_and_at_least_one() {
    let server = Server::start("item");
    let mut visitor = server.browser();

    visitor.post("/cart", &[("item", &"é".repeat(200))]).assert_redirect();
    assert_eq!(visitor.post("/cart", &[("item", &"é".repeat(201))]).status, 413);
    assert_eq!(visitor.post("/cart", &[("item", "  ")]).status, 422);
    assert_eq!(visitor.post("/cart", &[("item", &"x".repeat(20_000))]).status, 413);

    assert_eq!(visitor.whoami()["data"]["cart"].as_array().unwrap().len(), 1);
}

#[test]
fn every_answer_carries_the_security_headers() {
    let server = Server::start("headers");
    let mut visitor = server.browser();
    let refused = visitor.post_bare("/cart", &[], &[]);
    let answers = ["/", "/whoami", "/nowhere", "/cart"].map(|path| visitor.get(path));

    for answer in answers.iter().chain([&refused]) {
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.contains("default-src 'none'"));
        assert!(policy.contains("frame-ancestors 'none'"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("referrer-policy"), Some("same-origin"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
    let style = visitor.get("/style.css");
    assert_eq!(style.header("cache-control"), Some("max-age=3600"));
    assert_eq!((style.header("vary"), style.header("set-cookie")), (None, None));
}
