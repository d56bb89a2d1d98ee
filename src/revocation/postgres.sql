-- The tables of `PostgresLog`, and functions that revoke inside a transaction of the application's own.
--
-- A log whose role may create them does so by itself. Otherwise run this once, as their owner:
--     psql --single-transaction --file postgres.sql
-- and give the role of the log
--     grant select, insert on sealed_session_lineage to ROLE;
--     grant select, insert, delete on sealed_session_facts to ROLE;
-- A role that only calls the functions needs `select` on both and `insert` on sealed_session_facts.
-- All of it lives in the first schema of the search_path. Running it again changes nothing.

-- One row for each list: a list that was lost gets another id.
create table if not exists sealed_session_lineage (
  list text primary key,
  id   bytea not null check (octet_length(id) = 16),
  born timestamptz not null default clock_timestamp()
);

create table if not exists sealed_session_facts (
  list       text not null,
  fact       bytea not null,
  -- When the fact can go, an hour later; null is never.
  until      timestamptz,
  -- Transactions end in another order than they begin in. With this a reader asks for those that had
  -- not ended when it last looked, instead of for those that began later.
  xid        xid8 not null default pg_current_xact_id(),
  written_at timestamptz not null default clock_timestamp(),
  primary key (list, fact)
);

create index if not exists sealed_session_facts_news on sealed_session_facts (list, xid, fact);
create index if not exists sealed_session_facts_ends on sealed_session_facts (list, until);

-- The first 16 bytes of SHA-256 over a label, and each part under its length as two bytes.
create or replace function sealed_session_hash(label text, variadic parts text[]) returns bytea
language plpgsql immutable as $$
declare
  bytes bytea := convert_to(label, 'UTF8');
  part text;
begin
  foreach part in array parts loop
    if octet_length(convert_to(part, 'UTF8')) > 65535 then
      raise exception 'sealed-session: a name of more than 65535 bytes';
    end if;
    bytes := bytes || substring(int4send(octet_length(convert_to(part, 'UTF8'))) from 3)
      || convert_to(part, 'UTF8');
  end loop;
  return substring(sha256(bytes) from 1 for 16);
end $$;

-- CRC-32 as in zip and PNG, by half bytes.
create or replace function sealed_session_crc32(bytes bytea) returns bytea
language plpgsql immutable as $$
declare
  halves constant bigint[] := array[
    0, 498536548, 997073096, 651767980, 1994146192, 1802195444, 1303535960, 1342533948,
    3988292384, 4027552580, 3604390888, 3412177804, 2607071920, 2262029012, 2685067896, 3183342108];
  crc bigint := 4294967295;
  byte bigint;
begin
  for i in 0 .. octet_length(bytes) - 1 loop
    byte := get_byte(bytes, i);
    crc := (crc >> 4) # halves[((crc # byte) & 15) + 1];
    crc := (crc >> 4) # halves[((crc # (byte >> 4)) & 15) + 1];
  end loop;
  return substring(int8send(crc # 4294967295) from 5);
end $$;

-- Adds a fact that ends sessions issued until `cut_off`; `head` is what stands before its `until`.
-- Its plans are kept for a session, so they must not be made for an empty table.
create or replace function sealed_session_add(in_list text, head bytea, cut_off timestamptz)
returns void language plpgsql set search_path from current
set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set jit = off as $$
declare
  -- The longest life of a session in this list: the greatest fact of kind 4.
  longest bigint := (
    select ('x' || encode(substring(f.fact from 2 for 6), 'hex'))::bit(48)::bigint
    from sealed_session_facts f
    where f.list = in_list and f.fact >= '\x04' and f.fact < '\x05' order by f.fact desc limit 1);
  milliseconds bigint := ceil(extract(epoch from cut_off) * 1000)::bigint
    + coalesce(longest, 400 * 86400000::bigint) + 120000;
  body bytea := head || substring(int8send(least(milliseconds, 281474976710655)) from 3);
begin
  if not exists (select from sealed_session_lineage l where l.list = in_list) then
    raise exception 'sealed-session: there is no list "%" here', in_list
      using hint = 'The first instance that follows a list makes it. Is the name right?';
  end if;
  insert into sealed_session_facts (list, fact, until)
    values (in_list, body || sealed_session_crc32(body), to_timestamp(milliseconds / 1000.0))
    on conflict do nothing;
  perform pg_notify(
    'sealed_session_' || encode(sealed_session_hash('sealed-session v1 channel', in_list), 'hex'), '');
end $$;

-- Ends every session under a key that was issued until now.
create or replace function sealed_session_cut(in_list text, key bytea, clock_skew interval)
returns void language plpgsql set search_path from current as $$
declare
  cut_off timestamptz := clock_timestamp() + clock_skew;
begin
  if cut_off is null then
    raise exception 'sealed-session: clock_skew must not be null';
  end if;
  perform sealed_session_add(in_list, '\x02'::bytea || key
    || substring(int8send(ceil(extract(epoch from cut_off) * 1000)::bigint) from 3), cut_off);
end $$;

-- Ends every session of a subject that was issued until now. Calls belong at the end of a
-- transaction: sessions that begin between the call, plus clock_skew, and the commit are not meant.
create or replace function sealed_session_revoke_subject(
  list text, realm text, subject text, clock_skew interval default '60 seconds'
) returns void language plpgsql set search_path from current as $$
begin
  if realm is null or subject is null or subject = '' then
    raise exception 'sealed-session: realm and subject must not be null, nor the subject empty';
  end if;
  perform sealed_session_cut(
    list, sealed_session_hash('sealed-session v1 subject', realm, subject), clock_skew);
end $$;

-- Ends every session of a realm that was issued until now, anonymous ones included.
create or replace function sealed_session_revoke_everyone(
  list text, realm text, clock_skew interval default '60 seconds'
) returns void language plpgsql set search_path from current as $$
begin
  if realm is null then
    raise exception 'sealed-session: realm must not be null';
  end if;
  perform sealed_session_cut(
    list, sealed_session_hash('sealed-session v1 realm', realm), clock_skew);
end $$;

-- Ends one session, in all its generations.
create or replace function sealed_session_revoke_session(
  list text, session_id bytea, clock_skew interval default '60 seconds'
) returns void language plpgsql set search_path from current as $$
begin
  if session_id is null or octet_length(session_id) <> 16 or clock_skew is null then
    raise exception 'sealed-session: a session id has 16 bytes, and clock_skew must not be null';
  end if;
  perform sealed_session_add(
    list, '\x01'::bytea || session_id || '\x00010000'::bytea, clock_timestamp() + clock_skew);
end $$;
