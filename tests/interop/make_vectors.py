#!/usr/bin/env python3
"""Writes tests/vectors/*.txt, known_answers.txt, rings.txt and csrf.txt, and checks what SECURITY.md says of them.

    make_vectors.py            writes what is missing; refuses to change what exists
    make_vectors.py example    prints the worked example of SECURITY.md

Deterministic: ids and nonces are hashes of the file's name. Add scenarios, never edit them.
"""

import datetime
import hashlib
import json
import re
import sys
from dataclasses import replace
from pathlib import Path

sys.dont_write_bytecode = True
import sealed_session as s
from sealed_session import Key, Place, Policy, Record, b64_encode, lv

HERE = Path(__file__).resolve().parent
VECTORS = HERE.parent / "vectors"
SPEC = HERE.parent.parent / "SECURITY.md"

K1, K2, K3 = (Key(s.test_root(n)) for n in (1, 2, 3))
T1, T2, T3 = (s.key_text(key.root) for key in (K1, K2, K3))
COOKIE = Place(b"shop", "cookie", b"__Host-Http-id")
BEARER = Place(b"shop", "bearer", b"")

ISSUED = 1_796_126_400_250  # 2026-12-01T12:00:00.250Z
NOW = ISSUED + 90_000
HOUR, DAY = 3_600_000, 86_400_000


def stamp(ms):
    """An RFC 3339 instant; whole seconds only."""
    assert ms % 1000 == 0
    return datetime.datetime.fromtimestamp(ms // 1000, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def seed(text, length):
    return hashlib.sha256(text.encode()).digest()[:length]


def other_id(name):
    return seed(f"other id {name}", 16)


# A record, as fields and as raw bytes


def record(name, **fields):
    fields = {"issued_at": ISSUED, "refreshed": 60, "subject": b"alice", "data": b'{"cart":[7]}', **fields}
    return Record(id=seed(f"id {name}", 16), **fields)


def raw(rec, flags=None, blocks=b"", subject=None, lifetime=None):
    """The bytes of a record with parts that Record would not write."""
    data = replace(rec, tags=[], flash=[]).to_bytes()
    head = bytearray(data[:38])
    if lifetime is not None:
        head[26:30] = lifetime.to_bytes(4, "big")
    if flags is not None:
        head[36:38] = flags.to_bytes(2, "big")
    subject = bytes([len(rec.subject)]) + rec.subject if subject is None else subject
    return bytes(head) + subject + blocks + rec.data


def token(name, plain, place=COOKIE, key=K1, seal_key=None, aad=None):
    plain = plain.to_bytes() if isinstance(plain, Record) else plain
    aad = place.aad(key.id) if aad is None else aad
    return s.seal_bytes(seal_key or key.seal_key, key.id, seed(f"nonce {name}", 24), aad, plain)


FILES = {}


def add(name, comment, expect, plain=None, *, text=None, place=COOKIE, at=None, now=NOW, keys=T1,
        policy="", facts=(), type_="", key=K1, **sealing):  # fmt: skip
    """One vector. `expect` is a kind, or "session". `place` seals, `at` opens."""
    at = at or place
    text = token(name, plain, place, key, **sealing) if text is None else text
    lines = [f"comment: {comment}", f"expect: {expect}"]
    if expect == "session":
        lines += session_lines(plain, policy)
    lines += [f"now: {now}", f"keys: {keys}", f"realm: {at.realm.decode()}", f"transport: {at.transport}",
              f"name: {at.name.decode()}"]  # fmt: skip
    lines += [f"policy: {policy}"] if policy else []
    lines += [f"revocations: {fact}" for fact in facts]
    lines += [f"type: {type_}"] if type_ else []
    assert name not in FILES and all("\n" not in line for line in lines), name
    FILES[name] = "\n".join(line.rstrip(" ") for line in lines) + f"\n\n{text}\n"


def session_lines(rec, policy):
    """What opening must give, reckoned here by hand and not by open_token."""
    if isinstance(rec, bytes):
        rec = Record.from_bytes(rec)
    absolute, idle = s.vector_policy(policy).column(rec)
    limits = [limit for limit in (rec.idle, idle) if limit]
    idle_expires_at = rec.refreshed_at + min(limits) * 1000 if limits else "none"
    return [
        f"id: {b64_encode(rec.id)}",
        f"subject: {rec.subject.decode()}",
        f"issued_at: {rec.issued_at}",
        f"refreshed_at: {rec.refreshed_at}",
        f"expires_at: {rec.issued_at + min(rec.lifetime, absolute) * 1000}",
        f"idle_expires_at: {idle_expires_at}",
        f"generation: {rec.generation}",
        f"persistent: {str(rec.persistent).lower()}",
        f"data: {rec.data.decode().strip()}",
    ]


def altered(text, index, replacement=None):
    """The token with one character of its middle part changed to another of the alphabet."""
    old = text[index]
    new = replacement or ("A" if old != "A" else "B")
    changed = list(text)
    changed[index] = new
    assert new != old
    return "".join(changed)


def ending(name, remainder, place=COOKIE):
    """An authentic token with a length of `remainder` modulo 4."""
    for pad in range(3):
        text = token(name, record(name, data=json.dumps({"pad": "x" * pad}).encode()), place)
        if len(text) % 4 == remainder:
            return text
    raise AssertionError(name)


# The scenarios


def accepted_shapes():
    def good(name, comment, **fields):
        options = {key: fields.pop(key) for key in list(fields) if key in ("place", "type_", "policy", "now")}
        add(name, comment, "session", record(name, **fields), **options)

    tags = [s.tag_hash(b"shop", f"device {n}".encode()) for n in range(5)]
    flash = [["info", "Saved."]]
    good("minimal_anonymous", "anonymous, no flags, empty object", subject=b"", data=b"{}", refreshed=0)
    good("signed_in_browser_session", "subject, no flags")
    good("persistent", "flag bit 0", persistent=True, lifetime=2_592_000, idle=604_800)
    good("anonymous_persistent", "flag bit 0 without a subject: the anonymous column counts", subject=b"",
         persistent=True, lifetime=2_592_000, idle=604_800)  # fmt: skip
    good("tags_1", "one tag", tags=tags[:1])
    good("tags_4", "four tags, the most", tags=tags[:4])
    good("tags_equal", "two equal tags: nobody counts them", tags=tags[:1] * 2)
    good("flash_1_message", "one message", flash=flash)
    good("flash_8_messages", "eight messages, the most", flash=[["info", f"Message {n}"] for n in range(8)])
    good("persistent_with_tags_and_flash", "flag bits 0, 1 and 3; tags before flash", persistent=True, tags=tags[:2],
         flash=[["info", "Saved."], ["", "äöü ✓"]], lifetime=2_592_000, idle=604_800)  # fmt: skip
    good("subject_1_byte", "the shortest subject", subject=b"a")
    good("subject_255_bytes", "the longest subject", subject=b"s" * 255)
    good("subject_control_characters", "a subject may hold any code point", subject="a\x01\tb\x7f\x85\u2028c".encode())
    good("subject_not_ascii", "a subject of several scripts", subject="Zoë Ωmega 東京".encode())
    good("generation_65535", "the highest generation", generation=65535)
    good("idle_0", "no idle limit in the seal; the policy's counts", idle=0)
    good("lifetime_1", "a lifetime of one second", lifetime=1, refreshed=0, now=ISSUED + 1000)
    good("lifetime_largest", "the largest lifetime and idle: the policy's count", lifetime=2**32 - 1, idle=2**32 - 1)
    good("bearer_signed_in", "transport bearer, empty name", place=BEARER)
    good("realm_not_ascii", "lengths count bytes, not characters", place=Place("Bücher".encode(), "cookie", b"id"))
    good("realm_and_name_of_128_bytes", "the longest realm and name", place=Place(b"r" * 128, "cookie", b"n" * 128))
    good("data_text", "an application whose type is a text", data='"grüß dich"'.encode(), type_="text")
    good("data_white_space_around", "white space around the JSON value", data=b' \n{"cart":[7]}\r\n\t ')
    good("data_escapes", "escapes, a surrogate pair among them", data=rb'{"a":"\u00e4\ud83d\ude00\n\/","n":-1.5e3,"z":null}')
    good("data_nested_127_levels", "the deepest nesting", data=b'{"a":' + b"[" * 126 + b"]" * 126 + b"}")
    name = "flash_with_white_space"
    flash_text = b' [ [ "info" , "Saved." ] ] '
    add(name, "the flash block is any JSON text of the right shape", "session",
        raw(record(name), flags=8, blocks=lv(flash_text)))  # fmt: skip
    name = "token_4096_characters"
    rec = record(name, data=b"")
    fill = 3072 - 45 - len(rec.to_bytes()) - len(b'{"x":""}')
    rec = record(name, data=b'{"x":"' + b"x" * fill + b'"}')
    assert len(token(name, rec, BEARER)) == 4096
    add(name, "the longest token", "session", rec, place=BEARER)
    name = "token_4100_characters"
    rec = record(name, data=b'{"x":"' + b"x" * (fill + 3) + b'"}')
    assert len(token(name, rec, BEARER)) == 4100
    add(name, "authentic, but longer than 4096", "Malformed", rec, place=BEARER)


def malformed():
    def bad(name, comment, text, expect="Malformed", **options):
        add(name, comment, expect, text=text, place=BEARER, **options)

    head = b64_encode(b"\x01" + K1.id + b"\0")
    bad("token_empty", "no characters", "")
    bad("token_7_characters", "one character short of a header", head[:7])
    bad("token_8_characters", "a header alone", head)
    bad("token_59_characters", "one character short of nonce and tag", (head + "A" * 60)[:59])
    text = token("length_1_modulo_4", record("length_1_modulo_4"), BEARER)
    bad("length_1_modulo_4", "no byte string has this length in base64url", text + "A" * ((1 - len(text)) % 4))
    long = b64_encode(b"\x02" + K1.id + b"\0") + "A" * 4089
    bad("length_before_version", "4097 characters of version 2: the length is checked first", long)
    unknown = b64_encode(b"\x01" + K3.id + b"\0")
    bad("form_before_key", "the form is checked before the key: an unknown key id in 61 characters", unknown + "A" * 53)
    bad("version_before_length", "the version is checked before the length of the rest", b64_encode(bytes(6)), "Version")

    text = token("header_other_alphabet", record("header_other_alphabet"), BEARER)
    bad("header_other_alphabet", "'+' among the first 8 characters", altered(text, 5, "+"))
    bad("header_not_ascii", "a letter beyond ASCII among the first 8 characters", altered(text, 5, "ä"))
    bad("white_space_before", "a space before the token", " " + text)
    for version in (0, 2, 255):
        name = f"version_{version}"
        good = token(name, record(name), BEARER)
        data = bytes([version]) + s.b64_decode(good)[1:]
        bad(name, f"version byte {version}", b64_encode(data), "Version")

    text = token("white_space_inside", record("white_space_inside"), BEARER)
    bad("white_space_inside", "a space in the middle", text[:70] + " " + text[71:])
    text = ending("white_space_after", 2, BEARER)
    bad("white_space_after", "a space after the token", text + " ")
    bad("not_ascii_inside", "a letter beyond ASCII in the middle", text[:70] + "ä" + text[72:])
    bad("dot_inside", "the alphabet has no dot", text[:70] + "." + text[71:])
    name = "base64_standard_alphabet"
    for n in range(100):
        rec = record(name, data=json.dumps({"n": n}).encode())
        text = token(name, rec, BEARER)
        if "-" in text[8:] and "_" in text[8:] and len(text) % 4 != 1:
            break
    bad(name, "the alphabet with '+' and '/'", text[:8] + text[8:].replace("-", "+").replace("_", "/"))

    for name, remainder in (("base64_padding_one", 3), ("base64_padding_two", 2)):
        text = ending(name, remainder)
        add(name, "an authentic token with padding", "Malformed", text=text + "=" * (4 - remainder))
    for name, remainder, bits in (("base64_trailing_bits_two", 3, 3), ("base64_trailing_bits_four", 2, 15)):
        text = ending(name, remainder)
        alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
        last = alphabet[alphabet.index(text[-1]) | 1]
        add(name, "an authentic token whose last character has a bit too many set", "Malformed", text=text[:-1] + last)
    name = "malformed_before_forged"
    text = ending(name, 3)
    text = altered(text, 100)
    last = alphabet[alphabet.index(text[-1]) | 1]
    add(name, "altered and not canonical: the alphabet is checked first", "Malformed", text=text[:-1] + last)


def keys():
    two = f"{T1};{T2} seal_from={stamp(NOW // 1000 * 1000 - HOUR)}"
    switched = NOW // 1000 * 1000
    closing = f"{T1} open_until={stamp(switched)};{T2} seal_from={stamp(switched - HOUR)}"

    def by(name, comment, expect, **options):
        add(name, comment, expect, record(name), **options)

    by("key_active_opens", "sealed under the active key of two", "session", keys=two, key=K2)
    by("key_accept_only_opens", "sealed under the key before the active one", "session", keys=two)
    by("key_pending_opens", "sealed under a key whose seal_from is to come: another clock runs ahead", "session",
       keys=f"{T1};{T2} seal_from={stamp(switched + DAY)}", key=K2)  # fmt: skip
    by("key_open_until_last_millisecond", "one millisecond before open_until", "session", keys=closing, now=switched - 1)
    by("key_open_until_reached", "now is open_until", "KeyExpired", keys=closing, now=switched)
    by("key_expired_with_offset", "the same instant written with an offset", "KeyExpired", now=switched,
       keys=f"{T1} open_until={stamp(switched + HOUR)[:-1]}+01:00;{T2} seal_from={stamp(switched - HOUR)}")  # fmt: skip
    by("key_revoked", "the key is marked revoked", "KeyRevoked", keys=f"{T1} revoked;{T2} seal_from={stamp(switched - HOUR)}")
    by("key_revoked_and_past_open_until", "revoked wins over the dates", "KeyRevoked", now=switched + DAY,
       keys=closing.replace(";", " revoked;"))  # fmt: skip
    by("keys_with_comments_and_blank_lines", "comments, blank lines, white space, words in any order", "session", key=K2,
       keys=f"# newest last;;  {T1}\topen_until={stamp(switched + DAY)} seal_from={stamp(switched - DAY)} ; #{T3};"
       f"{T2}   seal_from={stamp(switched - HOUR)};;")  # fmt: skip
    by("kid_unknown", "sealed under a key that is not in the ring", "KeyUnknown", key=K3)
    unknown = b64_encode(b"\x01" + K3.id + b"\0")
    add("kid_unknown_60_characters", "the shortest token that gets as far as the key", "KeyUnknown", text=unknown + "A" * 52)
    name = "key_before_alphabet"
    text = token(name, record(name), key=K3)
    add(name, "the key is looked up before the rest is decoded", "KeyUnknown", text=text[:70] + "!" + text[71:])
    for name, expect, ring in (
        ("key_expired_before_forged", "KeyExpired", closing),
        ("key_revoked_before_forged", "KeyRevoked", f"{T1} revoked;{T2} seal_from={stamp(switched - HOUR)}"),
    ):
        text = altered(token(name, record(name)), 100)
        add(name, "altered, and under a key that opens nothing", expect, text=text, keys=ring, now=switched)
    name = "kid_of_another_key"
    good = s.b64_decode(token(name, record(name)))
    add(name, "the key id of another key of the ring", "Forged", text=b64_encode(good[:1] + K2.id + good[5:]), keys=two)


def forged():
    def bad(name, comment, change, **options):
        add(name, comment, "Forged", text=change(token(name, record(name))), **options)

    bad("nonce_altered", "one character of the nonce changed", lambda text: altered(text, 20))
    bad("ciphertext_altered", "one character of the ciphertext changed", lambda text: altered(text, 60))
    bad("tag_altered", "one character of the tag changed", lambda text: altered(text, len(text) - 4))
    bad("tag_truncated", "the last byte of the tag cut off", lambda text: b64_encode(s.b64_decode(text)[:-1]))
    bad("tag_missing", "the whole tag cut off", lambda text: b64_encode(s.b64_decode(text)[:-16]))
    bad("token_extended", "three bytes too many", lambda text: text + "AAAA")
    head = b64_encode(b"\x01" + K1.id + b"\0")
    add("garbage_60_characters", "the shortest token that gets as far as authentication", "Forged", text=head + "A" * 52)
    a, b = (token(n, record(n)) for n in ("half a", "half b"))
    add("halves_of_two_tokens", "nonce of one token, ciphertext and tag of another", "Forged", text=a[:40] + b[40:])

    def place(name, comment, sealed, opened):
        add(name, comment, "Forged", record(name), place=sealed, at=opened)

    place("wrong_realm", "sealed for another realm", Place(b"forum", "cookie", COOKIE.name), COOKIE)
    place("wrong_realm_case", "realms differ in letter case", Place(b"Shop", "cookie", COOKIE.name), COOKIE)
    place("wrong_name", "sealed for another cookie", Place(b"shop", "cookie", b"other"), COOKIE)
    place("wrong_name_case", "names differ in letter case", Place(b"shop", "cookie", b"ID"), Place(b"shop", "cookie", b"id"))
    place("cookie_token_as_bearer", "sealed for a cookie", COOKIE, BEARER)
    place("bearer_token_as_cookie", "sealed for bearer", BEARER, COOKIE)
    place("realm_and_name_shifted", "realm ab and name c against realm a and name bc", Place(b"ab", "cookie", b"c"),
          Place(b"a", "cookie", b"bc"))  # fmt: skip
    name = "aad_without_lengths"
    aad = b"sealed-session v1\x01" + K1.id + b"shop" + b"cookie" + COOKIE.name
    add(name, "associated data joined without lengths", "Forged", record(name), aad=aad)
    add("sealed_with_root_key", "the root key in place of the seal key", "Forged", record("root"), seal_key=K1.root)
    add("sealed_with_csrf_key", "the csrf key in place of the seal key", "Forged", record("csrf"), seal_key=K1.csrf_key)
    name = "forged_before_expired"
    text = altered(token(name, record(name)), 60)
    add(name, "altered and expired", "Forged", text=text, now=ISSUED + 400 * DAY)


def records():
    def bad(name, comment, plain, expect="Record", **options):
        add(name, comment, expect, plain, **options)

    def build(name, comment, **parts):
        fields = {key: parts.pop(key) for key in list(parts) if key in ("data",)}
        bad(name, comment, raw(record(name, **fields), **parts))

    tags = [s.tag_hash(b"shop", f"device {n}".encode()) for n in range(5)]
    bad("record_empty", "authentic, no record", b"")
    full = record("record_38_bytes", subject=b"", data=b"").to_bytes()
    bad("record_38_bytes", "one byte short of the fixed part", full[:38])
    full = record("record_39_bytes", subject=b"", data=b"").to_bytes()
    bad("record_39_bytes", "the fixed part alone is a record, but has no data", full, "Data")
    build("flag_bit_02_reserved", "flag bit 2 is reserved", flags=1 << 2)
    for bit in range(4, 16):
        build(f"flag_bit_{bit:02}", f"flag bit {bit} is unknown", flags=1 << bit)
    build("lifetime_0", "a lifetime of 0", lifetime=0)
    build("subject_beyond_the_end", "subject length beyond the end", subject=b"\xffalice")
    build("subject_not_utf8", "a lone continuation byte", subject=b"\x03a\x80b")
    build("subject_surrogate", "a surrogate in UTF-8's manner", subject=b"\x03\xed\xa0\x80")
    build("subject_overlong_utf8", "an overlong form", subject=b"\x02\xc1\xa1")
    build("tags_0", "tags announced, count 0", flags=2, blocks=b"\0")
    build("tags_5", "five tags", flags=2, blocks=b"\x05" + b"".join(tags))
    build("tags_count_missing", "tags announced at the end of the record", flags=2, data=b"")
    build("tags_truncated", "two tags announced, bytes for less", flags=2, blocks=b"\x02" + tags[0] + tags[1][:5], data=b"")
    build("flash_length_truncated", "one byte of the flash length", flags=8, blocks=b"\0", data=b"")
    build("flash_truncated", "flash length beyond the end", flags=8, blocks=b"\x01\0" + b'[["info","Saved."]]')
    for name, comment, text in (
        ("flash_0_messages", "an empty array", b"[]"),
        ("flash_9_messages", "nine messages", json.dumps([["info", str(n)] for n in range(9)]).encode()),
        ("flash_empty_block", "flash length 0", b""),
        ("flash_not_json", "not JSON", b'[["info","Saved."]'),
        ("flash_not_utf8", "not UTF-8", b'[["info","\xff"]]'),
        ("flash_object", "an object", b'{"info":"Saved."}'),
        ("flash_one_string", "a message of one string", b'[["Saved."]]'),
        ("flash_three_strings", "a message of three strings", b'[["info","Saved.","x"]]'),
        ("flash_number", "a message with a number", b'[["info",1]]'),
        ("flash_trailing_bytes", "a byte after the array", b'[["info","Saved."]]x'),
        ("flash_lone_surrogate", "an escape that makes the first half of a pair", rb'[["info","\ud800"]]'),
        ("flash_lone_low_surrogate", "an escape that makes the second half of a pair", rb'[["info","\udc00"]]'),
    ):
        build(name, f"flash: {comment}", flags=8, blocks=lv(text))
    name = "record_before_expired"
    bad(name, "an unknown flag, and expired", raw(record(name), flags=16), now=ISSUED + 400 * DAY)

    def data(name, comment, data, **options):
        add(name, comment, "Data", record(name, data=data), **options)

    data("data_empty", "no data", b"")
    data("data_not_json", "not JSON", b"{cart:7}")
    data("data_not_utf8", "not UTF-8", b'{"a":"\xff"}')
    data("data_byte_order_mark", "a byte order mark", b"\xef\xbb\xbf{}")
    data("data_trailing_bytes", "a zero byte after the object", b"{}\0")
    data("data_nan", "NaN is not JSON", b'{"a":NaN}')
    data("data_lone_surrogate", "an escape that makes half a pair", rb'{"a":"\ud800"}')
    data("data_lone_low_surrogate", "an escape that makes the second half of a pair", rb'{"a":"\udc00"}')
    data("data_array", "an array where an object is asked for", b"[7]")
    data("data_null", "null where an object is asked for", b"null")
    data("data_text_as_map", "a text where an object is asked for", b'"hello"')
    data("data_map_as_text", "an object where a text is asked for", b"{}", type_="text")
    data("data_nested_128_levels", "one level too deep", b'{"a":' + b"[" * 127 + b"]" * 127 + b"}")


def times():
    def edge(name, comment, limit, kind, policy="", **fields):
        """Both sides of a limit: `limit` is the last millisecond alive, from issued_at."""
        for suffix, now, expect in (("last_millisecond", limit, "session"), ("passed", limit + 1, kind)):
            full = f"{name}_{suffix}"
            side = "the last millisecond" if expect == "session" else "one millisecond later"
            add(full, f"{comment}: {side}", expect, record(full, **fields), now=ISSUED + now, policy=policy)

    long = 2**31
    edge("absolute_sealed", "the sealed lifetime is shorter", 3600_000, "Expired", lifetime=3600, refreshed=3000)
    edge("absolute_policy", "the policy's absolute limit is shorter", 7200_000, "Expired", "absolute=7200",
         lifetime=long, refreshed=7000)  # fmt: skip
    edge("absolute_default", "browser session, 12 h", 12 * HOUR, "Expired", lifetime=long, refreshed=43_000)
    edge("absolute_remember", "remember me, 30 d", 30 * DAY, "Expired", lifetime=long, idle=long, refreshed=2_500_000,
         persistent=True)  # fmt: skip
    edge("absolute_anonymous", "anonymous, 12 h", 12 * HOUR, "Expired", lifetime=long, refreshed=43_000, subject=b"")
    edge("idle_sealed", "the sealed idle limit is shorter", 60_000 + 300_000, "Idle", idle=300)
    edge("idle_policy", "the policy's idle limit is shorter", 60_000 + 600_000, "Idle", "idle=600", idle=long)
    edge("idle_default", "browser session, 30 min", 60_000 + 1_800_000, "Idle", idle=long)
    edge("idle_remember", "remember me, 7 d", 60_000 + 7 * DAY, "Idle", idle=long, lifetime=long, persistent=True)
    edge("idle_0_takes_policy", "no idle limit in the seal, 30 min in the policy", 60_000 + 1_800_000, "Idle", idle=0)
    edge("idle_without_policy", "no idle limit in the policy, 10 min in the seal", 60_000 + 600_000, "Idle", "idle=0", idle=600)

    def one(name, comment, expect, now=NOW, policy="", facts=(), **fields):
        add(name, comment, expect, record(name, **fields), now=now, policy=policy, facts=facts)

    one("idle_none_at_all", "no idle limit anywhere: alive to the absolute limit", "session", ISSUED + 12 * HOUR, "idle=0",
        idle=0)  # fmt: skip
    one("idle_counts_from_refreshed_at", "refreshed late in a long session", "session", ISSUED + 10 * HOUR, refreshed=35_000)
    one("anonymous_persistent_takes_anonymous_limits", "flag bit 0 lengthens nothing for an anonymous session", "Expired",
        ISSUED + 12 * HOUR + 1, subject=b"", persistent=True, lifetime=long, idle=long, refreshed=43_000)  # fmt: skip
    one("expired_before_idle", "past both limits", "Expired", ISSUED + 2 * DAY)
    everyone = (f"everyone before {ISSUED}",)
    one("expired_before_revoked", "past the absolute limit and revoked", "Expired", ISSUED + 2 * DAY, facts=everyone)
    one("idle_before_revoked", "past the idle limit and revoked", "Idle", ISSUED + HOUR, facts=everyone)
    one("issued_at_ahead_within_skew", "issued 121 s ahead: 2 x 60 s + 1 s", "session", ISSUED - 121_000, refreshed=0)
    one("issued_at_ahead_beyond_skew", "issued 121.001 s ahead", "NotYet", ISSUED - 121_001, refreshed=0)
    one("refreshed_at_ahead_within_skew", "refreshed 121 s ahead", "session", ISSUED + 600_000 - 121_000, refreshed=600)
    one("refreshed_at_ahead_beyond_skew", "refreshed 121.001 s ahead", "NotYet", ISSUED + 600_000 - 121_001, refreshed=600)
    one("within_policy_skew", "clock_skew 10 s: 21 s ahead", "session", ISSUED - 21_000, "clock_skew=10", refreshed=0)
    one("not_yet_with_policy_skew", "clock_skew 10 s: 21.001 s ahead", "NotYet", ISSUED - 21_001, "clock_skew=10", refreshed=0)
    one("issued_at_largest", "the largest issued_at and refreshed: no sum wraps", "NotYet", issued_at=2**48 - 1, refreshed=2**32 - 1)
    one("not_yet_before_expired", "refreshed in the future, past the absolute limit", "NotYet", ISSUED + 2 * DAY, refreshed=10**6)
    one("not_yet_before_revoked", "from the future and revoked", "NotYet", ISSUED - 10**6, facts=everyone)


def revocations():
    tag = s.tag_hash(b"shop", b"https://idp.example sid 42")

    def one(name, comment, expect, *facts, **fields):
        own = b64_encode(seed(f"id {name}", 16))
        other = b64_encode(other_id(name))
        facts = [fact.format(own=own, other=other, t=ISSUED, before=ISSUED - 1) for fact in facts]
        add(name, comment, expect, record(name, **fields), facts=facts)

    one("revoked_session_all", "all generations of this id", "Revoked", "session {own} all")
    one("revoked_session_all_generation_65535", "all means the highest generation too", "Revoked", "session {own} all",
        generation=65535)  # fmt: skip
    one("revoked_session_below", "an outdated generation", "Revoked", "session {own} below 3", generation=2)
    one("revoked_session_below_equal", "the generation that renew made", "session", "session {own} below 3", generation=3)
    one("revoked_other_session", "another id", "session", "session {other} all")
    one("revoked_subject_same_millisecond", "issued in the millisecond of the fact", "Revoked", "subject alice before {t}")
    one("revoked_subject_later_sign_in", "issued one millisecond later", "session", "subject alice before {before}")
    one("revoked_subject_refreshed_later", "issued_at counts, not refreshed_at", "Revoked", "subject alice before {t}", refreshed=80)
    one("revoked_subject_other_case", "subjects are compared byte for byte", "session", "subject Alice before {t}")
    one("revoked_subject_not_normalized", "one letter and two code points against one", "session",
        "subject Zo\u00eb before {t}", subject="Zoe\u0308".encode())  # fmt: skip
    one("revoked_subject_except", "the excepted session", "session", "subject alice before {t} except {own}")
    one("revoked_subject_except_other", "another session is excepted", "Revoked", "subject alice before {t} except {other}")
    text = "tag https://idp.example sid 42 before "
    one("revoked_tag", "one of two tags", "Revoked", text + "{t}", tags=[s.tag_hash(b"shop", b"laptop"), tag])
    one("revoked_tag_later_sign_in", "issued one millisecond later", "session", text + "{before}", tags=[tag])
    one("revoked_tag_other", "another tag", "session", "tag https://idp.example sid 43 before {t}", tags=[tag])
    one("revoked_tag_of_another_realm", "the same value, hashed in another realm", "session", text + "{t}",
        tags=[s.tag_hash(b"forum", b"https://idp.example sid 42")])  # fmt: skip
    one("revoked_tag_except", "the excepted session", "session", text + "{t} except {own}", tags=[tag])
    one("revoked_everyone", "everyone", "Revoked", "everyone before {t}")
    one("revoked_everyone_later_sign_in", "issued one millisecond later", "session", "everyone before {before}")
    one("revoked_everyone_anonymous", "anonymous sessions are among everyone", "Revoked", "everyone before {t}", subject=b"")
    one("revoked_everyone_except", "the excepted session", "session", "everyone before {t} except {own}")
    one("revoked_except_one_fact_of_two", "an exception spares from its own fact only", "Revoked",
        "everyone before {t} except {own}", "subject alice before {t}")  # fmt: skip
    one("revoked_before_data", "revoked, with data that do not decode", "Revoked", "session {own} all", data=b"[")


def known_answers():
    ring_text = f"{T1};{T2} seal_from={stamp(NOW // 1000 * 1000 - HOUR)}"
    ring = s.Ring(ring_text, NOW)
    session_id, candidates = seed("known id", 16), [b"AQAAAAAB", b"AQAAAAAA"]
    binding = s.withheld_binding(candidates)
    lines = []
    for n, key in ((1, K1), (2, K2), (3, K3)):
        values = (key.root.hex(), key.seal_key.hex(), key.csrf_key.hex(), key.id.hex(), s.key_text(key.root))
        lines += [f"key_{n}_{what}: {value}" for what, value in zip(("root", "seal", "csrf", "id", "text"), values)]
    lines += [
        f"now: {NOW}",
        f"keys: {ring_text}",
        "realm: shop",
        "name: __Host-Http-id",
        "tag: https://idp.example sid 42",
        f"tag_hash: {s.tag_hash(b'shop', b'https://idp.example sid 42').hex()}",
        f"id: {b64_encode(session_id)}",
        f"csrf_token: {s.csrf_token(ring, COOKIE, NOW, session_id, seed('known random', 16))}",
        f"candidate_1: {candidates[0].decode()}",
        f"candidate_2: {candidates[1].decode()}",
        f"withheld_binding: {binding.hex()}",
        f"withheld_csrf_token: {s.csrf_token(ring, COOKIE, NOW, binding, seed('known random 2', 16))}",
    ]
    return "\n".join(lines) + "\n"


def rings():
    now = NOW // 1000 * 1000
    past, ahead, far = (stamp(now + hours * HOUR) for hours in (-1, 1, 2))
    pattern = s.key_text(bytes(range(1, 33)))
    few = s.key_text(bytes(n % 15 for n in range(32)))
    typo = altered(T2, 30)
    last = altered(T2, 61, "B" if T2[61] != "B" else "C")
    rows = [
        ("active", T1),
        ("active pending", f"{T1};{T2} seal_from={ahead}"),
        ("accept-only active", f"{T1};{T2} seal_from={past}"),
        ("accept-only active", f"{T1} open_until={ahead};{T2} seal_from={stamp(now)}"),
        ("expired active", f"{T1} open_until={stamp(now)};{T2} seal_from={past}"),
        ("revoked active", f"{T1} revoked;{T2} seal_from={past}"),
        ("active revoked", f"{T1};{T2} seal_from={past} revoked"),
        ("accept-only active pending", f"{T1};{T2} seal_from={past};{T3} seal_from={ahead}"),
        ("active accept-only", f"{T1} seal_from={past};{T2}"),
        ("active", f"# comment;;  {T1} ; # {T2}"),
        ("active pending", f"{T1};{T2} seal_from={stamp(now + 2 * HOUR)[:-1]}+01:00"),
        ("refused 1", "sealsess_k1_"),
        ("refused 1", T1[:61]),
        ("refused 1", T1 + "A"),
        ("refused 1", T1.replace("sealsess", "Sealsess")),
        ("refused 2", f"{T1};{typo} seal_from={past}"),
        ("refused 2", f"{T1};{last} seal_from={past}"),
        ("refused 1", pattern),
        ("refused 1", s.key_text(bytes(range(64, 32, -1)))),
        ("refused 1", s.key_text(bytes(n * 7 % 256 for n in range(32)))),
        ("refused 1", s.key_text(bytes([7] * 32))),
        ("revoked active", f"{pattern} revoked;{T1}"),
        ("revoked active", f"{T1} revoked;{T2}"),
        ("revoked active", f"{T1} seal_from={past} revoked;{T2} seal_from={past}"),
        ("refused 1", f"{T1} open_until={far};{T2} seal_from={past} revoked"),
        ("accept-only active", f"{T1} open_until={ahead};{T2} seal_from={stamp(now - 1000)}"),
        ("active pending", f"{T1} open_until={ahead};{T2} seal_from={ahead}"),
        ("refused 1", f"{T1} open_until={ahead};{T2} seal_from={far}"),
        ("refused 2", f"{T1};{T2} seal_from={past[:-1]}z"),
        ("refused 2", f"{T1};{T2} seal_from=1969-12-31T23:59:59Z"),
        ("refused 1", few),
        ("refused 1 (published)", T1),
        ("refused 1", f"{T1} revokd"),
        ("refused 1", f"{T1} Revoked"),
        ("refused 1", f"{T1} revoked=yes"),
        ("refused 1", f"{T1} seal_from="),
        ("refused 1", f"{T1} # comment"),
        ("refused 2", f"{T1};{T2} seal_from={past} seal_from={past}"),
        ("refused 2", f"{T1};{T2} seal_from={past[:-1]}"),
        ("refused 2", f"{T1};{T2} seal_from={past[:-1]}.5Z"),
        ("refused 2", f"{T1};{T2} seal_from={past.replace('T', 't').replace('Z', 'z')}"),
        ("refused 2", f"{T1};{T2} seal_from={past.replace('T', '_')}"),
        ("refused 2", f"{T1};{T2} seal_from=2016-12-31T23:59:60Z"),
        ("refused 2", f"{T1};{T2} seal_from=2026-13-01T00:00:00Z"),
        ("refused 2", f"{T1};{T2} seal_from=2026-02-29T00:00:00Z"),
        ("refused 2", f"{T1};{T1} seal_from={past}"),
        ("refused 2", f"{T1};{T2}"),
        ("refused 3", f"{T1};{T2} seal_from={past};{T3} seal_from={past}"),
        ("refused 2", f"{T1};{T2} seal_from={past} open_until={far}"),
        ("refused 1", f"{T1} open_until={far}"),
        ("refused", ""),
        ("refused", "# no key"),
        ("refused", f"{T1} seal_from={ahead}"),
        ("refused", f"{T1} revoked"),
        ("refused", f"{T1} revoked;{T2} seal_from={ahead}"),
    ]
    return "".join(f"{now} | {expected} | {text}\n" for expected, text in rows)


def csrf():
    """CSRF tokens to accept and to refuse."""
    second = NOW // 1000 * 1000
    past, ahead = stamp(second - HOUR), stamp(second + HOUR)
    mine, other = seed("csrf id", 16), seed("csrf other id", 16)
    two = f"{T1};{T2} seal_from={past}"
    random = seed("csrf random", 16)
    good = s.csrf_token(s.Ring(T1, NOW), COOKIE, NOW, mine, random)
    pending = s.csrf_token(s.Ring(T2, NOW), COOKIE, NOW, mine, random)
    shifted = s.csrf_token(s.Ring(T1, NOW), Place(b"shop_", "cookie", COOKIE.name[1:]), NOW, mine, random)
    loose = good[:-1] + chr(ord(good[-1]) + 1)
    rows = [
        ("accepted", T1, "shop", mine, good, "active key"),
        ("accepted", two, "shop", mine, good, "accept-only key"),
        ("accepted", f"{T1};{T2} seal_from={ahead}", "shop", mine, pending, "pending key"),
        ("Csrf", f"{T1} open_until={stamp(second)};{T2} seal_from={past}", "shop", mine, good, "expired key"),
        ("Csrf", f"{T1} revoked;{T2} seal_from={past}", "shop", mine, good, "revoked key"),
        ("Csrf", T2, "shop", mine, good, "unknown key"),
        ("Csrf", T1, "shop", other, good, "another session"),
        ("Csrf", T1, "forum", mine, good, "another realm"),
        ("Csrf", T1, "shop", mine, shifted, "realm and name shifted by one byte"),
        ("Csrf", T1, "shop", mine, altered(good, 10), "random altered"),
        ("Csrf", T1, "shop", mine, altered(good, 40), "mac altered"),
        ("Csrf", T1, "shop", mine, good[:-3], "truncated"),
        ("Csrf", T1, "shop", mine, good + "AA", "extended"),
        ("Csrf", T1, "shop", mine, good + "==", "padding"),
        ("Csrf", T1, "shop", mine, loose, "trailing bits"),
        ("Csrf", T1, "shop", mine, "", "empty"),
        ("accepted", T1, "shop", s.withheld_binding([b"a", b"ab"]),
         s.csrf_token(s.Ring(T1, NOW), COOKIE, NOW, s.withheld_binding([b"ab", b"a", b"ab"]), random), "withheld"),
    ]  # fmt: skip
    return "".join(
        f"{second} | {expected} | {ring} | {realm} | __Host-Http-id | {binding.hex()} | {text} | {comment}\n"
        for expected, ring, realm, binding, text, comment in rows
    )


def example():
    """The worked example, as Markdown."""
    rec = Record(id=bytes(range(0xA0, 0xB0)), issued_at=ISSUED, refreshed=60, lifetime=43200, idle=1800, generation=1,
                 subject=b"alice", tags=[s.tag_hash(b"shop", b"laptop")], flash=[["info", "Saved."]],
                 data=b'{"cart":[7]}')  # fmt: skip
    nonce, plain, aad = bytes(range(24)), rec.to_bytes(), COOKIE.aad(K1.id)
    text = s.seal_bytes(K1.seal_key, K1.id, nonce, aad, plain)
    sealed = s.b64_decode(text)[29:]
    subkey = s.hchacha20(K1.seal_key, nonce[:16])
    ring = s.Ring(T1, NOW)
    random = bytes(range(0xC0, 0xD0))
    csrf = s.csrf_token(ring, COOKIE, NOW, rec.id, random)
    mac_input = lv(b"shop") + lv(COOKIE.name) + lv(rec.id) + lv(random)
    flash = b'[["info","Saved."]]'
    assert s.open_token(text.encode(), ring, COOKIE, NOW, Policy())["data"] == {"cart": [7]}
    fixed = [
        ("session id", plain[:16]), ("issued_at, 1796126400250", plain[16:22]), ("refreshed, 60", plain[22:26]),
        ("lifetime, 43200", plain[26:30]), ("idle, 1800", plain[30:34]), ("generation, 1", plain[34:36]),
        ("flags, bits 1 and 3", plain[36:38]), ('subject length and "alice"', plain[38:44]),
        ("tag count, 1", plain[44:45]), ('tag hash of "laptop"', plain[45:61]), ("flash length, 19", plain[61:63]),
        (flash.decode(), plain[63:82]), ('{"cart":[7]}', plain[82:]),
    ]  # fmt: skip
    assert b"".join(part for _, part in fixed) == plain

    def rows(data, width=32):
        return "\n".join("    " + data[i : i + width].hex() for i in range(0, len(data), width))

    blocks = [
        ("root key", 'SHA-256("sealed-session test key 1")', rows(K1.root)),
        ("key text", "", "    " + T1),
        ("CRC-32", "", "    " + s.b64_decode(T1[56:]).hex()),
        ("seal key", "", rows(K1.seal_key)),
        ("csrf key", "", rows(K1.csrf_key)),
        ("key id", "", rows(K1.id)),
        ("place", "", "    realm shop, transport cookie, name __Host-Http-id"),
        ("record", f"{len(plain)} bytes", "\n".join(f"    {part.hex():<40}  {what}" if len(part) < 32 else
                                                  f"    {part.hex()}\n    {'':<40}  {what}" for what, part in fixed)),
        ("record, in one piece", "", rows(plain)),
        ("nonce", "", rows(nonce)),
        ("associated data", f"{len(aad)} bytes", rows(aad)),
        ("HChaCha20 subkey", "", rows(subkey)),
        ("ciphertext", f"{len(sealed) - 16} bytes", rows(sealed[:-16])),
        ("tag", "", rows(sealed[-16:])),
        ("token", f"{len(text)} characters", "\n".join("    " + text[i : i + 80] for i in range(0, len(text), 80))),
        ("CSRF token: random", "", rows(random)),
        ("CSRF token: input of the MAC", f"{len(mac_input)} bytes", rows(mac_input)),
        ("CSRF token: MAC", "", rows(s.b64_decode(csrf)[20:])),
        ("CSRF token", f"{len(csrf)} characters", "    " + csrf),
    ]  # fmt: skip
    body = "\n".join(f"{title}{f' ({note})' if note else ''}\n{value}" for title, note, value in blocks)
    return (
        f"```text\n{body}\n```\n\nLong values are broken into lines. With now = {NOW} and the default policy the token opens as "
        f"the session of `alice`,\nexpires_at {ISSUED + 43_200_000}, idle_expires_at {rec.refreshed_at + 1_800_000}.\n"
    )


def write(path, text):
    """Creates the file; never changes one that exists."""
    data = text.encode("utf-8")
    if not path.exists():
        path.write_bytes(data)
    elif path.read_bytes() != data:
        raise SystemExit(f"{path} exists with other contents: vectors are added, never edited")


def check_spec():
    """The worked example stands in SECURITY.md; every vector is named there, and every name exists."""
    spec = SPEC.read_text("utf-8")
    if example() not in spec:
        raise SystemExit("SECURITY.md: the worked example is not what `make_vectors.py example` prints")
    named = set(re.findall(r"`(\w+)\.txt`", spec)) - {"known_answers", "rings", "csrf"}
    named |= {f"flag_bit_{bit:02}" for bit in range(4, 16)}
    for name in sorted(named ^ FILES.keys()):
        print(f"SECURITY.md: {name}.txt is {'named but does not exist' if name in named else 'not named'}")
    if named != FILES.keys():
        raise SystemExit(1)


def main(arguments):
    if arguments == ["example"]:
        print(example(), end="")
        return
    for scenarios in (accepted_shapes, malformed, keys, forged, records, times, revocations):
        scenarios()
    VECTORS.mkdir(exist_ok=True)
    for name, text in FILES.items():
        write(VECTORS / f"{name}.txt", text)
    write(HERE / "known_answers.txt", known_answers())
    write(HERE / "rings.txt", rings())
    write(HERE / "csrf.txt", csrf())
    check_spec()
    print(f"{len(FILES)} vectors")


if __name__ == "__main__":
    main(sys.argv[1:])
