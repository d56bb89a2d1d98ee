//! The session cookie against RFC 6265bis and what browsers do: one test for each CK row of the
//! standards table in SECURITY.md.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../src/cookie/browser.rs"]
mod browser;

use std::fs;
use std::path::Path;
use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use proptest::sample::select;
use sealed_session::{
    Cookie, Error, ErrorKind, KeyRing, Limits, ManualClock, Map, Policy, SameSite, Session,
    SessionManager, SignIn,
};

const NAME: &str = "__Host-Http-id";
const DAY: Duration = Duration::from_secs(86_400);

fn manager(cookie: Cookie) -> Result<SessionManager, Error> {
    SessionManager::builder("shop", KeyRing::for_tests()?).cookie(cookie).build()
}

fn is_refused(cookie: Cookie) -> bool {
    manager(cookie).is_err_and(|error| error.kind() == ErrorKind::Config)
}

/// The `Set-Cookie` values of a request without a cookie in which `handle` ran.
fn answer(
    sessions: &SessionManager,
    handle: impl FnOnce(&Session<Map>) -> Result<(), Error>,
) -> Result<Vec<String>, Error> {
    let session: Session<Map> = sessions.open(None::<&str>)?;
    handle(&session)?;
    Ok(session.close()?.into_iter().collect())
}

/// The one `Set-Cookie` value of a plain sign-in.
fn sign_in(sessions: &SessionManager) -> Result<String, Error> {
    let headers = answer(sessions, |session| session.sign_in("alice").map(drop))?;
    assert_eq!(headers.len(), 1);
    Ok(headers.concat())
}

fn sign_out(sessions: &SessionManager) -> Result<String, Error> {
    let session: Session<Map> = sessions.open(Some(cookie_for(sessions, "alice")?))?;
    session.sign_out()?;
    let headers: Vec<String> = session.close()?.into_iter().collect();
    assert_eq!(headers.len(), 1);
    Ok(headers.concat())
}

/// `name=value` of a signed-in session.
fn cookie_for(sessions: &SessionManager, subject: &str) -> Result<String, Error> {
    sessions.cookie_for(SignIn::<Map>::new(subject))
}

/// Whom the `Cookie` fields sign in.
fn subject<H: AsRef<[u8]>>(
    sessions: &SessionManager,
    fields: impl IntoIterator<Item = H>,
) -> Result<Option<String>, Error> {
    let session: Session<Map> = sessions.open(fields)?;
    Ok(session.subject().map(|subject| subject.to_string()))
}

fn attributes(header: &str) -> Vec<&str> {
    header.split("; ").skip(1).collect()
}

fn max_age(header: &str) -> Option<&str> {
    attributes(header).into_iter().find_map(|attribute| attribute.strip_prefix("Max-Age="))
}

/// The header without the value and without Max-Age.
fn frame(header: &str) -> Vec<&str> {
    let name = header.split('=').take(1);
    name.chain(attributes(header).into_iter().filter(|a| !a.starts_with("Max-Age="))).collect()
}

/// Every shape of cookie that the builder lets through.
fn every_cookie() -> Vec<Cookie> {
    let names = ["__Host-Http-id", "__Host-id", "__Http-id", "__Secure-id", "id"];
    let mut cookies: Vec<Cookie> = names.into_iter().map(Cookie::new).collect();
    cookies.extend(["__Http-id", "__Secure-id"].map(|n| Cookie::new(n).domain("example.com")));
    cookies.extend(["/shop", "/a%20b/"].map(|path| Cookie::new("id").path(path)));
    cookies.extend([
        Cookie::default().same_site(SameSite::Strict),
        Cookie::default().same_site(SameSite::None),
        Cookie::default().same_site(SameSite::None).partitioned(),
        Cookie::insecure_http_cookie(),
        Cookie::insecure_http_cookie().path("/shop").same_site(SameSite::Strict),
        Cookie::insecure_http_cookie().domain("dev.example"),
    ]);
    cookies
}

/// A text of the repository, in which prose runs on as if it had no line ends.
fn prose(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let text = fs::read_to_string(&path).unwrap_or_default();
    text.split_whitespace().filter(|word| *word != "///").collect::<Vec<_>>().join(" ")
}

#[test]
fn ck_01_the_name_is_a_token_of_1_to_128_bytes() {
    for bad in ["", "a b", "a=b", "a;b", "a\"b", "a,b", "a\\b", "a/b", "é", "a\r\nb", "a\u{7F}"] {
        assert!(is_refused(Cookie::new(bad)), "{bad:?}");
    }
    assert!(is_refused(Cookie::new("n".repeat(129))));
    assert!(manager(Cookie::new("n".repeat(128))).is_ok());
    assert!(manager(Cookie::new("!#$%&'*+-.^_`|~09azAZ")).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn ck_02_every_value_matches_the_grammar(
        subject in "\\PC{1,40}",
        data in any::<String>(),
    ) {
        let sessions = manager(Cookie::default())?;
        let headers = answer(&sessions, |session| {
            session.insert("data", data)?;
            session.sign_in(subject).map(drop)
        })?;
        for header in headers {
            let (pair, _) = header.split_once("; ").unwrap();
            let value = pair.strip_prefix("__Host-Http-id=").unwrap();
            prop_assert!(!value.is_empty());
            prop_assert!(value.bytes().all(|b| b.is_ascii_graphic() && !b"\",;\\".contains(&b)));
            prop_assert_eq!(browser::store(&header).unwrap().value, value);
        }
    }
}

#[test]
fn ck_03_name_and_value_are_at_most_4096_octets() -> Result<(), Error> {
    let fill = |name_len: usize, len: usize| {
        let sessions = manager(Cookie::new("n".repeat(name_len)))?;
        answer(&sessions, |session| session.insert("fill", "x".repeat(len)).map(drop))
    };
    let refused =
        |result: Result<_, Error>| result.is_err_and(|error| error.kind() == ErrorKind::TooLarge);
    // The most data that fits beside a name of 30 bytes leaves a token of some length, and the
    // length of the name then takes the pair to the limit exactly.
    let len = (2_000..3_000).rev().find(|&len| !refused(fill(30, len))).unwrap();
    let token = browser::store(&fill(30, len)?.concat()).unwrap().value.len();
    let room = 4096_usize.saturating_sub(token);

    for name_len in [room.saturating_sub(1), room] {
        let stored = browser::store(&fill(name_len, len)?.concat());
        assert_eq!(stored.map(|cookie| cookie.name.len()), Some(name_len));
    }
    assert!(refused(fill(room.saturating_add(1), len)));
    Ok(())
}

#[test]
fn ck_04_path_and_domain_stay_below_the_length_that_browsers_ignore() {
    let path = |len: usize| Cookie::new("id").path(format!("/{}", "p".repeat(len)));
    assert!(manager(path(1023)).is_ok());
    assert!(is_refused(path(1024)));

    let label = format!("{}.", "d".repeat(49));
    let domain = |rest: &str| Cookie::new("__Secure-id").domain(label.repeat(5) + rest);
    assert!(manager(domain("com")).is_ok());
    assert!(is_refused(domain("four")));
    assert!(is_refused(Cookie::new("__Secure-id").domain(label.repeat(21) + "com")));
}

#[test]
fn ck_05_two_changes_in_one_handler_give_one_header_the_last() -> Result<(), Error> {
    let sessions = manager(Cookie::default())?;

    let headers = answer(&sessions, |session| {
        session.sign_in("alice")?;
        session.sign_in("bob").map(drop)
    })?;
    assert_eq!(headers.len(), 1);
    let pair = headers.iter().filter_map(|header| header.split(';').next());
    assert_eq!(subject(&sessions, pair)?.as_deref(), Some("bob"));

    let session: Session<Map> = sessions.open(Some(cookie_for(&sessions, "alice")?))?;
    session.insert("k", "v")?;
    session.sign_out()?;
    let headers: Vec<String> = session.close()?.into_iter().collect();
    assert_eq!(headers.len(), 1);
    assert_eq!(headers.iter().filter_map(|header| max_age(header)).collect::<Vec<_>>(), ["0"]);

    for cookie in every_cookie() {
        let header = sign_in(&manager(cookie)?)?;
        let mut names: Vec<_> = attributes(&header).iter().map(|a| a.split('=').next()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), attributes(&header).len(), "{header}");
    }
    Ok(())
}

#[test]
fn ck_06_only_max_age_is_written_and_a_removal_writes_0() -> Result<(), Error> {
    let sessions = manager(Cookie::default())?;
    let remembered =
        answer(&sessions, |session| session.sign_in(SignIn::new("alice").remember()).map(drop))?;
    let (session_only, removed) = (sign_in(&sessions)?, sign_out(&sessions)?);

    let digits = max_age(&remembered.concat()).map(str::to_owned).unwrap_or_default();
    assert!(!digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()), "{digits}");
    assert_eq!(max_age(&session_only), None);
    assert_eq!(max_age(&removed), Some("0"));
    for header in [remembered.concat(), session_only, removed] {
        assert!(!header.to_ascii_lowercase().contains("expires"), "{header}");
    }
    Ok(())
}

#[test]
fn ck_07_max_age_is_capped_at_400_days_and_the_sealed_limit_is_not() -> Result<(), Error> {
    let clock = ManualClock::new(SystemTime::UNIX_EPOCH + DAY * 20_000);
    let remembering = |days| -> Result<_, Error> {
        let limits = Limits { absolute_timeout: DAY * days, idle_timeout: None };
        SessionManager::builder("shop", KeyRing::for_tests()?)
            .policy(Policy::default().remember(limits))
            .clock(clock.clone())
            .build()
    };
    for (days, expected) in [(30, "2592000"), (400, "34560000"), (500, "34560000")] {
        let headers = answer(&remembering(days)?, |session| {
            session.sign_in(SignIn::new("alice").remember()).map(drop)
        })?;
        assert_eq!(max_age(&headers.concat()), Some(expected));
    }

    let sessions = remembering(500)?;
    let pair = sessions.cookie_for(SignIn::<Map>::new("alice").remember())?;
    clock.advance(DAY * 499);
    assert_eq!(subject(&sessions, Some(&pair))?.as_deref(), Some("alice"));
    Ok(())
}

#[test]
fn ck_08_no_date_is_written_not_even_after_2038() -> Result<(), Error> {
    let clock = ManualClock::new(SystemTime::UNIX_EPOCH + DAY * 25_300);
    let sessions = SessionManager::builder("shop", KeyRing::for_tests()?).clock(clock).build()?;
    let headers =
        answer(&sessions, |session| session.sign_in(SignIn::new("alice").remember()).map(drop))?;
    let header = headers.concat();
    assert_eq!(
        attributes(&header),
        ["Path=/", "Max-Age=2592000", "Secure", "HttpOnly", "SameSite=Lax"]
    );
    Ok(())
}

#[test]
fn ck_09_a_cookie_replayed_after_its_max_age_is_rejected() -> Result<(), Error> {
    let clock = ManualClock::new(SystemTime::UNIX_EPOCH + DAY * 20_000);
    let sessions =
        SessionManager::builder("shop", KeyRing::for_tests()?).clock(clock.clone()).build()?;
    let pair = sessions.cookie_for(SignIn::<Map>::new("alice").remember())?;
    assert_eq!(subject(&sessions, Some(&pair))?.as_deref(), Some("alice"));
    clock.advance(DAY * 31);
    assert_eq!(subject(&sessions, Some(&pair))?, None);
    Ok(())
}

#[test]
fn ck_10_prefixes_are_spelled_exactly_and_keep_their_rules() -> Result<(), Error> {
    // The 16 examples of RFC 6265bis 5.4, of which the builder can say only a few: unit test
    // `the_prefix_examples_of_the_standard_are_refused_where_a_browser_refuses_them`.
    for name in ["__host-id", "__HOST-id", "__secure-id", "__SECURE-id", "__SeCuRe-id"] {
        assert!(is_refused(Cookie::new(name)), "{name}");
    }
    for name in ["__Host-id", "__Host-Http-id", "__Host-"] {
        assert!(manager(Cookie::new(name)).is_ok(), "{name}");
        assert!(is_refused(Cookie::new(name).path("/shop")), "{name}");
        assert!(is_refused(Cookie::new(name).domain("example.com")), "{name}");
    }
    for name in ["__Secure-id", "__Http-id"] {
        assert!(manager(Cookie::new(name).path("/shop")).is_ok(), "{name}");
        assert!(manager(Cookie::new(name).domain("example.com")).is_ok(), "{name}");
    }
    // Names that only look like a prefix.
    for name in ["_Host-id", "__Hostid", "my__Host-id", "__Host"] {
        assert!(manager(Cookie::new(name).path("/shop")).is_ok(), "{name}");
    }

    // The server compares byte by byte what a browser may have stored under another spelling.
    let sessions = manager(Cookie::new("__Host-id"))?;
    let pair = cookie_for(&sessions, "alice")?;
    assert_eq!(subject(&sessions, Some(&pair))?.as_deref(), Some("alice"));
    assert_eq!(subject(&sessions, Some(pair.replace("__Host-", "__host-")))?, None);
    Ok(())
}

#[test]
fn ck_11_the_default_name_is_host_http() -> Result<(), Error> {
    let sessions = SessionManager::builder("shop", KeyRing::for_tests()?).build()?;
    let header = sign_in(&sessions)?;
    assert_eq!(frame(&header), [NAME, "Path=/", "Secure", "HttpOnly", "SameSite=Lax"]);

    for name in ["__http-id", "__HTTP-id", "__Host-http-id", "__host-Http-id"] {
        assert!(is_refused(Cookie::new(name)), "{name}");
    }
    // An older spelling that no browser enforces.
    assert!(is_refused(Cookie::new("__HostHttp-id")));
    Ok(())
}

#[test]
fn ck_12_the_http_prefixes_come_with_http_only() -> Result<(), Error> {
    // The layered draft's algorithm says the flag must be false; its prose, and browsers, true.
    for name in ["__Http-id", "__Host-Http-id"] {
        let header = sign_in(&manager(Cookie::new(name))?)?;
        assert!(attributes(&header).contains(&"HttpOnly"), "{header}");
        assert!(browser::store(&header).is_some(), "{header}");
        assert!(browser::store(&header.replace("; HttpOnly", "")).is_none(), "{header}");
    }
    Ok(())
}

#[test]
fn ck_13_same_site_is_always_written_and_none_needs_secure() -> Result<(), Error> {
    for cookie in every_cookie() {
        let header = sign_in(&manager(cookie)?)?;
        let known = ["SameSite=Strict", "SameSite=Lax", "SameSite=None"];
        assert!(attributes(&header).iter().any(|a| known.contains(a)), "{header}");
    }
    assert!(manager(Cookie::default().same_site(SameSite::None)).is_ok());
    assert!(is_refused(Cookie::insecure_http_cookie().same_site(SameSite::None)));
    Ok(())
}

#[test]
fn ck_14_the_documentation_says_what_strict_and_lax_break() {
    let docs = prose("src/cookie.rs");
    assert!(docs.contains("Breaks the redirect back from an identity provider."));
    assert!(docs.contains("Breaks callbacks that an identity provider sends by POST"));
    assert!(docs.contains("a cookie of its own, `SameSite=None; Secure` and a few minutes long."));
}

#[test]
fn ck_15_the_documentation_says_who_cannot_set_lax_and_strict() {
    let docs = prose("src/cookie.rs");
    assert!(
        docs.contains("cannot be set either by the answer to a cross-site subresource request")
    );
}

#[test]
fn ck_16_partitioned_needs_secure_and_removal_carries_it() -> Result<(), Error> {
    // That it rules out device-bound sessions does not apply: there are none here.
    assert!(is_refused(Cookie::insecure_http_cookie().partitioned()));
    let sessions = manager(Cookie::default().same_site(SameSite::None).partitioned())?;
    for header in [sign_in(&sessions)?, sign_out(&sessions)?] {
        assert!(attributes(&header).contains(&"Partitioned"), "{header}");
        assert!(browser::store(&header).is_some_and(|cookie| cookie.partitioned), "{header}");
    }
    assert!(!sign_in(&manager(Cookie::default())?)?.contains("Partitioned"));
    Ok(())
}

#[test]
fn ck_17_any_split_into_fields_gives_the_same_session() -> Result<(), Error> {
    let sessions = manager(Cookie::default())?;
    let pair = cookie_for(&sessions, "alice")?;
    let pairs = ["a=1", "bare", pair.as_str(), "__Host-Http-id=garbage", "u8=é", "=x"];
    // Bit n says whether a new field begins after pair n.
    for split in 0_u32..32 {
        let mut fields = vec![String::new()];
        for (n, pair) in pairs.iter().enumerate() {
            let field = fields.last_mut().unwrap();
            *field += if field.is_empty() { "" } else { "; " };
            *field += pair;
            if n < 5 && split & (1 << n) != 0 {
                fields.push(String::new());
            }
        }
        assert_eq!(subject(&sessions, &fields)?.as_deref(), Some("alice"), "{split:b}");
    }
    Ok(())
}

#[test]
fn ck_18_all_of_up_to_eight_equal_names_are_tried() -> Result<(), Error> {
    let sessions = manager(Cookie::default())?;
    let good = cookie_for(&sessions, "alice")?;
    let garbage: Vec<String> = (0..8).map(|n| format!("{NAME}=garbage{n}")).collect();

    for at in 0..8 {
        let mut pairs = garbage[1..].to_vec();
        pairs.insert(at, good.clone());
        assert_eq!(subject(&sessions, [pairs.join("; ")])?.as_deref(), Some("alice"), "at {at}");
        assert_eq!(subject(&sessions, &pairs)?.as_deref(), Some("alice"), "field {at}");
    }
    // The ninth is not looked at; the same value again does not count, nor does an empty one, nor
    // one that no browser would send.
    assert_eq!(subject(&sessions, [garbage.join("; "), good.clone()])?, None);
    let long = format!("{NAME}={}", "v".repeat(4097));
    for uncounted in [&garbage[0], &format!("{NAME}="), &long] {
        let fields = [format!("{uncounted}; ").repeat(20), good.clone()];
        assert_eq!(subject(&sessions, fields)?.as_deref(), Some("alice"));
    }
    Ok(())
}

#[test]
fn ck_19_two_different_sessions_under_one_name_are_no_session() -> Result<(), Error> {
    let sessions = manager(Cookie::default())?;
    let (alice, mallory) = (cookie_for(&sessions, "alice")?, cookie_for(&sessions, "mallory")?);
    assert_eq!(subject(&sessions, [&alice, &mallory])?, None);
    assert_eq!(subject(&sessions, [&mallory, &alice])?, None);
    assert_eq!(subject(&sessions, [format!("{alice}; {mallory}")])?, None);
    assert_eq!(subject(&sessions, [&alice, &alice])?.as_deref(), Some("alice"));
    Ok(())
}

#[test]
fn ck_20_a_segment_without_a_name_never_matches() -> Result<(), Error> {
    let sessions = manager(Cookie::default())?;
    let pair = cookie_for(&sessions, "alice")?;
    let token = pair.split('=').nth(1).unwrap_or_default();
    for header in [
        format!("={pair}"),
        format!(" = {pair}"),
        format!("={token}"),
        token.to_owned(),
        NAME.to_owned(),
        format!("{NAME}{token}"),
    ] {
        assert_eq!(subject(&sessions, [&header])?, None, "{header}");
        // Nor does it hide the real one.
        let both = format!("{header}; {pair}");
        assert_eq!(subject(&sessions, [&both])?.as_deref(), Some("alice"), "{both}");
    }
    Ok(())
}

#[test]
fn ck_21_neighbours_may_hold_any_bytes() -> Result<(), Error> {
    let sessions = manager(Cookie::default())?;
    let pair = cookie_for(&sessions, "alice")?;
    let neighbours: [&[u8]; 4] = ["u8=é".as_bytes(), b"latin1=\xE9", b"\xFF\xFE", b"a=\0\x01\x7F"];
    for neighbour in neighbours {
        let before = [neighbour, b"; ", pair.as_bytes()].concat();
        let after = [pair.as_bytes(), b"; ", neighbour].concat();
        assert_eq!(subject(&sessions, [before])?.as_deref(), Some("alice"), "{neighbour:?}");
        assert_eq!(subject(&sessions, [after])?.as_deref(), Some("alice"), "{neighbour:?}");
    }
    Ok(())
}

#[test]
fn ck_22_only_spaces_and_tabs_are_trimmed_and_quotes_belong_to_the_value() -> Result<(), Error> {
    let sessions = manager(Cookie::default())?;
    let pair = cookie_for(&sessions, "alice")?;
    let (name, token) = pair.split_once('=').unwrap_or_default();

    for same in [
        format!(" \t{name}\t = \t{token} \t"),
        format!(";;{pair};;"),
        format!("a=1;{pair};b=2"),
        format!("a=\"1; {pair}; b=2\""),
    ] {
        assert_eq!(subject(&sessions, [&same])?.as_deref(), Some("alice"), "{same:?}");
    }
    for other in [
        format!("\u{2000}{pair}"),
        format!("\u{A0}{pair}"),
        format!("\u{B}{pair}"),
        format!("\n{pair}"),
        format!("{pair}\u{2000}"),
        format!("{name}=\"{token}\""),
        format!("\"{name}\"={token}"),
        format!("{name}=={token}"),
        format!("$Version=1,{pair}"),
        format!("a=1, {pair}"),
        format!("a={pair}"),
        format!("%5F_Host-Http-id={token}"),
        pair.to_ascii_lowercase(),
    ] {
        assert_eq!(subject(&sessions, [&other])?, None, "{other:?}");
    }
    Ok(())
}

#[test]
fn ck_23_a_cookie_that_the_browser_evicted_is_no_error() -> Result<(), Error> {
    // Missing chunks and a second cookie do not apply: a session is one cookie, 4096 octets at most.
    let sessions = manager(Cookie::default())?;
    assert_eq!(subject(&sessions, None::<&str>)?, None);
    assert_eq!(subject(&sessions, ["a=1; b=2"])?, None);
    assert_eq!(subject(&sessions, [""])?, None);
    let mut pairs: Vec<_> = (0..3000).map(|n| format!("neighbour{n}=1")).collect();
    pairs.push(cookie_for(&sessions, "alice")?);
    assert_eq!(subject(&sessions, [pairs.join("; ")])?.as_deref(), Some("alice"));
    Ok(())
}

#[test]
fn ck_24_an_unchanged_session_sends_nothing() -> Result<(), Error> {
    let sessions = manager(Cookie::default())?;
    assert!(answer(&sessions, |_| Ok(()))?.is_empty());
    let session: Session<Map> = sessions.open(Some(cookie_for(&sessions, "alice")?))?;
    assert!(session.subject().is_some());
    assert!(session.close()?.into_iter().next().is_none());
    // Of answers that do change it at the same time, the last one wins.
    assert!(prose("SECURITY.md").contains("CK-24"));
    Ok(())
}

#[test]
fn ck_25_a_sign_out_that_ends_in_500_still_clears_the_cookie() -> Result<(), Error> {
    // The layer's half of this stands in tests/tower.rs.
    let sessions = manager(Cookie::default())?;
    let session: Session<Map> = sessions.open(Some(cookie_for(&sessions, "alice")?))?;
    session.sign_out()?;
    // Here the handler fails.
    let mut response = http::Response::new(());
    *response.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
    for header in session.close()? {
        let value = http::HeaderValue::from_str(&header).unwrap();
        response.headers_mut().append(http::header::SET_COOKIE, value);
    }
    let sent = response.headers()[http::header::SET_COOKIE].to_str().unwrap();
    assert_eq!(sent, "__Host-Http-id=; Path=/; Max-Age=0; Secure; HttpOnly; SameSite=Lax");
    Ok(())
}

#[test]
fn ck_26_removal_differs_from_creation_only_in_value_and_max_age() -> Result<(), Error> {
    for cookie in every_cookie() {
        let sessions = manager(cookie)?;
        let (created, removed) = (sign_in(&sessions)?, sign_out(&sessions)?);
        assert_eq!(frame(&created), frame(&removed));

        let stored = browser::store(&created).unwrap();
        assert!(!stored.value.is_empty(), "{created}");
        let emptied = browser::Stored { value: String::new(), max_age: Some(0), ..stored };
        assert_eq!(browser::store(&removed), Some(emptied), "{removed}");
    }
    Ok(())
}

#[test]
fn ck_27_a_planted_cookie_opens_and_the_default_prefix_keeps_it_out() -> Result<(), Error> {
    let sessions = manager(Cookie::default())?;
    let planted = cookie_for(&sessions, "mallory")?;
    assert_eq!(subject(&sessions, [&planted])?.as_deref(), Some("mallory"));

    // What a sibling host or a plain-http page would have to make the browser store.
    for attributes in ["; Path=/; Domain=site.example; Secure; HttpOnly", "; Path=/; HttpOnly"] {
        assert_eq!(browser::store(&format!("{planted}{attributes}")), None);
    }
    assert!(prose("SECURITY.md").contains("CK-27"));
    Ok(())
}

#[test]
fn ck_28_plain_http_has_a_cookie_without_secure() -> Result<(), Error> {
    let sessions = manager(Cookie::insecure_http_cookie().path("/shop"))?;
    let header = sign_in(&sessions)?;
    assert_eq!(frame(&header), ["id", "Path=/shop", "HttpOnly", "SameSite=Lax"]);

    let docs = prose("src/cookie.rs");
    assert!(docs.contains("`http://localhost` does not need it in Chromium and Firefox"));
    assert!(docs.contains("Safari has refused `Secure` cookies on `http://localhost`."));
    Ok(())
}

#[test]
fn a_path_is_visible_ascii_that_begins_with_a_slash() {
    for bad in ["", "shop", "/a;b", "/a b", "/a ", "/a\r\nb", "/a\tb", "/é", "/\u{7F}"] {
        assert!(is_refused(Cookie::new("id").path(bad)), "{bad:?}");
    }
    assert!(manager(Cookie::new("id").path("/a%20b/~c=d")).is_ok());
}

#[test]
fn a_domain_is_two_labels_or_more_and_no_address() {
    for bad in [
        "",
        ".",
        ".example.com",
        "example.com.",
        "a..example",
        "localhost",
        "com",
        "-a.example",
        "a-.example",
        "a_b.example",
        "bücher.example",
        "Example.com",
        "example.com:8080",
        "127.0.0.1",
        "1.2.3",
        "a.0x7f",
        "[::1]",
        "::1",
        "a.example; Secure",
        "a b.example",
    ] {
        assert!(is_refused(Cookie::new("__Secure-id").domain(bad)), "{bad:?}");
    }
    for good in ["example.com", "a-b.1.example", "xn--bcher-kva.example"] {
        assert!(manager(Cookie::new("__Secure-id").domain(good)).is_ok(), "{good}");
    }
    // With a domain, the name must promise Secure (ASVS 3.3.3), unless there is no Secure at all.
    assert!(is_refused(Cookie::new("id").domain("example.com")));
    assert!(manager(Cookie::insecure_http_cookie().domain("dev.example")).is_ok());
}

#[test]
fn a_refusal_names_the_attribute_and_the_remedy() {
    let message = |cookie| manager(cookie).err().map(|error| error.to_string()).unwrap_or_default();
    for (cookie, words) in [
        (Cookie::new("__host-id"), ["name", "`__Host-`"]),
        (Cookie::new("__Host-id").path("/a"), ["Path", "`/`"]),
        (Cookie::new("__Host-id").domain("a.example"), ["Domain", "`__Secure-…`"]),
        (Cookie::new("id").domain("a.example"), ["Domain", "`__Secure-`"]),
        (Cookie::new("__Secure-id").domain(".a.example"), ["leading dot", "leave out"]),
        (Cookie::new("id").path("/ "), ["Path", "percent-encode"]),
        (Cookie::insecure_http_cookie().partitioned(), ["Partitioned", "leave it out"]),
        (Cookie::insecure_http_cookie().same_site(SameSite::None), ["SameSite", "Lax"]),
    ] {
        let message = message(cookie);
        for word in words {
            assert!(message.contains(word), "{message}");
        }
    }
}

/// A `Cookie` field around a good pair, of parts on which we and the `cookie` crate agree.
///
/// Left out is where they differ: `cookie` trims all Unicode white space (CK-22) and reads text
/// only (CK-21), drops no value, and returns all candidates rather than eight.
fn field(pair: &str) -> impl Strategy<Value = String> + use<> {
    let token = pair.strip_prefix("__Host-Http-id=").unwrap_or_default();
    let parts =
        [pair, token, NAME, "__host-http-id", "=", "=", ";", ";", "; ", " ", "\t", "\"", ","];
    let parts: Vec<String> = parts.into_iter().map(str::to_owned).collect();
    prop::collection::vec(select(parts), 0..14).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn the_reader_agrees_with_the_cookie_crate(
        (pair, field) in Just(SHARED.1.clone()).prop_flat_map(|pair| (Just(pair.clone()), field(&pair))),
    ) {
        let token = pair.split('=').nth(1).unwrap();
        let theirs = cookie::Cookie::split_parse(field.as_str())
            .flatten()
            .any(|found| found.name() == NAME && found.value() == token);
        let ours = subject(&SHARED.0, [&field])?;
        prop_assert_eq!(ours.is_some(), theirs, "{}", field);
    }
}

/// One manager and a cookie of it, for all cases of a property.
static SHARED: LazyLock<(SessionManager, String)> = LazyLock::new(|| {
    let sessions = manager(Cookie::default()).unwrap();
    let pair = cookie_for(&sessions, "alice").unwrap();
    (sessions, pair)
});
