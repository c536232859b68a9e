-- Who may read what: `headrace_reader` sees the marts and nothing else.
-- On an external PostgreSQL the role is made by its administrator, or here where we may.

create schema if not exists headrace;

do $$
begin
    if not exists (select 1 from pg_roles where rolname = 'headrace_reader') then
        create role headrace_reader nologin;
    end if;
    grant usage on schema headrace to headrace_reader;
    alter default privileges in schema headrace
    grant select on tables to headrace_reader;
exception when insufficient_privilege then
    raise notice 'no right to make or grant headrace_reader: ask the administrator';
end
$$;
