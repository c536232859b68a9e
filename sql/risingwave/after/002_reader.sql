-- `headrace_reader` may read the marts and nothing else. Grants are dropped with the views of an
-- older version, so they are given again after each deployment.

grant usage on schema headrace to headrace_reader;

grant select on all materialized views in schema headrace to headrace_reader;

grant select on all views in schema headrace to headrace_reader;
