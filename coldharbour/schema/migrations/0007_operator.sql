-- depends: 0001_kernel
-- What people ask of the workers, which workers they paused, and who is logged in to the pages.

-- One row per request, never deleted. Taken before it is acted on, done when its outcome is known. One that is not
-- taken before expires_at is never executed late. The index makes a request that is asked twice one request.
create table accounts.operator_requests (
    id bigint generated always as identity primary key,
    destination text not null,
    worker text not null,
    action text not null,
    parameters jsonb not null default '{}',
    asked_by text not null,
    asked_at timestamptz not null,
    expires_at timestamptz not null,
    taken_at timestamptz,
    done_at timestamptz,
    outcome text,
    detail text not null default '',
    check ((done_at is null) = (outcome is null)),
    check (expires_at > asked_at)
);
create unique index operator_requests_open on accounts.operator_requests (destination, worker, action, parameters)
    where done_at is null;
create index operator_requests_by_destination on accounts.operator_requests (destination, id desc);

create table accounts.worker_pauses (
    destination text not null,
    kind text not null,
    paused_by text not null,
    paused_at timestamptz not null,
    primary key (destination, kind)
);

-- Logins. The cookie's secret is not here, only its SHA-256.
create table accounts.web_sessions (
    id_hash bytea primary key,
    account text not null,
    begun_at timestamptz not null,
    used_at timestamptz not null
);
