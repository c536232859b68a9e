-- Retention of panes.

-- How long panes keep their rows, as dbt wrote it from their configuration.
-- grain: one grain of one pane.  key: (pane, grain).
create table if not exists control.retentions (
    pane text not null,
    grain text not null,
    time_column text not null,
    keep interval not null,
    primary key (pane, grain)
);

-- Up to when rows were dropped; rows before `horizon` are never made again.
-- grain: one grain of one pane, of one model.  key: (pane, grain, model).
create table if not exists control.horizons (
    pane text not null,
    grain text not null,
    model text not null,
    horizon timestamptz not null,
    primary key (pane, grain, model)
);

-- Drops rows beyond the retention of their pane, counted back from each model's clock in whole
-- hours. Returns their number.
create or replace function control.expire() returns bigint
language plpgsql as $$
declare
    kept record;
    dropped bigint := 0;
    of_pane bigint;
begin
    if to_regclass('headrace.model_clock') is null then
        return 0;
    end if;
    lock table locks.turn in exclusive mode;
    for kept in
        select retentions.*
        from control.retentions
        where to_regclass(retentions.pane) is not null
    loop
        insert into control.horizons as stored (pane, grain, model, horizon)
        select
            kept.pane,
            kept.grain,
            model,
            date_trunc('hour', event_clock, 'UTC')
            - extract(epoch from kept.keep)::double precision * interval '1 second'
        from headrace.model_clock
        on conflict (pane, grain, model) do update set horizon = excluded.horizon
        where stored.horizon < excluded.horizon;
        execute format(
            'delete from %s as expired using control.horizons as horizons
            where
                horizons.pane = %L and horizons.grain = %L
                and expired.model = horizons.model %s
                and expired.%I < horizons.horizon',
            kept.pane, kept.pane, kept.grain,
            case when kept.grain != '' then format('and expired.grain = %L', kept.grain) end,
            kept.time_column
        );
        get diagnostics of_pane = row_count;
        dropped := dropped + of_pane;
    end loop;
    return dropped;
end
$$;
