-- depends: 0001_kernel
-- The lake: everything the broker said. raw_json is `json`, not `jsonb`: it keeps the broker's own bytes.
-- Within a partition `destination` is the same everywhere: an index begins with what it is for, so that a plan made
-- while a table is empty cannot choose another one.

create sequence account_activities.raw_events_id;
create table account_activities.raw_events (
    destination text not null,
    id bigint not null default nextval('account_activities.raw_events_id'),
    received_at timestamptz not null,
    connection uuid not null,
    event text,
    order_id uuid,
    execution_id text,
    frame bytea not null,
    primary key (destination, id)
) partition by list (destination);
create index raw_events_execution on account_activities.raw_events (execution_id)
    where execution_id is not null;

create table account_activities.raw_orders (
    destination text not null,
    id uuid not null,
    client_order_id text not null,
    status text not null,
    symbol text,
    side text,
    order_type text,
    order_class text,
    time_in_force text,
    position_intent text,
    qty numeric,
    notional numeric,
    filled_qty numeric not null,
    filled_avg_price numeric,
    limit_price numeric,
    stop_price numeric,
    trail_price numeric,
    trail_percent numeric,
    replaces uuid,
    replaced_by uuid,
    parent_id uuid,
    legs uuid[] not null default '{}', -- every order whose parent_id is this one
    legs_updated_at timestamptz, -- the newest change among the legs inside raw_json
    created_at timestamptz,
    updated_at timestamptz not null,
    submitted_at timestamptz,
    filled_at timestamptz,
    expired_at timestamptz,
    expires_at timestamptz,
    canceled_at timestamptz,
    failed_at timestamptz,
    replaced_at timestamptz,
    raw_json json not null,
    source text not null check (source in ('rest', 'stream')),
    ingested_at timestamptz not null default statement_timestamp(), -- not the clock's: COPY would add row by row
    revision xid8 not null default pg_current_xact_id(),
    primary key (id, destination)
) partition by list (destination);
create index raw_orders_revision on account_activities.raw_orders (revision);
create index raw_orders_submitted on account_activities.raw_orders (submitted_at);
create index raw_orders_replaces on account_activities.raw_orders (replaces) where replaces is not null;
create index raw_orders_replaced_by on account_activities.raw_orders (replaced_by)
    where replaced_by is not null;
create index raw_orders_parent on account_activities.raw_orders (parent_id) where parent_id is not null;
create index raw_orders_unfinished on account_activities.raw_orders (id)
    where status not in ('filled', 'canceled', 'expired', 'replaced', 'rejected');

create table account_activities.raw_activities (
    destination text not null,
    id text not null,
    execution_id text,
    activity_type text not null,
    transaction_time timestamptz,
    activity_date date,
    symbol text,
    side text,
    qty numeric,
    price numeric,
    net_amount numeric,
    order_id uuid,
    status text,
    raw_json json not null,
    source text not null check (source in ('rest', 'stream')),
    ingested_at timestamptz not null default statement_timestamp(),
    revision xid8 not null default pg_current_xact_id(),
    primary key (id, destination)
) partition by list (destination);
create unique index raw_activities_execution on account_activities.raw_activities (execution_id, destination);
create index raw_activities_revision on account_activities.raw_activities (revision);
create index raw_activities_order on account_activities.raw_activities (order_id) where order_id is not null;
create index raw_activities_time on account_activities.raw_activities (transaction_time);

create table account_activities.raw_history_meta (
    destination text not null primary key,
    earliest_order timestamptz,
    earliest_activity timestamptz,
    stream_alive_at timestamptz
) partition by list (destination);

create table account_activities.cursors (
    destination text not null,
    name text not null,
    position timestamptz not null,
    token text,
    complete_through timestamptz,
    updated_at timestamptz not null default now(),
    primary key (destination, name)
);

create sequence account_activities.gaps_id;
create table account_activities.gaps (
    destination text not null,
    id bigint not null default nextval('account_activities.gaps_id'),
    blind_from timestamptz not null,
    blind_to timestamptz,
    reason text not null,
    healed_at timestamptz,
    orders_recovered integer not null default 0,
    fills_recovered integer not null default 0,
    primary key (destination, id)
) partition by list (destination);

create table account_activities.quarantine (
    destination text not null,
    id bigint generated always as identity,
    received_at timestamptz not null,
    source text not null,
    reason text not null,
    raw bytea not null,
    primary key (destination, id)
);
create unique index quarantine_once on account_activities.quarantine (destination, source, md5(raw));
