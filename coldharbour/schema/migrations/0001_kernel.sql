-- The kernel's own tables: who runs, who may act, when the market is open, what happened.

create schema if not exists accounts;
create schema if not exists account_activities;

create table accounts.destinations (
    slug text primary key,
    name text not null,
    first_seen_at timestamptz not null default now()
);

-- One row per worker; destination is '' for the workers of the whole installation.
create table accounts.worker_status (
    destination text not null,
    kind text not null,
    service text not null,
    state text not null,
    detail text not null default '',
    since timestamptz not null,
    last_success timestamptz,
    last_error text,
    restarts integer not null default 0,
    lag_s double precision,
    host text not null,
    pid integer not null,
    updated_at timestamptz not null,
    primary key (destination, kind)
);

-- The fence: a holder whose epoch is no longer the newest may not act (an advisory lock alone is none).
create table accounts.worker_epochs (
    destination text not null,
    kind text not null,
    epoch bigint not null,
    holder text not null,
    acquired_at timestamptz not null default now(),
    primary key (destination, kind)
);

create table accounts.market_schedule (
    market text not null default 'us_equity',
    session_date date not null,
    pre_open_utc timestamptz not null,
    open_utc timestamptz not null,
    close_utc timestamptz not null,
    post_close_utc timestamptz not null,
    source text not null,
    fetched_at timestamptz not null default now(),
    primary key (market, session_date),
    check (pre_open_utc <= open_utc and open_utc < close_utc and close_utc <= post_close_utc)
);

create table accounts.events (
    id bigint generated always as identity primary key,
    destination text not null,
    at timestamptz not null,
    kind text not null,
    payload json not null,
    recorded_at timestamptz not null default now(),
    revision xid8 not null default pg_current_xact_id() -- whoever reads on from here misses nothing that commits late
);
create index events_by_destination on accounts.events (destination, id desc);
create index events_by_revision on accounts.events (revision, id);

-- The newest event that each plugin's observer was told of.
create table accounts.observers (
    plugin text primary key,
    revision xid8 not null,
    event_id bigint not null
);

-- Give a destination its partition of every table that is partitioned by destination.
create function accounts.ensure_partitions(slug text) returns void language plpgsql as $$
declare
    parent record;
begin
    for parent in
        select n.nspname, c.relname
        from pg_partitioned_table p
        join pg_class c on c.oid = p.partrelid
        join pg_namespace n on n.oid = c.relnamespace
        where n.nspname in ('accounts', 'account_activities')
    loop
        if to_regclass(format('%I.%I', parent.nspname, parent.relname || '_' || slug)) is null then
            execute format('create table %I.%I partition of %I.%I for values in (%L)',
                           parent.nspname, parent.relname || '_' || slug, parent.nspname, parent.relname, slug);
        end if;
    end loop;
end $$;
