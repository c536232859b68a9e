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

-- The views that deployments made; at first those with a comment, which deployments write.
-- grain: view.  key: view_name, with its schema.
do $$
begin
    if to_regclass('control.made_views') is null then
        create table control.made_views (view_name text primary key);
        insert into control.made_views
        select 'headrace.' || relname
        from pg_class
        where
            relnamespace = to_regnamespace('headrace')
            and relkind = 'v'
            and relname !~ '__stale_[0-9]+$'
            and obj_description(oid, 'pg_class') is not null;
    end if;
end
$$;

-- Why views of users could not be pointed to what this version has (control.catch_up).
-- grain: view and relation that it reads.  key: (view_name, relation_name), with their schemas.
create table if not exists control.left_views (
    view_name text not null,
    relation_name text not null,
    problem text not null,
    primary key (view_name, relation_name)
);

drop function if exists control.views_on(regclass);

-- The views that read a relation, with their definitions, in which every name has its schema.
create or replace function control.views_on(relation regclass)
returns table (
    view_name text, definition text, owner_name text, is_materialized boolean
)
language sql stable set search_path = pg_catalog as $$
    select distinct
        format('%I.%I', pg_namespace.nspname, pg_class.relname) as view_name,
        pg_get_viewdef(pg_class.oid) as definition,
        pg_get_userbyid(pg_class.relowner)::text as owner_name,
        pg_class.relkind = 'm' as is_materialized
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

-- Replaces a view by the same one with other definitions below it; says why where that cannot be.
create or replace function control.point(view_name text, definition text)
returns text
language plpgsql as $$
begin
    execute format('create or replace view %s as %s', view_name, definition);
    return null;
exception
    when lock_not_available or deadlock_detected then
        raise;
    when others then
        return sqlerrm;
end
$$;

-- Renames a relation to NAME__stale_OID, runs `change`, which makes another one of that name with
-- the same rights, and points the views that read the old one to it. A view that does not fit
-- reads the old one on, until control.catch_up.
create or replace function control.step_aside(relation regclass, change text)
returns void
language plpgsql as $$
declare
    kept jsonb := (
        select jsonb_agg(to_jsonb(v)) from control.views_on(relation) as v
        where not v.is_materialized
    );
    known pg_class := (select pg_class from pg_class where oid = relation);
    name text := format('%I.%I', known.relnamespace::regnamespace::text, known.relname);
    reader jsonb;
    may record;
begin
    -- Take all locks first, before the work that takes time, so a reader waits only once. (To give
    -- a view to its owner changes nothing, and LOCK would lock what the view reads, too.)
    for reader in select value from jsonb_array_elements(coalesce(kept, '[]')) loop
        begin
            execute format(
                'alter view %s owner to %I', reader ->> 'view_name', reader ->> 'owner_name'
            );
        exception when insufficient_privilege then
            null;
        end;
    end loop;
    execute format(
        'alter %s %s rename to %I',
        case when known.relkind = 'v' then 'view' else 'table' end,
        name,
        left(known.relname, 40) || '__stale_' || relation::oid
    );
    execute change;
    for may in
        select
            privilege_type,
            case grantee when 0 then 'public' else quote_ident(pg_get_userbyid(grantee)) end as who
        from aclexplode(known.relacl)
        where grantee != known.relowner
    loop
        execute format('grant %s on %s to %s', may.privilege_type, name, may.who);
    end loop;
    for reader in select value from jsonb_array_elements(coalesce(kept, '[]')) loop
        perform control.point(reader ->> 'view_name', reader ->> 'definition');
    end loop;
end
$$;

-- Creates or replaces a view while readers go on reading.
create or replace function control.replace_view(view_name text, body text)
returns void
language plpgsql as $$
begin
    lock table locks.deployment in exclusive mode;
    insert into control.made_views values (replace(view_name, '"', '')) on conflict do nothing;
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

-- Stale relations: those that deployments replaced or this version no longer has.
create or replace function control.stale_relations()
returns table (relation regclass, kind text, name text)
language sql stable as $$
    select
        oid as relation,
        case relkind when 'v' then 'view' else 'table' end as kind,
        format(
            '%I.%I', relnamespace::regnamespace::text, regexp_replace(relname, '__stale_[0-9]+$', '')
        ) as name
    from pg_class
    where
        relname ~ '__stale_[0-9]+$'
        and relkind in ('r', 'v')
        and relnamespace in (to_regnamespace('headrace'), to_regnamespace('panes'))
$$;

-- Views of users that read stale relations, and why.
create or replace function control.views_left_behind()
returns table (view_name text, relation_name text, problem text)
language sql stable as $$
    select
        readers.view_name,
        stale.name as relation_name,
        case
            when to_regclass(stale.name) is null then 'this version does not have it'
            when readers.is_materialized then 'a materialized view has to be made again'
            else coalesce(left_views.problem, 'not tried yet')
        end as problem
    from control.stale_relations() as stale
    cross join control.views_on(stale.relation) as readers
    left join control.left_views
        on
            readers.view_name = left_views.view_name
            and stale.name = left_views.relation_name
    where readers.view_name !~ '__stale_[0-9]+$'
$$;

-- Points the views that read stale relations to what this version has under the same name.
create or replace function control.catch_up() returns void
language plpgsql as $$
declare
    late record;
    problem text;
begin
    delete from control.left_views;
    for late in
        select
            readers.view_name,
            stale.name,
            regexp_replace(
                readers.definition,
                '\m' || regexp_replace(stale.name, '[^.]+$', '') || '"?'
                || (select relname from pg_class where oid = stale.relation) || '\M"?',
                stale.name,
                'g'
            ) as definition
        from control.stale_relations() as stale
        cross join control.views_on(stale.relation) as readers
        where
            readers.view_name !~ '__stale_[0-9]+$'
            and not readers.is_materialized
            and to_regclass(stale.name) is not null
    loop
        problem := control.point(late.view_name, late.definition);
        if problem is not null then
            insert into control.left_views values (late.view_name, late.name, problem)
            on conflict do nothing;
        end if;
    end loop;
end
$$;

-- Sets aside the views that an earlier version made and that are not among `names`, the views of
-- this one.
create or replace function control.retire(names text[]) returns void
language plpgsql as $$
declare
    gone text;
begin
    lock table locks.deployment in exclusive mode;
    for gone in select view_name from control.made_views where view_name != all(names) loop
        if to_regclass(gone) is not null then
            perform control.patiently(format(
                'alter view %s rename to %I',
                gone,
                left((select relname from pg_class where oid = gone::regclass), 40)
                || '__stale_' || gone::regclass::oid
            ));
        end if;
        delete from control.made_views where view_name = gone;
    end loop;
end
$$;

-- Drops stale relations that nothing reads any more.
create or replace function control.drop_stale() returns void
language plpgsql as $$
declare
    stale record;
    found_one boolean := true;
begin
    lock table locks.deployment in exclusive mode;
    perform control.patiently('select control.catch_up()');
    while found_one loop
        found_one := false;
        for stale in select relation, kind from control.stale_relations() loop
            if not exists (select from control.views_on(stale.relation)) then
                begin
                    perform control.patiently(
                        format('drop %s %s', stale.kind, stale.relation)
                    );
                    found_one := true;
                exception when dependent_objects_still_exist then
                    -- such as a function of its rows
                    null;
                end;
            end if;
        end loop;
    end loop;
end
$$;

-- Functions of panes that an earlier version made plan the keys of every small batch anew; a pane
-- that does not change is not made again.
do $$
declare
    made regprocedure;
begin
    for made in
        select oid
        from pg_proc
        where
            pronamespace = to_regnamespace('panes')
            and prorettype = 'trigger'::regtype
            and not coalesce('plan_cache_mode=force_generic_plan' = any(proconfig), false)
    loop
        execute format('alter function %s set plan_cache_mode = force_generic_plan', made);
    end loop;
end
$$;
