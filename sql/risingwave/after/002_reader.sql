-- Who may read what: `headrace_reader` sees the marts and nothing else.
-- A new version of the views drops the grants with them; they are then given again.

grant usage on schema headrace to headrace_reader;

grant select on all materialized views in schema headrace to headrace_reader;

grant select on all views in schema headrace to headrace_reader;
