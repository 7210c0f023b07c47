-- depends: 0002_lake
-- Live state: open lots, closed trades, cash flows, and where our quantities differ from the broker's.
-- Everything here is derived: `coldharbour rebuild` makes the same rows from the lake.

-- Two writers, each with columns of its own: the book-keeping writes what a fill or a leg changes and counts
-- `version` up; the valuation writes prices, values and extremes, for the version that it saw.
create table accounts.open_trades (
    destination text not null,
    parent_id text not null,
    symbol text not null,
    side text not null check (side in ('Long', 'Short')),
    qty numeric not null,
    entry_qty numeric not null,
    avg_fill numeric not null,
    avg_px_symbol numeric not null,
    buy_value numeric not null,
    entry_time timestamptz not null,
    last_fill_time timestamptz not null,
    initial_stop numeric,
    sl_px numeric,
    stop_order_id text,
    tp_px numeric,
    take_order_id text,
    expires_at timestamptz,
    unprotected_s double precision not null default 0, -- up to unprotected_since, or in all while protected
    unprotected_since timestamptz,
    moved_flag text not null default '—',
    version bigint not null default 1,
    structure_at timestamptz not null default clock_timestamp(),
    mkt_px numeric,
    mkt_at timestamptz,
    mkt_value numeric,
    profit_loss numeric,
    profit_loss_lot numeric,
    tp_sl_reach_pct numeric,
    r_multiple numeric,
    high_px numeric, -- extremes of eligible prices since the first entry fill
    low_px numeric,
    extremes_through timestamptz, -- up to where bars or ticks have been looked at without a hole
    valued_at timestamptz,
    primary key (destination, parent_id)
) partition by list (destination);
create index open_trades_symbol on accounts.open_trades (destination, symbol);

-- The extremes of lots that are gone, as the valuation left them, for the closed trades that they became.
create table accounts.lot_extremes (
    destination text not null,
    parent_id text not null,
    high_px numeric not null,
    low_px numeric not null,
    extremes_through timestamptz not null,
    primary key (destination, parent_id)
) partition by list (destination);

-- How often the open trades changed, and when the broker's positions were last known whole.
create table accounts.live_meta (
    destination text not null primary key,
    structure_version bigint not null default 0,
    positions_at timestamptz
) partition by list (destination);

create table accounts.closed_trades (
    destination text not null,
    entry_lot_id text not null,
    exit_order_id text not null,
    exit_parent_id text,
    symbol text not null,
    side text not null check (side in ('Long', 'Short')),
    qty numeric not null,
    entry_time timestamptz not null,
    entry_price numeric not null,
    exit_time timestamptz not null,
    exit_price numeric not null,
    exit_type text not null check (exit_type in ('TP', 'SL', 'MANUAL')),
    pnl_cash numeric not null,
    pnl_cash_fifo numeric not null,
    diff_pnl numeric not null,
    return_pct numeric not null,
    duration_sec bigint not null,
    initial_stop numeric,
    r_multiple numeric,
    unprotected_s double precision not null default 0,
    splits jsonb not null default '[]', -- between entry and exit: at, and the shares held before and after
    high_px numeric, -- extremes between entry and exit, per share as of the exit; null until they are known
    low_px numeric,
    extremes_source text check (extremes_source in ('ticks', 'bars')),
    closes_lot boolean not null default false, -- the lot's last row, once nothing of it is left
    archived_at timestamptz not null default clock_timestamp(),
    primary key (destination, entry_lot_id, exit_order_id)
) partition by list (destination);
create index closed_trades_exit on accounts.closed_trades (destination, exit_time desc);
create index closed_trades_without_extremes on accounts.closed_trades (destination, exit_time desc)
    where high_px is null;

create table accounts.cash_flows (
    destination text not null,
    id text not null,
    ts timestamptz not null,
    flow_date date not null, -- New York
    amount numeric not null,
    type text not null,
    is_external boolean not null,
    symbol text,
    description text not null default '',
    primary key (destination, id)
) partition by list (destination);
create index cash_flows_date on accounts.cash_flows (destination, flow_date);

-- Where the broker's position and the sum of our lots differ: shown and logged, never corrected by guessing.
create sequence accounts.position_drifts_id;
create table accounts.position_drifts (
    destination text not null,
    id bigint not null default nextval('accounts.position_drifts_id'),
    symbol text not null,
    our_qty numeric not null,
    broker_qty numeric not null,
    our_avg numeric,
    broker_avg numeric,
    seen_at timestamptz not null,
    last_seen_at timestamptz not null,
    times_seen integer not null default 1,
    resolved_at timestamptz,
    primary key (destination, id)
) partition by list (destination);
create unique index position_drifts_open on accounts.position_drifts (destination, symbol) where resolved_at is null;

-- What the broker says of each position, as of one complete answer.
create table accounts.broker_positions (
    destination text not null,
    symbol text not null,
    qty numeric not null,
    avg_entry_price numeric,
    current_price numeric,
    as_of timestamptz not null,
    primary key (destination, symbol)
) partition by list (destination);

-- What is missing, or cannot be used as it should, one row per finding, so that it is logged once and stays visible.
create table accounts.findings (
    destination text not null,
    area text not null check (area in ('book', 'activities', 'prices', 'calendar', 'bars')),
    key text not null,
    finding text not null,
    found_at timestamptz not null,
    resolved_at timestamptz,
    primary key (destination, area, key)
) partition by list (destination);

-- The calendar of P&L, and the same by symbol.
create view accounts.pnl_by_day as
    select destination, (exit_time at time zone 'America/New_York')::date as day, count(*) as closings,
           count(distinct entry_lot_id) as trades, count(*) filter (where pnl_cash > 0) as wins,
           sum(pnl_cash) as pnl_cash, sum(pnl_cash_fifo) as pnl_cash_fifo, avg(r_multiple) as mean_r
    from accounts.closed_trades group by 1, 2;
create view accounts.pnl_by_symbol as
    select destination, symbol, count(*) as closings, count(distinct entry_lot_id) as trades,
           count(*) filter (where pnl_cash > 0) as wins, sum(pnl_cash) as pnl_cash,
           sum(pnl_cash_fifo) as pnl_cash_fifo, avg(r_multiple) as mean_r, avg(duration_sec) as mean_duration_sec
    from accounts.closed_trades group by 1, 2;
