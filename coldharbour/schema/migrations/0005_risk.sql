-- depends: 0004_metrics
-- Risk: every wish to move a stop, on record before it is sent, and every evaluation that led to one or to none.

-- PLANNED is written before the request; ACCEPTED and UNKNOWN wait for evidence; the others are final.
create table accounts.stop_intents (
    destination text not null,
    client_order_id text not null, -- by which the broker knows the replacement
    lot_id text not null,
    symbol text not null,
    side text not null check (side in ('Long', 'Short')),
    order_id text not null, -- of the stop that is to be replaced
    old_stop numeric not null,
    new_stop numeric not null,
    old_limit numeric,
    new_limit numeric,
    epoch bigint not null,
    attempt integer not null,
    state text not null check (state in ('PLANNED', 'ACCEPTED', 'REJECTED', 'UNKNOWN', 'MOVED', 'NOT_MOVED')),
    answer_state text, -- what the end of the request meant; null while there is none, or nothing was sent
    answer text, -- the broker's answer, or what came instead
    reason text not null default '', -- of the state, in words
    new_order_id text, -- promised while ACCEPTED, proved once MOVED
    planned_at timestamptz not null,
    answered_at timestamptz,
    settled_at timestamptz,
    primary key (destination, client_order_id)
) partition by list (destination);
-- Nothing is planned for a lot or an order while the outcome of an earlier move is not known.
create unique index stop_intents_unsettled_lot on accounts.stop_intents (destination, lot_id)
    where state in ('PLANNED', 'ACCEPTED', 'UNKNOWN');
create unique index stop_intents_unsettled_order on accounts.stop_intents (destination, order_id)
    where state in ('PLANNED', 'ACCEPTED', 'UNKNOWN');
create index stop_intents_lot on accounts.stop_intents (destination, lot_id);
create index stop_intents_order on accounts.stop_intents (destination, order_id);
create index stop_intents_planned on accounts.stop_intents (destination, planned_at desc);

-- What was decided about each lot, and why. Evaluations that found the same share a row: `timestamp` is the first of
-- them and `last_at` the last; evaluated_at and prices hold each of them. Actions have a row each, and stay for ever.
create sequence accounts.log_breakeven_id;
create table accounts.log_breakeven (
    destination text not null,
    id bigint not null default nextval('accounts.log_breakeven_id'),
    "timestamp" timestamptz not null,
    last_at timestamptz not null,
    parent_id text not null,
    symbol text not null,
    side text not null check (side in ('Long', 'Short')),
    moved_flag text not null check (moved_flag in ('OK', 'Already', '—')),
    reason text not null,
    detail text not null, -- the reason in words and numbers, as of last_at
    old_stop numeric,
    new_stop numeric,
    mkt_px numeric, -- as of last_at
    be_tp numeric,
    extreme_px numeric, -- how far the market went in the lot's favour, as of last_at
    filled_at timestamptz, -- the first entry fill
    qty numeric not null,
    entry_px numeric not null,
    stop_order_id text not null,
    new_order_id text,
    client_order_id text, -- of the intent in accounts.stop_intents
    error text, -- the broker's
    is_action boolean not null,
    evaluated_at timestamptz[] not null,
    prices numeric[] not null,
    primary key (destination, id)
) partition by list (destination);
create index log_breakeven_lot on accounts.log_breakeven (destination, parent_id, id desc);
create index log_breakeven_routine on accounts.log_breakeven (destination, last_at) where not is_action;
create index log_breakeven_intent on accounts.log_breakeven (destination, client_order_id)
    where client_order_id is not null;

-- A flatten: what a latched limit of the day's loss set going for one account. One at a time.
create table accounts.flattenings (
    destination text not null,
    latched_for text not null, -- whose limit it was: the account's slug, '' for all accounts together
    session_date date not null, -- of the latch in accounts.loss_limits, as latched_at
    latched_at timestamptz not null,
    is_dry_run boolean not null,
    begun_at timestamptz not null,
    ended_at timestamptz,
    primary key (destination, begun_at)
) partition by list (destination);
create unique index flattenings_open on accounts.flattenings (destination) where ended_at is null;

-- What was held when it began, and where each symbol stands. While one is open, no stop of that symbol is moved.
create table accounts.flatten_targets (
    destination text not null,
    begun_at timestamptz not null,
    symbol text not null,
    side text not null check (side in ('Long', 'Short')),
    qty numeric not null check (qty > 0),
    state text not null check (state in ('open', 'closed', 'left', 'would_close')),
    detail text not null default '', -- in words
    changed_at timestamptz not null,
    alarmed_at timestamptz,
    primary key (destination, begun_at, symbol)
) partition by list (destination);

-- Every request of a flatten, PLANNED before it is sent; ACCEPTED and UNKNOWN wait for evidence, the others are final.
create table accounts.flatten_requests (
    destination text not null,
    begun_at timestamptz not null,
    kind text not null check (kind in ('cancel', 'close')),
    symbol text not null,
    name text not null, -- the order to cancel, or the client_order_id of the closing order
    attempt integer not null,
    side text not null default '',
    qty numeric,
    epoch bigint not null,
    state text not null
        check (state in ('PLANNED', 'ACCEPTED', 'REJECTED', 'NOT_SENT', 'UNKNOWN', 'DONE', 'NOT_DONE')),
    answer_state text, -- what the end of the request meant; null while there is none
    reason text not null default '', -- of the state, in words
    order_id text, -- of the closing order
    unseen integer not null default 0, -- readings since the answer that show no effect
    planned_at timestamptz not null,
    answered_at timestamptz,
    settled_at timestamptz,
    primary key (destination, begun_at, kind, name, attempt)
) partition by list (destination);
create unique index flatten_requests_unsettled on accounts.flatten_requests (destination, begun_at, kind, name)
    where state in ('PLANNED', 'ACCEPTED', 'UNKNOWN');
