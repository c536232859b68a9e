-- How deployments change panes and marts while readers go on reading.

-- grain: one part of the deployment (the SQL files, the dbt project).  key: name.
create table if not exists control.deployed (
    name text primary key,
    sha256 text not null,
    deployed_at timestamptz not null default clock_timestamp()
);

-- What the stored table of a pane was made from; dbt rebuilds it when the digest changes.
-- grain: pane.  key: pane.
create table if not exists control.pane_digests (
    pane text primary key,
    digest text not null
);

-- The views that read a relation, with their definitions.
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

-- Runs a change that takes several locks, in short tries: where a lock is not to be had soon, or in
-- a deadlock, it releases all of them and tries again, so readers wait for milliseconds. Reads that
-- block it for long are ended.
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

-- Renames a relation to NAME__stale_OID, runs `change`, which makes another one of that name, and
-- points the views that read the old one to it. A view that does not fit reads the old rows until
-- the deployment replaces it, too.
create or replace function control.step_aside(relation regclass, change text)
returns void
language plpgsql as $$
declare
    kept jsonb := (select jsonb_agg(to_jsonb(v)) from control.views_on(relation) as v);
    reader jsonb;
begin
    -- Take all locks first, before the work that takes time, so a reader waits only once.
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

-- Creates or replaces a view while readers go on reading.
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

-- Swaps the table `fresh` in for `stale`. It gets the triggers of `stale`, so the panes above go on
-- until they are rebuilt, too.
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

-- Comments on a relation and its columns, which any client shows; writes only what changed.
-- meanings: column -> text; a column that is not in it loses its comment.
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

-- Drops stale relations that no view reads any more.
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
