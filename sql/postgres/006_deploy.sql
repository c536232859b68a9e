-- What deployments and the log use to keep the views: swapping without a gap, and expiry.

-- grain: one grain of one pane.  key: (pane, grain).  Written by dbt from the pane's `retention`.
create table if not exists control.retentions (
    pane text not null,
    grain text not null,
    time_column text not null,
    keep interval not null,
    primary key (pane, grain)
);

-- grain: what was dropped of one pane and model; rows before `horizon` are never made again.
-- key: (pane, grain, model).
create table if not exists control.horizons (
    pane text not null,
    grain text not null,
    model text not null,
    horizon timestamptz not null,
    primary key (pane, grain, model)
);

-- grain: a pane.  key: pane.  What the stored table was made from: a changed digest makes it anew.
create table if not exists control.pane_digests (
    pane text primary key,
    digest text not null
);

-- The views that read a relation, with what they say of it now.
create or replace function control.views_on(relation regclass)
returns table (view_name text, definition text)
language sql stable as $$
    select distinct
        format('%I.%I', pg_namespace.nspname, pg_class.relname) as view_name,
        pg_get_viewdef(pg_class.oid) as definition
    from pg_depend
    inner join pg_rewrite on pg_depend.objid = pg_rewrite.oid
    inner join pg_class on pg_rewrite.ev_class = pg_class.oid
    inner join pg_namespace on pg_class.relnamespace = pg_namespace.oid
    where
        pg_depend.refobjid = relation
        and pg_depend.refclassid = 'pg_class'::regclass
        and pg_depend.classid = 'pg_rewrite'::regclass
        and pg_rewrite.ev_class != relation
$$;

-- Runs a change that takes several locks without making a reader wait for long, let alone in a
-- circle: it lets go of all of them and tries again, waiting now shorter and now longer. A reader
-- that holds on to them for long is ended at last.
create or replace function control.patiently(change text) returns void
language plpgsql as $$
begin
    for attempt in 0..300 loop
        begin
            perform set_config(
                'lock_timeout', (25 * power(2, attempt % 5))::text || 'ms', true
            );
            execute change;
            perform set_config('lock_timeout', '0', true);
            return;
        exception when lock_not_available or deadlock_detected then
            perform pg_sleep(0.05 * random());
            if attempt % 50 = 49 then
                perform control.end_reads('10 seconds');
            end if;
        end;
    end loop;
    raise exception 'no lock for: %', left(change, 200) using errcode = 'lock_not_available';
end
$$;

-- Runs `change` after the relation has stepped aside as NAME__stale, and binds the views that read
-- it to what has its name then. A view that does not fit the new one reads the old rows until the
-- deployment that is under way gives it another body.
create or replace function control.step_aside(relation regclass, change text)
returns void
language plpgsql as $$
declare
    kept jsonb := (select jsonb_agg(to_jsonb(v)) from control.views_on(relation) as v);
    reader jsonb;
begin
    -- All locks at once, before the work that takes time: readers then wait, and only once.
    for reader in select value from jsonb_array_elements(coalesce(kept, '[]')) loop
        execute format('alter view %s owner to %I', reader ->> 'view_name', current_user);
    end loop;
    execute format(
        'alter %s %s rename to %I',
        case when (select relkind from pg_class where oid = relation) = 'v'
            then 'view' else 'table' end,
        relation,
        left((select relname from pg_class where oid = relation), 40)
        || '__stale_' || relation::oid
    );
    execute change;
    for reader in select value from jsonb_array_elements(coalesce(kept, '[]')) loop
        begin
            execute format(
                'create or replace view %s as %s',
                reader ->> 'view_name', reader ->> 'definition'
            );
        exception
            when undefined_column or undefined_function or datatype_mismatch
            or invalid_table_definition then
                raise notice '% goes on with old rows: %', reader ->> 'view_name', sqlerrm;
        end;
    end loop;
end
$$;

-- Makes a view, or gives it another body, while readers go on reading.
create or replace function control.replace_view(view_name text, body text)
returns void
language plpgsql as $$
begin
    lock table locks.deployment in exclusive mode;
    perform control.patiently(
        format('create or replace view %s as %s', view_name, body)
    );
exception when invalid_table_definition or wrong_object_type then
    perform control.patiently(format(
        'select control.step_aside(%L, %L)',
        view_name, format('create view %s as %s', view_name, body)
    ));
end
$$;

-- Puts the table `fresh` into the place of `stale`, with its triggers, which keep what is driven
-- by it going until that is made anew, too.
create or replace function control.replace_table(stale regclass, fresh regclass)
returns void
language plpgsql as $$
begin
    lock table locks.deployment in exclusive mode;
    perform control.patiently(format(
        'select control.step_aside(%L, %L)',
        stale,
        concat_ws(
            '; ',
            format(
                'alter table %s rename to %I',
                fresh, (select relname from pg_class where oid = stale)
            ),
            (
                select string_agg(pg_get_triggerdef(oid), '; ')
                from pg_trigger
                where tgrelid = stale and not tgisinternal
            )
        )
    ));
end
$$;

-- Says what a relation and its columns mean by comments, which any client shows; writes only what
-- changed.  meanings: column -> text; what is not in it loses its comment.
create or replace function control.describe(
    relation regclass, meaning text, meanings jsonb
)
returns void
language plpgsql as $$
declare
    change text;
begin
    for change in
        select
            format(
                'comment on %s %s is %L',
                case relkind when 'v' then 'view' else 'table' end,
                relation,
                nullif(meaning, '')
            )
        from pg_class
        where
            oid = relation
            and obj_description(oid, 'pg_class') is distinct from nullif(meaning, '')
        union all
        select format('comment on column %s.%I is %L', relation, attname, meanings ->> attname)
        from pg_attribute
        where
            attrelid = relation
            and attnum > 0
            and not attisdropped
            and col_description(relation, attnum) is distinct from (meanings ->> attname)
    loop
        execute change;
    end loop;
end
$$;

-- Drops what stepped aside and is read by nobody any more.
create or replace function control.drop_stale() returns void
language plpgsql as $$
declare
    stale record;
    found_one boolean := true;
begin
    lock table locks.deployment in exclusive mode;
    while found_one loop
        found_one := false;
        for stale in
            select oid::regclass as relation, relkind
            from pg_class
            where
                relname ~ '__stale_[0-9]+$'
                and relkind in ('r', 'v')
                and relnamespace in (to_regnamespace('headrace'), to_regnamespace('panes'))
        loop
            if not exists (select from control.views_on(stale.relation)) then
                perform control.patiently(format(
                    'drop %s %s',
                    case stale.relkind when 'v' then 'view' else 'table' end, stale.relation
                ));
                found_one := true;
            end if;
        end loop;
    end loop;
end
$$;

-- Drops what panes hold beyond their retention, counted back from each model's clock in whole
-- hours. Returns the number of rows.
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
            date_trunc('hour', event_clock, 'UTC') - kept.keep
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
