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
