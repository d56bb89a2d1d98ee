//! Shops as on several machines: they share nothing but their keys, and a Redis or a `PostgreSQL`
//! that the settings name.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]
#![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "a test may panic")]

mod common;
#[path = "../../../tests/common/folder.rs"]
mod folder;
#[path = "../../../tests/common/postgres_server.rs"]
mod postgres_server;
#[path = "../../../tests/common/redis_server.rs"]
mod redis_server;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::{
    Browser, CONFIG, Server, configure_with_keys, configured_command, directory, eventually,
    refused,
};
use redis_server::RedisServer;

#[test]
fn what_one_of_four_shops_ends_all_others_refuse_by_redis() {
    let redis = RedisServer::start();

    refused_by_all("shared-redis", "redis", &redis.url());

    let facts: usize = redis.command("XLEN {sealed-session:axum-shop}:log");
    assert!(facts > 0, "the facts are somewhere else");
}

#[test]
fn what_one_of_four_shops_ends_all_others_refuse_by_postgres() {
    let postgres = postgres_server::Server::start();

    refused_by_all("shared-postgres", "postgres", &postgres.url("postgres"));

    assert_ne!(postgres.psql("select count(*) from sealed_session_facts"), "0");
}

fn refused_by_all(name: &str, backend: &str, url: &str) {
    let shops = shops(name, backend, url, "");
    let mut staying = shops[3].browser();
    staying.sign_in("bob", "builder");
    for (at, shop) in shops.iter().enumerate() {
        let (mut desk, mut phone) = (shop.browser(), shops[(at + 1) % 4].browser());
        desk.sign_in("alice", "wonderland");
        phone.sign_in("alice", "wonderland");
        let copy = desk.clone();
        assert!(shops.iter().all(|shop| shop.knows(&copy) && shop.knows(&phone)));

        desk.post("/sign-out", &[]).assert_redirect();

        assert!(!shop.knows(&copy));
        assert!(eventually(|| !known_anywhere(&shops, &copy)), "not all shops learn of it");
        assert!(shops.iter().all(|shop| shop.knows(&phone)));
        phone.at(shop).post("/sign-out-everywhere", &[]).assert_redirect();
        assert!(eventually(|| !known_anywhere(&shops, &phone)), "not all shops learn of it");
    }
    assert!(shops.iter().all(|shop| shop.knows(&staying)));
    // A new one learns all of it when it starts.
    let copy = staying.clone();
    staying.post("/sign-out", &[]).assert_redirect();
    assert!(shops.iter().all(|shop| !shop.data.exists()), "a shop keeps something of its own");
    let settings = shops[0].data.parent().unwrap().to_owned();
    shops.into_iter().for_each(Server::kill);
    assert!(!start(&settings, 5, url).knows(&copy));
}

#[test]
fn a_redis_that_freezes_costs_pages_with_a_session_and_signs_nobody_out() {
    let redis = RedisServer::start();
    let shops = shops("shared-frozen", "redis", &redis.url(), "max_staleness = \"2s\"");
    let (mut leaving, mut staying) = (shops[0].browser(), shops[1].browser());
    leaving.sign_in("alice", "wonderland");
    staying.sign_in("alice", "wonderland");
    let copy = leaving.clone();
    leaving.post("/sign-out", &[]).assert_redirect();
    assert!(eventually(|| !known_anywhere(&shops, &copy)));
    let csrf = staying.get("/").csrf();
    let before = staying.clone();

    redis.freeze();

    for shop in &shops {
        let stale = || match shop.asked("/whoami", &staying).status {
            200 => false,
            503 => true,
            status => panic!("{status}"),
        };
        assert!(eventually(stale), "it goes on as if it knew everything");
        for path in ["/", "/whoami", "/account"] {
            let answer = shop.asked(path, &staying);
            assert_eq!((answer.status, answer.header("set-cookie")), (503, None), "{path}");
            assert_eq!(answer.header("cache-control"), Some("no-store"));
            assert!(answer.body.contains("Nothing is lost"), "{}", answer.body);
        }
        let form = [("csrf", csrf.as_str()), ("item", "tea")];
        let answer = staying.at(shop).post_bare("/cart", &[], &form);
        assert_eq!((answer.status, answer.header("set-cookie")), (503, None));
        // What is known to be over stays so.
        assert_eq!(shop.asked("/whoami", &copy).status, 200);
        assert!(!shop.knows(&copy));
        for path in ["/style.css", "/nowhere"] {
            let answer = shop.asked(path, &staying);
            let status = if path == "/style.css" { 200 } else { 404 };
            assert_eq!((answer.status, answer.header("set-cookie")), (status, None), "{path}");
        }
    }
    assert_eq!(staying.cookies, before.cookies);

    redis.thaw();

    for shop in &shops {
        assert!(
            eventually(|| shop.asked("/whoami", &staying).status == 200),
            "it does not recover"
        );
        assert!(shop.knows(&staying) && !shop.knows(&copy));
        assert_eq!(shop.asked("/account", &staying).status, 200);
    }
    let (mut phone, mut visitor) = (shops[2].browser(), staying.at(&shops[3]));
    phone.sign_in("alice", "wonderland");
    visitor.post("/cart", &[("item", "tea")]).assert_redirect();
    visitor.post("/sign-out", &[]).assert_redirect();
    assert!(eventually(|| !known_anywhere(&shops, &staying)));
    assert!(shops.iter().all(|shop| shop.knows(&phone)));
}

#[test]
fn an_account_is_not_shown_while_redis_does_not_answer_and_all_else_goes_on_for_a_time() {
    let redis = RedisServer::start();
    let shops = shops("shared-strict", "redis", &redis.url(), "max_staleness = \"1h\"");
    let mut visitor = shops[0].browser();
    visitor.sign_in("alice", "wonderland");
    assert_eq!(shops[1].asked("/account", &visitor).status, 200);

    redis.freeze();

    for shop in &shops {
        let answer = shop.asked("/account", &visitor);
        assert_eq!((answer.status, answer.header("set-cookie")), (503, None));
        assert!(shop.knows(&visitor), "that is still fresh");
    }
    redis.thaw();
    for shop in &shops {
        assert!(eventually(|| shop.asked("/account", &visitor).status == 200));
    }
}

#[test]
fn a_redis_that_may_throw_the_list_away_stops_the_start() {
    let redis = RedisServer::with(&["--maxmemory-policy allkeys-lru"]);
    let data = prepare("shared-evicting", "redis", "");

    let told = refused(command(&data, &redis.url()));

    assert!(told.contains(data.join(CONFIG).to_str().unwrap()), "{told}");
    assert!(told.contains("allkeys-lru") && told.contains("noeviction"), "{told}");
}

#[test]
fn an_address_that_no_variable_holds_stops_the_start_with_its_name() {
    let data = prepare("shared-no-variable", "postgres", "");
    let mut command = command(&data, "");
    command.env_remove(VARIABLE);

    let told = refused(command);

    assert!(told.contains(VARIABLE) && told.contains("postgres://"), "{told}");
}

fn known_anywhere(shops: &[Server], visitor: &Browser) -> bool {
    shops.iter().any(|shop| shop.knows(visitor))
}

/// Four shops, with nothing in common but their settings and the keys.
fn shops(name: &str, backend: &str, url: &str, more: &str) -> Vec<Server> {
    let settings = prepare(name, backend, more);
    (1..=4).map(|number| start(&settings, number, url)).collect()
}

/// The directory with the settings and the keys.
fn prepare(name: &str, backend: &str, more: &str) -> PathBuf {
    let settings = directory(name);
    let address = format!("backend = \"{backend}\"\nurl_variable = \"{VARIABLE}\"");
    configure_with_keys(&settings, &format!("[session.revocation]\n{address}\n{more}"));
    settings
}

fn start(settings: &Path, number: usize, url: &str) -> Server {
    let data = settings.join(format!("shop-{number}"));
    let mut command = command(settings, url);
    command.env("DATA", &data);
    Server::spawn(command, &data)
}

fn command(settings: &Path, url: &str) -> Command {
    let mut command = configured_command(settings);
    command.env(VARIABLE, url);
    command
}

const VARIABLE: &str = "SHOP_REVOCATIONS";
