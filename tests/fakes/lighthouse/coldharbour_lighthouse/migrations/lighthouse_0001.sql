-- depends: 0001_kernel
create table accounts.lighthouse (
    destination text primary key,
    beams bigint not null,
    seen bigint not null,
    pid integer not null,
    signal text
);
