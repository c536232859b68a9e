-- What `headrace alerts send` keeps. With RisingWave as the engine these tables are in the
-- PostgreSQL of Feast's registry, where it makes them.

create schema if not exists control;

-- grain: one role that one process has at a time.  key: name.
-- Another process may take the role once the lease has run out.
create table if not exists control.leases (
    name text primary key,
    holder text not null,
    held_until timestamptz not null
);

-- grain: one alert from its start to its end, for one receiver.  key: (receiver, incident).
create table if not exists control.notices (
    receiver text not null,
    incident text not null,
    model text not null,
    alert text not null,
    subject text not null,
    severity text not null,
    value double precision not null,
    threshold double precision not null,
    -- the model's clock
    since timestamptz not null,
    opened_at timestamptz not null,
    -- first look that did not find it any more; null while it fires
    gone_at timestamptz,
    told_at timestamptz,
    times_told integer not null default 0,
    -- its end was told, or it is given up
    closed_at timestamptz,
    -- why the last try failed
    problem text,
    primary key (receiver, incident)
);
