-- depends: 0003_live
-- Equity and key figures; derived, `coldharbour rebuild` makes the same rows again.

create table accounts.equity_full (
    destination text not null,
    session_date date not null,
    cash numeric not null,
    market_value numeric not null,
    deposit numeric not null,
    net_flows numeric not null,
    daily_return double precision not null,
    cumulative_return double precision not null,
    drawdown double precision not null,
    sharpe_10 double precision, sharpe_21 double precision, sharpe_63 double precision,
    sharpe_126 double precision, sharpe_252 double precision,
    smart_sharpe_10 double precision, smart_sharpe_21 double precision, smart_sharpe_63 double precision,
    smart_sharpe_126 double precision, smart_sharpe_252 double precision,
    complete boolean not null,
    provisional boolean not null,
    missing_symbols text[] not null default '{}',
    buy_volume numeric not null default 0,
    sell_volume numeric not null default 0,
    holdings jsonb not null default '{}', -- symbol -> [signed shares, price or null], what the next session goes on from
    primary key (destination, session_date)
) partition by list (destination);

create table accounts.equity_intraday (
    destination text not null,
    session_date date not null,
    at timestamptz not null, -- the minute
    equity numeric not null,
    profit numeric not null,
    flows numeric not null,
    cumulative_return double precision not null,
    complete boolean not null,
    source text not null check (source in ('live', 'bars')),
    looked_at timestamptz, -- when it was made from the newest prices; before its end, it is not yet what it will be
    stale boolean not null default false, -- something became known since; its minute's bars will tell
    primary key (destination, at)
) partition by list (destination);
create index equity_intraday_session on accounts.equity_intraday (destination, session_date, at);

-- 'latest' is the document of the key figures; other ids hold parts of it, with the version of what they come from.
create table accounts.account_metrics (
    destination text not null,
    id text not null default 'latest',
    document jsonb not null,
    updated_at timestamptz not null,
    primary key (destination, id)
) partition by list (destination);

-- How far each reader followed the activities: below `floor` it has seen every revision. `basis` is what it made its
-- rows with, such as the activity types that are profit; with another one it begins anew.
create table accounts.lake_marks (
    destination text not null,
    reader text not null,
    floor xid8 not null,
    basis text not null,
    primary key (destination, reader)
) partition by list (destination);
create index raw_activities_date on account_activities.raw_activities (destination, activity_date)
    where activity_date is not null;

-- Session days and closing prices as the broker gave them, kept so that nothing is asked twice. By market, since
-- a simulated one has prices and days of its own. A span is what was asked for, whether or not there was an answer.
create table accounts.session_days (
    market text not null,
    session_date date not null,
    close_utc timestamptz not null,
    fetched_at timestamptz not null default clock_timestamp(),
    primary key (market, session_date)
);
create table accounts.session_spans (
    market text primary key,
    first_date date not null,
    last_date date not null
);
create table accounts.daily_closes (
    market text not null,
    symbol text not null,
    session_date date not null,
    close numeric not null,
    fetched_at timestamptz not null default clock_timestamp(),
    primary key (market, symbol, session_date)
);
create table accounts.close_spans (
    market text not null,
    symbol text not null,
    first_date date not null,
    last_date date not null,
    asked_at timestamptz not null,
    primary key (market, symbol)
);
