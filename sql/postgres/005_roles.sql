-- The role `headrace_reader`: it reads the marts and nothing else, cannot hold locks that others
-- wait for, and cannot store anything. On an external PostgreSQL its administrator creates the
-- role, or this file does where it is allowed to.

create schema if not exists headrace;

do $$
begin
    if not exists (select 1 from pg_roles where rolname = 'headrace_reader') then
        create role headrace_reader nologin;
        if current_setting('is_superuser') = 'off' then
            -- Otherwise its creator could neither see nor end its sessions.
            grant headrace_reader to current_user with inherit true;
        end if;
    end if;
exception when insufficient_privilege then
    raise notice 'no right to make headrace_reader: ask the administrator';
end
$$;

-- Functions that PUBLIC may call by default and that do more than read: advisory locks, large
-- objects, notifications, messages in the write-ahead log. (pg_advisory_unlock_all only releases,
-- and connection pools call it.)
create or replace function control.more_than_reading()
returns table (called regprocedure)
language sql stable as $$
    select oid::regprocedure as called
    from pg_proc
    where
        pronamespace = 'pg_catalog'::regnamespace
        and proname ~ '^(lo_|loread$|lowrite$|pg_.*advisory_|pg_notify$|pg_logical_emit_)'
        and proname != 'pg_advisory_unlock_all'
        and has_function_privilege('headrace_reader', oid, 'execute')
$$;

-- Default settings of the reader's sessions; a session can change them. Several values of one
-- setting are separated by a comma.
create or replace function control.reader_defaults()
returns table (name text, value text)
language sql immutable as $$
    values
    ('default_transaction_read_only', 'on'),
    ('idle_in_transaction_session_timeout', '60s'),
    ('lock_timeout', '10s'),
    ('search_path', 'headrace, public'),
    ('statement_timeout', '60s'),
    ('temp_file_limit', '4GB')
$$;

-- Restores the reader's rights, limits and defaults, as far as the current user may; writes nothing
-- when they are right. A role can change its own password and defaults, and no grant prevents that:
-- where Headrace owns the role, `verifier` is the password's verifier, and both are set back.
create or replace function control.keep_reader(verifier text default null)
returns void
language plpgsql
set lock_timeout = '1s' as $$
declare
    of_all boolean := current_setting('is_superuser') = 'on';
    reader pg_roles := (select pg_roles from pg_roles where rolname = 'headrace_reader');
    mine text [];
    each record;
begin
    if reader.oid is null then
        return;
    end if;

    if not has_schema_privilege(reader.oid, 'headrace', 'usage') then
        grant usage on schema headrace to headrace_reader;
    end if;
    if not exists (
        select from pg_default_acl, aclexplode(defaclacl) as granted
        where
            defaclnamespace = 'headrace'::regnamespace and defaclrole = current_user::regrole
            and granted.grantee = reader.oid
    ) then
        alter default privileges in schema headrace
        grant select on tables to headrace_reader;
    end if;
    for each in
        select oid::regclass as relation
        from pg_class
        where
            relnamespace = 'headrace'::regnamespace and relkind in ('r', 'p', 'v', 'm')
            and pg_has_role(relowner, 'usage')
            and not has_table_privilege(reader.oid, oid, 'select')
    loop
        execute format('grant select on %s to headrace_reader', each.relation);
    end loop;

    if has_database_privilege(reader.oid, current_database(), 'temporary') and exists (
        select from pg_database
        where datname = current_database() and pg_has_role(datdba, 'usage')
    ) then
        execute format('revoke temporary on database %I from public', current_database());
    end if;
    if has_schema_privilege(reader.oid, 'public', 'create') and exists (
        select from pg_namespace where nspname = 'public' and pg_has_role(nspowner, 'usage')
    ) then
        revoke create on schema public from public;
    end if;
    for each in select called from control.more_than_reading() where of_all loop
        execute format('revoke execute on function %s from public', each.called);
        execute format('grant execute on function %s to %I', each.called, current_user);
    end loop;

    begin
        if reader.rolconnlimit = -1 then
            alter role headrace_reader connection limit 20;
        end if;
        mine := (
            select setconfig from pg_db_role_setting
            where setrole = reader.oid and setdatabase = 0
        );
        if verifier is not null and (
            exists (
                select from pg_db_role_setting where setrole = reader.oid and setdatabase != 0
            )
            or exists (
                select unnest(mine) except select name || '=' || value from control.reader_defaults()
            )
        ) then
            for each in
                select datname from pg_db_role_setting
                inner join pg_database on setdatabase = pg_database.oid
                where setrole = reader.oid
            loop
                execute format(
                    'alter role headrace_reader in database %I reset all', each.datname
                );
            end loop;
            alter role headrace_reader reset all;
            mine := null;
        end if;
        for each in
            select name, value from control.reader_defaults()
            where
                (of_all or name != 'temp_file_limit')
                and not exists (
                    select from unnest(mine) as line where split_part(line, '=', 1) = name
                )
        loop
            execute format(
                'alter role headrace_reader set %I = %s',
                each.name,
                (
                    select string_agg(quote_literal(value), ', ' order by place)
                    from unnest(string_to_array(each.value, ', ')) with ordinality
                        as listed (value, place)
                )
            );
        end loop;
    exception when insufficient_privilege then
        raise notice 'no right to alter headrace_reader: ask the administrator';
    end;

    if verifier is not null then
        if not reader.rolcanlogin or (
            select rolpassword is distinct from verifier from pg_authid where oid = reader.oid
        ) then
            execute format('alter role headrace_reader login password %L', verifier);
        end if;
        for each in
            select datname from pg_database
            where
                datname in ('postgres', 'template1')
                and has_database_privilege(reader.oid, datname, 'connect')
        loop
            execute format('revoke all on database %I from public', each.datname);
        end loop;
    end if;
exception when insufficient_privilege then
    raise notice 'no right to grant or revoke: ask the administrator';
end
$$;

-- Ends reads that began longer ago than `longest`, whatever timeout their session has set: while
-- they run, deployments wait and deleted rows are kept. Returns their number.
create or replace function control.end_reads(longest interval) returns bigint
language sql as $$
    select count(*) filter (where pg_terminate_backend(pid))
    from pg_stat_activity
    where
        usename = 'headrace_reader'
        and clock_timestamp() - longest
        > least(xact_start, case when state = 'active' then query_start end)
$$;

select control.keep_reader();

-- The owner's sessions find the views without their schema, too; what they create stays in public.
do $$
begin
    if not 'headrace' = any(current_schemas(false)) then
        execute format(
            'alter role %I in database %I set search_path = "$user", public, headrace',
            current_user, current_database()
        );
    end if;
exception when insufficient_privilege then
    raise notice 'no right to set the search_path of the owner';
end
$$;
