//! The text of a key ring: what it says, at every instant, and what is refused.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test may panic"
)]

#[path = "rotation_ring/plan.rs"]
mod plan;

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;
use sealed_session::KeyState::{self, AcceptOnly, Active, Expired, Pending, Revoked};
use sealed_session::{Error, ErrorKind, KeyRing, KeyStatus, Keys};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use plan::{instant, plan, written};

/// The published test key 1, made by Python's hashlib, hmac, base64 and zlib.
const TEST_KEY_1: &str = "sealsess_k1_x7QlJXq9hMoPCtjRWI4GsWPJCbNU-za3tIXWCQHP_Fk_V0m_AQ";
const FROM_30: &str = "seal_from=2026-11-30T00:00:00Z";
const UNTIL_30: &str = "open_until=2026-11-30T00:00:00Z";
const FROM_31: &str = "seal_from=2026-12-01T00:00:00Z";

#[test]
fn the_published_test_key_has_the_text_and_id_of_an_independent_implementation() {
    let ring = KeyRing::insecure_published_keys(TEST_KEY_1).unwrap();
    let id = ring.status(SystemTime::now())[0].id();

    assert_eq!((id.to_string(), id.as_bytes()), ("2c14da4c".into(), &[0x2c, 0x14, 0xda, 0x4c]));
    assert_eq!(*ring.expose_text(), format!("# newest last\n{TEST_KEY_1}\n"));
    assert_eq!(key_text(&Sha256::digest("sealed-session test key 1")), TEST_KEY_1);
}

#[test]
fn a_key_goes_through_its_states_at_the_exact_instants_of_its_dates() {
    let (a, b, c) = (key(1), key(2), key(3));
    let ring = format!(
        "{a} seal_from=2026-01-01T00:00:00Z open_until=2026-03-01T00:00:00Z
         {b} seal_from=2026-02-01T00:00:00Z
         {c} seal_from=2026-01-15T00:00:00Z revoked"
    );
    let ring: KeyRing = ring.parse().unwrap();
    let states = |now| states(&ring, now);
    let moment = Duration::from_millis(1);
    let [january, february, march] =
        ["2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z"].map(at);

    assert_eq!(states(SystemTime::UNIX_EPOCH), [Pending, Pending, Revoked]);
    assert_eq!(states(january - moment), [Pending, Pending, Revoked]);
    assert_eq!(states(january), [Active, Pending, Revoked]);
    assert_eq!(states(february - moment), [Active, Pending, Revoked]);
    assert_eq!(states(february), [AcceptOnly, Active, Revoked]);
    assert_eq!(states(march - moment), [AcceptOnly, Active, Revoked]);
    assert_eq!(states(march), [Expired, Active, Revoked]);
    assert_eq!(ring.status(march)[0].seal_from(), Some(january));
    assert_eq!(ring.status(march)[0].open_until(), Some(march));
    assert_eq!(ring.status(march)[1].open_until(), None);
}

#[test]
fn a_key_without_dates_seals_since_ever_and_opens_on_until_a_date_is_set() {
    let ring: KeyRing = format!("{}\n{} {FROM_30}", key(1), key(2)).parse().unwrap();

    assert_eq!(states(&ring, SystemTime::UNIX_EPOCH), [Active, Pending]);
    assert_eq!(states(&ring, at("9999-01-01T00:00:00Z")), [AcceptOnly, Active]);
}

#[test]
fn states_have_the_names_that_operators_read() {
    let names = [Pending, Active, AcceptOnly, Expired, Revoked].map(|state| state.to_string());

    assert_eq!(names, ["pending", "active", "accept-only", "expired", "revoked"]);
}

#[test]
fn comments_blank_lines_tabs_semicolons_and_crlf_are_no_part_of_a_key() {
    let (a, b, c) = (key(1), key(2), key(3));
    let text = format!(
        "# newest last\r\n\r\n \t{a}\t revoked \r\n\t# more\n;{b};;{c}\t\t{FROM_30} open_until=2026-12-01T05:00:00+05:00 revoked;"
    );

    let ring: KeyRing = text.parse().unwrap();

    let again = format!(
        "# newest last\n{a} revoked\n{b}\n{c} {FROM_30} open_until=2026-12-01T00:00:00Z revoked\n"
    );
    assert_eq!(*ring.expose_text(), again);
}

#[test]
fn a_line_that_breaks_the_format_is_refused_by_its_number() {
    let good = key(1);
    let most = &good[..54];
    for (line, reason) in [
        ("hunter2".to_owned(), "no key"),
        (good[1..].to_owned(), "no key"),
        (format!("\u{feff}{good}"), "no key"),
        (good[..61].to_owned(), "not a whole key"),
        ("sealsess_k1_".to_owned(), "not a whole key"),
        (format!("{good}A"), "not a whole key"),
        (format!("{good}\u{a0}revoked"), "not a whole key"),
        (format!("{}é", &good[..60]), "the checksum"),
        (format!("{most}é{}", &good[56..]), "the checksum"),
        (with_checksum(&format!("{most}é")), "the key is not canonical"),
        (with_checksum(&format!("{most}B_")), "the key is not canonical"),
        (with_checksum(&format!("{}+{}", &good[..20], &good[21..56])), "the key is not canonical"),
        (with_checksum(&format!("{}-", &good[..55])), "the key is not canonical"),
    ] {
        assert_refused_in_line_4(&line, reason);
    }
    for (words, reason) in [
        ("retired", "an unknown word"),
        ("REVOKED", "an unknown word"),
        ("revoked=", "an unknown word"),
        ("revoked # leaked", "an unknown word"),
        ("Seal_from=2026-11-30T00:00:00Z", "an unknown word"),
        ("seal_from = 2026-11-30T00:00:00Z", "an unknown word"),
        (&good, "an unknown word"),
        ("revoked revoked", "revoked twice"),
        (&format!("{FROM_30} {FROM_30}"), "seal_from twice"),
        (&format!("{UNTIL_30} {UNTIL_30}"), "open_until twice"),
    ] {
        assert_refused_in_line_4(&format!("{good} {words}"), reason);
    }
    assert!(refusal(&format!("# one; two\n{good}")).contains("line 2: no key"));
}

#[test]
fn a_date_must_be_whole_seconds_of_this_age_with_a_zone() {
    for (date, reason) in [
        ("2026-12-07T00:32:00", "a date without a zone"),
        ("2026-12-07T00:32:00.5Z", "a date with a fraction"),
        ("2026-12-07T00:32:00.000000000000Z", "a date with a fraction"),
        ("2026-12-07T00:32:00,5Z", "not a date"),
        ("2016-12-31T23:59:60Z", "not a date"),
        ("2026-12-07", "not a date"),
        ("2026-12-07Z", "not a date"),
        ("2026-12-07_00:32:00Z", "not a date"),
        ("2026-12-07T00:32Z", "not a date"),
        ("2026-02-29T00:00:00Z", "not a date"),
        ("2026-12-07T24:00:00Z", "not a date"),
        ("2026-12-07T00:32:00+25:00", "not a date"),
        ("2026-12-07T00:32:00+01", "not a date"),
        ("2026-12-07T00:32:00ZZ", "not a date"),
        ("éééééT00:32:00Z", "not a date"),
        ("1796601600", "not a date"),
        ("", "not a date"),
        ("1969-12-31T23:59:59Z", "a date outside"),
        ("9999-12-31T23:59:59-00:01", "a date outside"),
    ] {
        for word in ["seal_from", "open_until"] {
            assert_refused_in_line_4(&format!("{} {word}={date}", key(1)), reason);
        }
    }
    for (date, printed) in [
        ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z"),
        ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59Z"),
        ("2026-12-07T00:32:00+05:30", "2026-12-06T19:02:00Z"),
        ("2028-02-29T00:00:00-00:00", "2028-02-29T00:00:00Z"),
    ] {
        let ring: KeyRing = format!("{} seal_from={date}", key(1)).parse().unwrap();
        assert_eq!(*ring.expose_text(), format!("# newest last\n{} seal_from={printed}\n", key(1)));
    }
}

#[test]
fn a_typo_at_any_position_of_a_key_is_refused() {
    let good = key(1);
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    for position in 0..good.len() {
        for typo in alphabet.chars().filter(|typo| !good[position..].starts_with(*typo)) {
            let bad = format!("{}{typo}{}", &good[..position], &good[position + 1..]);
            let reason = if position < 12 { "no key" } else { "the checksum" };
            let message = refusal(&bad);
            assert!(message.contains(reason), "{message} at {position}");
        }
    }
}

#[test]
fn a_key_that_is_a_pattern_is_refused_unless_it_is_revoked() {
    let patterns: [[u8; 32]; 6] = [
        [0; 32],
        [0xa5; 32],
        std::array::from_fn(|i| u8::try_from(i).unwrap()),
        std::array::from_fn(|i| 255 - u8::try_from(i).unwrap()),
        std::array::from_fn(|i| u8::try_from(i).unwrap().wrapping_mul(37)),
        *b"0123456789abcde0123456789abcde01",
    ];
    for pattern in patterns {
        let weak = key_text(&pattern);
        assert_refused_in_line_4(&weak, "not a random key");
        assert_accepted(&format!("{weak} revoked\n{}", key(1)));
    }
}

#[test]
fn a_published_key_is_refused_unless_it_is_revoked_or_asked_for() {
    for number in 1..=3 {
        let published = key_text(&Sha256::digest(format!("sealed-session test key {number}")));
        assert_refused_in_line_4(&published, "a published key");
        assert_accepted(&format!("{published} revoked\n{}", key(1)));
        assert!(KeyRing::insecure_published_keys(&published).is_ok());
    }
    let weak = KeyRing::insecure_published_keys(&key_text(&[0; 32]));
    assert_eq!(weak.unwrap_err().kind(), ErrorKind::KeyRing);
}

#[test]
fn a_ring_has_at_most_sixteen_keys_and_64_kib() {
    let lines = |n| (0..n).map(|i| key(i) + if i > 0 { " revoked\n" } else { "\n" }).collect();
    let ring: String = lines(16);
    let padded = |bytes: usize| format!("{ring}#{}", "x".repeat(bytes - ring.len() - 1));

    assert_accepted(&padded(64 * 1024));
    assert!(
        refusal(&padded(64 * 1024 + 1)).ends_with(": over 64 KiB of text: keep at most 16 keys")
    );
    let ring: String = lines(17);
    assert!(refusal(&ring).contains("line 17: more than 16 keys"));
}

#[test]
fn a_ring_without_a_key_to_use_is_refused() {
    for text in ["", "\n", "# nothing yet", ";"] {
        assert!(refusal(text).ends_with(": it holds no key: copy it again, or remove it and make the first ring with sealed-session keys new"));
    }
    assert!(
        refusal(&format!("{} revoked", key(1)))
            .ends_with(": all keys are revoked: add the key of another `sealed-session keys new`")
    );
}

#[test]
fn the_same_key_twice_is_refused_even_if_revoked() {
    let (a, b) = (key(1), key(2));
    let reason = "line 3: the key of line 1 again";

    assert!(refusal(&format!("{a}\n{b} {FROM_30}\n{a} {FROM_31}")).contains(reason));
    assert!(refusal(&format!("{a}\n{b} {FROM_30}\n{a} revoked")).contains(reason));
    assert!(refusal(&format!("{a} revoked\n{b}\n{a} {FROM_31}")).contains(reason));
}

#[test]
fn two_keys_that_begin_to_seal_together_are_refused_unless_one_is_revoked() {
    let (a, b) = (key(1), key(2));

    assert!(refusal(&format!("{a}\n\n{b}")).contains("line 3: no seal_from, as in line 1"));
    let same = refusal(&format!("{a} {FROM_30}\n{b} seal_from=2026-11-30T01:00:00+01:00"));
    assert!(same.contains("line 2: the same seal_from as in line 1"));
    assert_accepted(&format!("{a} revoked\n{b}"));
    assert_accepted(&format!("{a} {FROM_30}\n{b} {FROM_30} revoked"));
    assert_accepted(&format!("{a} {FROM_30}\n{b} seal_from=2026-11-30T00:00:01Z"));
}

#[test]
fn a_key_may_end_only_once_a_later_one_seals() {
    let (a, b, c) = (key(1), key(2), key(3));
    let until = |date| format!("{a} open_until=2026-11-{date}Z\n");

    assert!(refusal(&until("29T00:00:00")).contains("line 1: open_until without a later key"));
    let gap = refusal(&(until("29T23:59:59") + &format!("{c} {FROM_31}\n{b} {FROM_30}")));
    assert!(gap.contains("line 1: open_until lies before seal_from in line 3: "), "{gap}");
    assert_accepted(&(until("30T00:00:00") + &format!("{c} {FROM_31}\n{b} {FROM_30}")));
}

#[test]
fn a_revoked_key_is_no_successor_and_needs_none() {
    let (a, b, c) = (key(1), key(2), key(3));
    let old = format!("{a} open_until=2026-11-30T12:00:00Z\n{b} {FROM_30} revoked");

    assert!(
        refusal(&old)
            .contains("line 1: open_until, but all later keys are revoked: remove open_until")
    );
    let gap = refusal(&format!("{old}\n{c} {FROM_31}"));
    assert!(gap.contains("line 1: open_until lies before seal_from in line 3"));
    assert_accepted(&format!("{a}\n{b} {FROM_30} open_until=2026-11-29T00:00:00Z revoked"));
}

#[test]
fn debug_shows_ids_and_dates_and_nothing_else() {
    let text =
        format!("{TEST_KEY_1} {FROM_30} open_until=2026-12-02T00:00:00Z;{} {FROM_31}", key(2));
    let ring = KeyRing::insecure_published_keys(&text).unwrap();
    let other = ring.status(SystemTime::now())[1].id();

    let shown =
        format!("KeyRing[2c14da4c {FROM_30} open_until=2026-12-02T00:00:00Z, {other} {FROM_31}]");
    assert_eq!(format!("{ring:?}"), shown);
    let lines: Vec<_> = shown[8..shown.len() - 1].split(", ").collect();
    assert_eq!(format!("{ring:#?}"), format!("KeyRing[\n    {},\n]", lines.join(",\n    ")));
    assert!(format!("{:?}", Keys::from(ring)).contains(&shown));
}

#[test]
fn generated_rings_differ_and_can_be_read_back() {
    let rings: Vec<_> = (0..8).map(|_| KeyRing::generate().unwrap()).collect();
    let mut ids: Vec<_> = rings.iter().map(|ring| ring.status(SystemTime::now())[0].id()).collect();
    ids.sort_unstable();
    ids.dedup();

    assert_eq!(ids.len(), rings.len());
    for ring in rings {
        assert_accepted(&ring.expose_text());
        assert_eq!(ring.status(SystemTime::UNIX_EPOCH)[0].state(), Active);
    }
    assert_ne!(
        KeyRing::for_tests().unwrap().expose_text(),
        KeyRing::for_tests().unwrap().expose_text()
    );
}

proptest! {
    #[test]
    fn a_ring_reads_back_as_it_was_printed(plan in plan(), offset in -86_399..86_399_i32) {
        let ring: KeyRing = written(&plan, offset).parse().unwrap();
        let printed = ring.expose_text();
        let again: KeyRing = printed.parse().unwrap();

        prop_assert_eq!(&*printed, &format!("# newest last\n{}", written(&plan, 0)));
        prop_assert_eq!(&again.expose_text(), &printed);
        let moment = Duration::from_millis(1);
        let dates = plan.iter().flat_map(|line| [line.seal_from, line.open_until]).flatten();
        for now in dates.chain([0]).flat_map(|at| [instant(at) - moment, instant(at)]) {
            let expected: Vec<_> = plan.iter().map(|line| line.state(&plan, now)).collect();
            prop_assert_eq!(states(&again, now), expected);
        }
    }
}

fn states(ring: &KeyRing, now: SystemTime) -> Vec<KeyState> {
    ring.status(now).iter().map(KeyStatus::state).collect()
}

fn assert_refused_in_line_4(line: &str, reason: &str) {
    let other = key(100);
    let message =
        refusal(&format!("# newest last\n{other} seal_from=1980-01-01T00:00:00Z;\n{line}\n"));
    assert!(
        message.starts_with(&format!("the key ring is unusable: line 4: {reason}")),
        "{message}"
    );
}

fn assert_accepted(text: &str) {
    let ring: Result<KeyRing, Error> = text.parse();
    assert!(ring.is_ok(), "{ring:?}");
}

/// The message of a refusal, which has the one kind and tells nothing of the text.
fn refusal(text: &str) -> String {
    let error = text.parse::<KeyRing>().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::KeyRing);
    let message = error.to_string();
    let excerpts = text.as_bytes().windows(13);
    let told = excerpts.filter(|excerpt| message.as_bytes().windows(13).any(|of| of == *excerpt));
    assert_eq!(told.count(), 0, "{message}");
    message
}

/// The text of a key of the tests' own.
fn key(number: u8) -> String {
    key_text(&Sha256::digest([number]))
}

fn key_text(root: &[u8]) -> String {
    with_checksum(&format!("sealsess_k1_{}_", URL_SAFE_NO_PAD.encode(root)))
}

fn with_checksum(head: &str) -> String {
    format!("{head}{}", URL_SAFE_NO_PAD.encode(crc32fast::hash(head.as_bytes()).to_be_bytes()))
}

fn at(date: &str) -> SystemTime {
    OffsetDateTime::parse(date, &Rfc3339).unwrap().into()
}
