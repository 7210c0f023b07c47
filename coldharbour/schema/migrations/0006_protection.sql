-- depends: 0004_metrics
-- Protection: what is open without a live stop, which stops end soon, and how much of a day's loss was reached.

-- One row per episode, open while healed_at is null, and an alarm once raised_at is set: what is bare for a moment only,
-- while legs are placed or replaced, is gone again before. since: by the broker's stamps; found_at: by our clock.
-- key: the lot's parent_id, or 'symbol:<symbol>' for shares that the broker holds beyond our lots; then parent_id is
-- null. qty: shares without a live stop, never negative.
create table accounts.unprotected (
    destination text not null,
    key text not null,
    symbol text not null,
    parent_id text,
    side text not null check (side in ('Long', 'Short')),
    qty numeric not null,
    reason text not null,
    since timestamptz not null,
    found_at timestamptz not null,
    raised_at timestamptz,
    healed_at timestamptz,
    primary key (destination, key, since)
) partition by list (destination);
create unique index unprotected_open on accounts.unprotected (destination, key) where healed_at is null;

-- Finds the stop whose end left a lot bare, whichever way it was tied to it.
create index raw_orders_ended_stops on account_activities.raw_orders (destination, symbol)
    where order_type in ('stop', 'stop_limit', 'trailing_stop') and status in ('canceled', 'expired', 'rejected');

-- The New York day on which each lot was last warned of, because its legs expire soon.
create table accounts.expiry_warnings (
    destination text not null,
    parent_id text not null,
    warned_on date not null,
    primary key (destination, parent_id)
) partition by list (destination);

-- How the session goes: what limits are compared with. destination is '' for all accounts together. blind: why nothing
-- can be said now, '' while it can; day_pnl, baseline and as_of are then those that were last certain. blind_at: the
-- newest look at which prices were wrong; a minute that began before it proves nothing.
create table accounts.loss_watch (
    destination text primary key,
    session_date date,
    day_pnl numeric,
    baseline numeric, -- equity at the previous close
    as_of timestamptz,
    blind text not null default '',
    blind_since timestamptz,
    blind_at timestamptz,
    is_limited boolean not null default false -- whether a limit is set at all
);

-- One row per limit that was reached, latched while reset_at is null. limit_pnl: the day's result at which it is
-- reached. reset_pnl: how the day stood at the reset, from where the same stage counts on.
create table accounts.loss_limits (
    destination text not null, -- '' for all accounts together
    session_date date not null,
    stage text not null check (stage in ('warn', 'halt', 'flatten')),
    latched_at timestamptz not null,
    day_pnl numeric not null,
    baseline numeric not null,
    limit_pnl numeric,
    reset_at timestamptz,
    reset_by text,
    reset_pnl numeric,
    note text not null default '',
    primary key (destination, session_date, stage, latched_at)
);
create unique index loss_limits_latched on accounts.loss_limits (destination, session_date, stage) where reset_at is null;
