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
    primary key (destination, at)
) partition by list (destination);
create index equity_intraday_session on accounts.equity_intraday (destination, session_date, at);

create table accounts.account_metrics (
    destination text not null,
    id text not null default 'latest',
    document jsonb not null,
    updated_at timestamptz not null,
    primary key (destination, id)
) partition by list (destination);

-- Session days and closing prices as the broker gave them, kept so that nothing is asked twice. By market, since
-- a simulated one has prices and days of its own.
create table accounts.session_days (
    market text not null,
    session_date date not null,
    close_utc timestamptz not null,
    fetched_at timestamptz not null default clock_timestamp(),
    primary key (market, session_date)
);
create table accounts.daily_closes (
    market text not null,
    symbol text not null,
    session_date date not null,
    close numeric not null,
    fetched_at timestamptz not null default clock_timestamp(),
    primary key (market, symbol, session_date)
);
