#!/usr/bin/env python3
"""Token format v1 of sealed-session, implemented from SECURITY.md alone.

Python 3.11 or later, standard library only. A second opinion for tests: it is slow, it does not run in
constant time, and it accepts the published test keys. Never use it to serve requests.

    sealed_session.py open [VECTOR]      opens the token of a vector file (or stdin), prints JSON
    sealed_session.py seal               seals the JSON on stdin, prints the token
    sealed_session.py check DIR...       opens every vector in DIR, compares everything
    sealed_session.py selftest           known answers of the primitives, CSRF tokens, rings
"""

import base64
import calendar
import hashlib
import hmac
import json
import os
import re
import struct
import sys
import zlib
from dataclasses import dataclass, field
from pathlib import Path

# Primitives: RFC 8439 and draft-irtf-cfrg-xchacha-03

MASK = 0xFFFFFFFF
SIGMA = struct.unpack("<4I", b"expand 32-byte k")


def _rounds(state):
    s = list(state)

    def quarter(a, b, c, d):
        s[a] = (s[a] + s[b]) & MASK
        x = s[d] ^ s[a]
        s[d] = (x << 16 | x >> 16) & MASK
        s[c] = (s[c] + s[d]) & MASK
        x = s[b] ^ s[c]
        s[b] = (x << 12 | x >> 20) & MASK
        s[a] = (s[a] + s[b]) & MASK
        x = s[d] ^ s[a]
        s[d] = (x << 8 | x >> 24) & MASK
        s[c] = (s[c] + s[d]) & MASK
        x = s[b] ^ s[c]
        s[b] = (x << 7 | x >> 25) & MASK

    for _ in range(10):
        quarter(0, 4, 8, 12)
        quarter(1, 5, 9, 13)
        quarter(2, 6, 10, 14)
        quarter(3, 7, 11, 15)
        quarter(0, 5, 10, 15)
        quarter(1, 6, 11, 12)
        quarter(2, 7, 8, 13)
        quarter(3, 4, 9, 14)
    return s


def _chacha20_block(key, counter, nonce):
    state = (*SIGMA, *struct.unpack("<8I", key), counter, *struct.unpack("<3I", nonce))
    return struct.pack("<16I", *((a + b) & MASK for a, b in zip(_rounds(state), state)))


def _chacha20(key, counter, nonce, text):
    out = bytearray()
    for start in range(0, len(text), 64):
        stream = _chacha20_block(key, counter + start // 64, nonce)
        out += bytes(a ^ b for a, b in zip(text[start : start + 64], stream))
    return bytes(out)


def hchacha20(key, nonce16):
    s = _rounds((*SIGMA, *struct.unpack("<8I", key), *struct.unpack("<4I", nonce16)))
    return struct.pack("<8I", *s[0:4], *s[12:16])


def _poly1305(key, message):
    r = int.from_bytes(key[:16], "little") & 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF
    s = int.from_bytes(key[16:], "little")
    acc = 0
    for start in range(0, len(message), 16):
        block = message[start : start + 16] + b"\x01"
        acc = (acc + int.from_bytes(block, "little")) * r % ((1 << 130) - 5)
    return ((acc + s) & ((1 << 128) - 1)).to_bytes(16, "little")


def _aead_tag(key, nonce, aad, ciphertext):
    def padded(part):
        return part + bytes(-len(part) % 16)

    lengths = struct.pack("<QQ", len(aad), len(ciphertext))
    one_time_key = _chacha20_block(key, 0, nonce)[:32]
    return _poly1305(one_time_key, padded(aad) + padded(ciphertext) + lengths)


def chacha20_poly1305_seal(key, nonce, aad, plaintext):
    ciphertext = _chacha20(key, 1, nonce, plaintext)
    return ciphertext + _aead_tag(key, nonce, aad, ciphertext)


def chacha20_poly1305_open(key, nonce, aad, sealed):
    ciphertext, tag = sealed[:-16], sealed[-16:]
    if not hmac.compare_digest(tag, _aead_tag(key, nonce, aad, ciphertext)):
        return None
    return _chacha20(key, 1, nonce, ciphertext)


def xchacha20_poly1305_seal(key, nonce, aad, plaintext):
    subkey = hchacha20(key, nonce[:16])
    return chacha20_poly1305_seal(subkey, bytes(4) + nonce[16:], aad, plaintext)


def xchacha20_poly1305_open(key, nonce, aad, sealed):
    subkey = hchacha20(key, nonce[:16])
    return chacha20_poly1305_open(subkey, bytes(4) + nonce[16:], aad, sealed)


# Conventions


class Rejection(Exception):
    """A refusal because of what the client sent; `kind` is the name in SECURITY.md."""

    def __init__(self, kind):
        super().__init__(kind)
        self.kind = kind


class RingError(Exception):
    """A ring text that must be refused; `line` is the first faulty line, or None."""

    def __init__(self, line, reason):
        super().__init__(f"line {line}: {reason}" if line else reason)
        self.line = line


def b64_encode(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def b64_decode(text):
    """Decodes canonical base64url (bytes or str); None for anything else."""
    raw = text.encode("utf-8") if isinstance(text, str) else text
    if len(raw) % 4 == 1 or not re.fullmatch(rb"[A-Za-z0-9_-]*", raw):
        return None
    data = base64.urlsafe_b64decode(raw + b"=" * (-len(raw) % 4))
    return data if b64_encode(data).encode("ascii") == raw else None


def lv(data):
    return struct.pack(">H", len(data)) + data


def _refuse_constant(name):
    raise ValueError(f"{name} is not JSON")


def _check_json(value, depth=0):
    if isinstance(value, str):
        value.encode("utf-8")  # half a surrogate pair: UnicodeEncodeError, a ValueError
    elif isinstance(value, (list, dict)):
        if depth == 127:
            raise ValueError("nested too deep")
        for key in value if isinstance(value, dict) else ():
            key.encode("utf-8")
        for item in value.values() if isinstance(value, dict) else value:
            _check_json(item, depth + 1)


def parse_json(data):
    """Parses JSON in UTF-8; ValueError for anything else."""
    text = data.decode("utf-8")
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("nested too deep") from None
    _check_json(value)
    return value


# Keys


def _derive(root, label):
    return hmac.digest(root, label + b"\x01", "sha256")


@dataclass
class Key:
    root: bytes
    seal_from: int | None = None
    open_until: int | None = None
    revoked: bool = False
    line: int = 0

    def __post_init__(self):
        self.seal_key = _derive(self.root, b"sealed-session v1 seal")
        self.csrf_key = _derive(self.root, b"sealed-session v1 csrf")
        self.id = _derive(self.root, b"sealed-session key id")[:4]


def test_root(n):
    return hashlib.sha256(f"sealed-session test key {n}".encode("ascii")).digest()


def key_text(root):
    head = "sealsess_k1_" + b64_encode(root) + "_"
    return head + b64_encode(struct.pack(">I", zlib.crc32(head.encode("ascii"))))


def _parse_key_text(text, line):
    if len(text) != 62 or not text.startswith("sealsess_k1_") or text[55] != "_":
        raise RingError(line, "not a key text")
    root, crc = b64_decode(text[12:55]), b64_decode(text[56:])
    if root is None or crc is None:
        raise RingError(line, "not canonical base64url")
    if crc != struct.pack(">I", zlib.crc32(text[:56].encode("ascii"))):
        raise RingError(line, "wrong checksum")
    return root


def _is_patterned(root):
    steps = {(b - a) % 256 for a, b in zip(root, root[1:])}
    return len(set(root)) < 16 or len(steps) == 1


def _parse_instant(text, line):
    found = re.fullmatch(
        r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:Z|([+-])(\d\d):(\d\d))", text, re.ASCII
    )
    if not found:
        raise RingError(line, "not an instant with whole seconds and zone")
    year, month, day, hour, minute, second = map(int, found.groups()[:6])
    if not (1 <= month <= 12 and hour < 24 and minute < 60 and second < 60 and year >= 1):
        raise RingError(line, "no such instant")
    if not 1 <= day <= calendar.monthrange(year, month)[1]:
        raise RingError(line, "no such day")
    seconds = calendar.timegm((year, month, day, hour, minute, second))
    if found[7]:
        if int(found[8]) > 23 or int(found[9]) > 59:
            raise RingError(line, "no such offset")
        offset = int(found[8]) * 3600 + int(found[9]) * 60
        seconds -= offset if found[7] == "+" else -offset
    if not 0 <= seconds <= 253_402_300_799:
        raise RingError(line, "not in the years 1970 to 9999")
    return seconds * 1000


class Ring:
    """All keys of a ring text. Accepts the published test keys only if told so."""

    def __init__(self, text, now, test_keys=True):
        self.keys = []
        if len(text.encode("utf-8")) > 64 * 1024:
            raise RingError(None, "more than 64 KiB")
        for number, line in enumerate(re.split(r"[\n;]", text), 1):
            line = line.removesuffix("\r").strip(" \t")
            if line and not line.startswith("#"):
                self._add(_parse_line(line, number, test_keys))
        usable = [key for key in self.keys if not key.revoked]
        for key in usable:
            later = [_from(other) for other in usable if _from(other) > _from(key)]
            if key.open_until is not None and (not later or key.open_until < min(later)):
                raise RingError(key.line, "open_until without a later key, or before it seals")
        if self.active(now) is None:
            raise RingError(None, "no active key")

    def _add(self, key):
        if len(self.keys) == 16:
            raise RingError(key.line, "more than 16 keys")
        for other in self.keys:
            if other.id == key.id:
                raise RingError(key.line, "key stands twice")
            if other.seal_from == key.seal_from and not (key.revoked or other.revoked):
                raise RingError(key.line, "seal_from stands twice or is missing twice")
        self.keys.append(key)

    def find(self, key_id):
        return next((key for key in self.keys if key.id == key_id), None)

    def active(self, now):
        usable = [
            key
            for key in self.keys
            if not key.revoked
            and _from(key) <= now
            and (key.open_until is None or now < key.open_until)
        ]
        return max(usable, key=_from, default=None)

    def state(self, key, now):
        if key.revoked:
            return "revoked"
        if key.open_until is not None and key.open_until <= now:
            return "expired"
        if now < _from(key):
            return "pending"
        return "active" if key is self.active(now) else "accept-only"


def _from(key):
    return float("-inf") if key.seal_from is None else key.seal_from


def _parse_line(line, number, test_keys):
    text, *words = re.split(r"[ \t]+", line)
    key = Key(_parse_key_text(text, number), line=number)
    seen = set()
    for word in words:
        name, equals, value = word.partition("=")
        if name in seen:
            raise RingError(number, "word stands twice")
        seen.add(name)
        if name in ("seal_from", "open_until") and equals:
            setattr(key, name, _parse_instant(value, number))
        elif word == "revoked":
            key.revoked = True
        else:
            raise RingError(number, "unknown word")
    if not key.revoked and _is_patterned(key.root):
        raise RingError(number, "patterned key")
    if not (key.revoked or test_keys) and key.root in [test_root(n) for n in (1, 2, 3)]:
        raise RingError(number, "published test key")
    return key


# Record and token


@dataclass
class Record:
    id: bytes
    issued_at: int
    refreshed: int = 0
    lifetime: int = 12 * 3600
    idle: int = 30 * 60
    generation: int = 0
    persistent: bool = False
    tags: list = field(default_factory=list)
    flash: list = field(default_factory=list)
    subject: bytes = b""
    data: bytes = b"{}"

    @property
    def refreshed_at(self):
        return self.issued_at + self.refreshed * 1000

    def to_bytes(self):
        flags = self.persistent | bool(self.tags) << 1 | bool(self.flash) << 3
        blocks = b""
        if self.tags:
            blocks += bytes([len(self.tags)]) + b"".join(self.tags)
        if self.flash:
            text = json.dumps(self.flash, ensure_ascii=False, separators=(",", ":"))
            blocks += lv(text.encode("utf-8"))
        return (
            self.id
            + self.issued_at.to_bytes(6, "big")
            + struct.pack(">IIIHH", self.refreshed, self.lifetime, self.idle, self.generation, flags)
            + bytes([len(self.subject)])
            + self.subject
            + blocks
            + self.data
        )

    @classmethod
    def from_bytes(cls, raw):
        rest = raw

        def take(length):
            nonlocal rest
            if len(rest) < length:
                raise Rejection("Record")
            head, rest = rest[:length], rest[length:]
            return head

        session_id = take(16)
        issued_at = int.from_bytes(take(6), "big")
        refreshed, lifetime, idle, generation, flags = struct.unpack(">IIIHH", take(16))
        subject = take(take(1)[0])
        if flags & ~0b1011 or lifetime == 0:
            raise Rejection("Record")
        tags, flash = [], []
        if flags & 0b10:
            count = take(1)[0]
            if not 1 <= count <= 4:
                raise Rejection("Record")
            tags = [take(16) for _ in range(count)]
        try:
            subject.decode("utf-8")
            if flags & 0b1000:
                flash = parse_json(take(int.from_bytes(take(2), "big")))
                _check_flash(flash)
        except ValueError:
            raise Rejection("Record") from None
        persistent = bool(flags & 1)
        return cls(
            session_id, issued_at, refreshed, lifetime, idle, generation,
            persistent, tags, flash, subject, rest,
        )  # fmt: skip


def _check_flash(flash):
    good = isinstance(flash, list) and 1 <= len(flash) <= 8
    good = good and all(
        isinstance(message, list)
        and len(message) == 2
        and all(isinstance(part, str) for part in message)
        for message in flash
    )
    if not good:
        raise ValueError("not a flash block")


@dataclass
class Place:
    """What a token is bound to."""

    realm: bytes
    transport: str
    name: bytes

    def __post_init__(self):
        if not 1 <= len(self.realm) <= 128:
            raise ValueError("realm: 1 to 128 bytes")
        if self.transport == "bearer" and self.name:
            raise ValueError("name: empty for bearer")
        token = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}"
        if self.transport == "cookie" and not re.fullmatch(token, self.name):
            raise ValueError("name: an RFC 9110 token of 1 to 128 characters")
        if self.transport not in ("cookie", "bearer"):
            raise ValueError("transport: cookie or bearer")

    def aad(self, key_id):
        parts = lv(self.realm) + lv(self.transport.encode("ascii")) + lv(self.name)
        return b"sealed-session v1" + b"\x01" + key_id + parts


@dataclass
class Policy:
    """Limits in seconds: (absolute, idle) by column. Idle 0 is none."""

    anonymous: tuple = (12 * 3600, 30 * 60)
    remember: tuple = (30 * 86400, 7 * 86400)
    browser: tuple = (12 * 3600, 30 * 60)
    clock_skew: int = 60

    def column(self, record):
        if not record.subject:
            return self.anonymous
        return self.remember if record.persistent else self.browser


def tag_hash(realm, value):
    return hashlib.sha256(b"sealed-session v1 tag" + lv(realm) + lv(value)).digest()[:16]


def seal_bytes(seal_key, key_id, nonce, aad, record):
    return b64_encode(b"\x01" + key_id + nonce + xchacha20_poly1305_seal(seal_key, nonce, aad, record))


def seal(ring, place, now, record, nonce=None):
    key = ring.active(now)
    nonce = os.urandom(24) if nonce is None else nonce
    token = seal_bytes(key.seal_key, key.id, nonce, place.aad(key.id), record.to_bytes())
    if len(place.name) + len(token) > 4096:
        raise ValueError("name and token exceed 4096 octets")
    return token


def open_token(token, ring, place, now, policy, facts=(), type_="map"):
    """The algorithm of SECURITY.md, Opening; a dict of the session, or Rejection."""
    record = _authenticate(token, ring, place, now)
    absolute, idle = policy.column(record)

    latest = now + 2 * policy.clock_skew * 1000 + 1000
    if record.issued_at > latest or record.refreshed_at > latest:
        raise Rejection("NotYet")
    lifetime = min(record.lifetime, absolute) * 1000
    if now - record.issued_at > lifetime:
        raise Rejection("Expired")
    idle = min((limit for limit in (record.idle, idle) if limit), default=None)
    if idle is not None and now - record.refreshed_at > idle * 1000:
        raise Rejection("Idle")
    if any(_hits(fact, record, place) for fact in facts):
        raise Rejection("Revoked")
    try:
        data = parse_json(record.data)
        if not isinstance(data, {"map": dict, "text": str}[type_]):
            raise ValueError("another type")
    except ValueError:
        raise Rejection("Data") from None

    return {
        "id": b64_encode(record.id),
        "subject": record.subject.decode("utf-8"),
        "issued_at": record.issued_at,
        "refreshed_at": record.refreshed_at,
        "expires_at": record.issued_at + lifetime,
        "idle_expires_at": None if idle is None else record.refreshed_at + idle * 1000,
        "generation": record.generation,
        "persistent": record.persistent,
        "tags": [b64_encode(tag) for tag in record.tags],
        "flash": record.flash,
        "data": data,
    }


def _authenticate(token, ring, place, now):
    if not 8 <= len(token) <= 4096:
        raise Rejection("Malformed")
    header = b64_decode(token[:8])
    if header is None:
        raise Rejection("Malformed")
    if header[0] != 1:
        raise Rejection("Version")
    if len(token) < 60 or len(token) % 4 == 1:
        raise Rejection("Malformed")
    key = ring.find(header[1:5])
    if key is None:
        raise Rejection("KeyUnknown")
    state = ring.state(key, now)
    if state in ("expired", "revoked"):
        raise Rejection("KeyExpired" if state == "expired" else "KeyRevoked")
    raw = b64_decode(token)
    if raw is None:
        raise Rejection("Malformed")
    plain = xchacha20_poly1305_open(key.seal_key, raw[5:29], place.aad(key.id), raw[29:])
    if plain is None:
        raise Rejection("Forged")
    return Record.from_bytes(plain)


# Revocation facts


def parse_fact(text):
    """One fact in the words of a vector file, as a tuple (kind, what, limit, except_id)."""
    if found := re.fullmatch(r"session (\S+) (?:below (\d+)|(all))", text):
        return ("session", _id(found[1]), None if found[3] else int(found[2]), None)
    pattern = r"(?:(subject|tag) (.*)|(everyone)) before (\d+)(?: except (\S+))?"
    if found := re.fullmatch(pattern, text):
        what = (found[2] or "").encode("utf-8")
        return (found[1] or found[3], what, int(found[4]), found[5] and _id(found[5]))
    raise ValueError(f"no such fact: {text}")


def _id(text):
    data = b64_decode(text)
    if data is None or len(data) != 16:
        raise ValueError("a session id is 22 characters of base64url")
    return data


def _hits(fact, record, place):
    kind, what, limit, except_id = fact
    if kind == "session":
        return record.id == what and (limit is None or record.generation < limit)
    if record.issued_at > limit or record.id == except_id:
        return False
    if kind == "subject":
        return record.subject != b"" and record.subject == what
    return kind == "everyone" or tag_hash(place.realm, what) in record.tags


# CSRF tokens


def withheld_binding(candidates):
    values = b"".join(lv(value) for value in sorted(set(candidates)))
    return hashlib.sha256(b"sealed-session v1 withheld" + values).digest()


def _csrf_mac(key, place, binding, random):
    parts = lv(place.realm) + lv(place.name) + lv(binding) + lv(random)
    return hmac.digest(key.csrf_key, parts, "sha256")


def csrf_token(ring, place, now, binding, random=None):
    key, random = ring.active(now), os.urandom(16) if random is None else random
    return b64_encode(key.id + random + _csrf_mac(key, place, binding, random))


def verify_csrf(text, ring, place, now, binding):
    raw = b64_decode(text)
    key = ring.find(raw[:4]) if raw is not None and len(raw) == 52 else None
    if key is None or ring.state(key, now) in ("expired", "revoked"):
        raise Rejection("Csrf")
    if not hmac.compare_digest(raw[20:], _csrf_mac(key, place, binding, raw[4:20])):
        raise Rejection("Csrf")


# Vector files

REQUIRED = ("now", "keys", "realm", "transport", "name")
SESSION = ("id", "subject", "issued_at", "refreshed_at", "expires_at",
           "idle_expires_at", "generation", "persistent", "data")  # fmt: skip
OPTIONAL = ("comment", "expect", "policy", "type", *SESSION)


def parse_vector(raw):
    """(fields, facts, token) of a vector file; the token as bytes."""
    head, divider, token = raw.partition(b"\n\n")
    if not divider or not token.endswith(b"\n") or b"\n" in token[:-1]:
        raise ValueError("not header lines, an empty line and a token line")
    fields, facts = {}, []
    for line in head.decode("utf-8").split("\n"):
        name, colon, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "revocations" and colon:
            facts.append(parse_fact(value))
        elif not colon or name in fields or name not in REQUIRED + OPTIONAL:
            raise ValueError(f"unknown or repeated field: {name}")
        else:
            fields[name] = value
    for name in REQUIRED:
        if name not in fields:
            raise ValueError(f"missing field: {name}")
    return fields, facts, token[:-1]


def vector_policy(words):
    policy = Policy()
    for word in words.split():
        name, _, value = word.partition("=")
        if name == "clock_skew":
            policy.clock_skew = int(value)
        elif name in ("absolute", "idle"):
            # Only one column counts for a token, so the word may replace all three.
            for column in ("anonymous", "remember", "browser"):
                absolute, idle = getattr(policy, column)
                changed = (int(value), idle) if name == "absolute" else (absolute, int(value))
                setattr(policy, column, changed)
        else:
            raise ValueError(f"unknown policy word: {word}")
    return policy


def open_vector(raw):
    fields, facts, token = parse_vector(raw)
    now = int(fields["now"])
    place = Place(fields["realm"].encode(), fields["transport"], fields["name"].encode())
    ring = Ring(fields["keys"], now)
    policy = vector_policy(fields.get("policy", ""))
    try:
        opened = open_token(token, ring, place, now, policy, facts, fields.get("type", "map"))
        return fields, {"session": opened}
    except Rejection as rejection:
        return fields, {"rejection": rejection.kind}


def differences(raw):
    """What a vector expects and does not get, as lines of text."""
    fields, result = open_vector(raw)
    got = result.get("rejection", "session")
    if "expect" not in fields or got != fields["expect"]:
        return [f"expected {fields.get('expect')}, got {got}"]
    if got != "session":
        stray = [name for name in SESSION if name in fields]
        return [f"field of a session in a rejection: {name}" for name in stray]
    found = []
    for name in SESSION:
        value, want = result["session"][name], fields.get(name)
        if name == "data":
            same = want is not None and json.loads(want) == value
        else:
            same = want == {None: "none", True: "true", False: "false"}.get(_flag(value), str(value))
        if not same:
            found.append(f"{name}: expected {want}, got {value}")
    return found


def _flag(value):
    return value if value is None or isinstance(value, bool) else ""


# Commands


def command_open(path):
    raw = Path(path).read_bytes() if path else sys.stdin.buffer.read()
    _, result = open_vector(raw)
    print(json.dumps(result, ensure_ascii=False))


def command_seal():
    """Input: keys, realm, transport, name, now, record, and nonce (base64url) if it is to be fixed.

    Fields of record: id, subject, issued_at, refreshed_at, lifetime, idle, generation, persistent, tags
    (texts), flash, and data (JSON) or data_text (its exact text). All but data may be missing.
    """
    given = json.load(sys.stdin)
    now = given["now"]
    place = Place(given["realm"].encode(), given["transport"], given["name"].encode())
    fields = dict(given["record"])
    if "data_text" in fields:
        data = fields.pop("data_text")
    else:
        data = json.dumps(fields.pop("data"), ensure_ascii=False, separators=(",", ":"))
    issued_at = fields.pop("issued_at", now)
    refreshed_at = fields.pop("refreshed_at", issued_at)
    record = Record(
        id=_id(fields.pop("id")) if "id" in fields else os.urandom(16),
        issued_at=issued_at,
        refreshed=(refreshed_at - issued_at) // 1000,
        tags=[tag_hash(place.realm, tag.encode()) for tag in fields.pop("tags", [])],
        subject=fields.pop("subject", "").encode(),
        data=data.encode(),
        **fields,
    )
    nonce = b64_decode(given["nonce"]) if given.get("nonce") else None
    if nonce is not None and len(nonce) != 24:
        raise ValueError("a nonce has 24 bytes")
    if Record.from_bytes(record.to_bytes()) != record:
        raise ValueError("the record does not read back")
    print(seal(Ring(given["keys"], now), place, now, record, nonce))


def command_check(folders):
    selftest()
    passed = failed = 0
    for path in sorted(path for folder in folders for path in Path(folder).glob("*.txt")):
        try:
            found = differences(path.read_bytes())
        except (ValueError, RingError) as error:
            found = [f"unreadable: {error}"]
        passed, failed = passed + (not found), failed + bool(found)
        for line in found:
            print(f"{path.name}: {line}")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


def selftest():
    """Stops with AssertionError when a primitive or a known answer is wrong."""
    key, aad = bytes(range(0x80, 0xA0)), bytes.fromhex("50515253c0c1c2c3c4c5c6c7")
    text = (
        b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the "
        b"future, sunscreen would be it."
    )
    # RFC 8439 section 2.8.2
    nonce = bytes.fromhex("070000004041424344454647")
    sealed = bytes.fromhex(
        "d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d6"
        "3dbea45e8ca9671282fafb69da92728b1a71de0a9e060b2905d6a5b67ecd3b36"
        "92ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc"
        "3ff4def08e4b7a9de576d26586cec64b61161ae10b594f09e26a7e902ecbd0600691"
    )
    assert chacha20_poly1305_seal(key, nonce, aad, text) == sealed
    assert chacha20_poly1305_open(key, nonce, aad, sealed) == text
    # draft-irtf-cfrg-xchacha-03 appendix A.3.1
    nonce = bytes(range(0x40, 0x58))
    sealed = bytes.fromhex(
        "bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb"
        "731c7f1b0b4aa6440bf3a82f4eda7e39ae64c6708c54c216cb96b72e1213b452"
        "2f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff9"
        "21f9664c97637da9768812f615c68b13b52ec0875924c1c7987947deafd8780acf49"
    )
    assert xchacha20_poly1305_seal(key, nonce, aad, text) == sealed
    assert xchacha20_poly1305_open(key, nonce, aad, sealed) == text
    assert xchacha20_poly1305_open(key, nonce, aad + b"x", sealed) is None
    _check_rings(Path(__file__).with_name("rings.txt"))
    _check_known(Path(__file__).with_name("known_answers.txt"))
    _check_csrf(Path(__file__).with_name("csrf.txt"))


def _check_rings(path):
    for line in path.read_text("utf-8").splitlines():
        now, expected, text = line.split(" | ", 2)
        try:
            ring = Ring(text, int(now), test_keys="published" not in expected)
            got = " ".join(ring.state(key, int(now)) for key in ring.keys)
        except RingError as error:
            got = f"refused {error.line}" if error.line else "refused"
        assert got == expected.removesuffix(" (published)"), f"{line}\ngot {got}"


def _check_known(path):
    known = dict(line.split(": ", 1) for line in path.read_text("utf-8").splitlines())
    ring, now = Ring(known["keys"], int(known["now"])), int(known["now"])
    place = Place(known["realm"].encode(), "cookie", known["name"].encode())
    for n in (1, 2, 3):
        key = Key(test_root(n))
        values = (key.root.hex(), key.seal_key.hex(), key.csrf_key.hex(), key.id.hex(), key_text(key.root))
        for what, value in zip(("root", "seal", "csrf", "id", "text"), values):
            assert known[f"key_{n}_{what}"] == value, f"key_{n}_{what}"
    assert known["tag_hash"] == tag_hash(place.realm, known["tag"].encode()).hex(), "tag_hash"
    binding = withheld_binding([known["candidate_1"].encode(), known["candidate_2"].encode()])
    assert known["withheld_binding"] == binding.hex(), "withheld_binding"
    verify_csrf(known["csrf_token"], ring, place, now, _id(known["id"]))
    verify_csrf(known["withheld_csrf_token"], ring, place, now, binding)


def _check_csrf(path):
    for line in path.read_text("utf-8").splitlines():
        now, expected, keys, realm, name, binding, text, _ = line.split(" | ")
        place = Place(realm.encode(), "cookie", name.encode())
        try:
            verify_csrf(text, Ring(keys, int(now)), place, int(now), bytes.fromhex(binding))
            got = "accepted"
        except Rejection as rejection:
            got = rejection.kind
        assert got == expected, f"{line}\ngot {got}"


def main(arguments):
    match arguments:
        case ["open"] | ["open", _]:
            command_open(arguments[1] if len(arguments) == 2 else None)
        case ["seal"]:
            command_seal()
        case ["check", _, *_]:
            return command_check(arguments[1:])
        case ["selftest"]:
            selftest()
            print("ok")
        case _:
            print(__doc__.split("\n\n", 2)[2], file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
