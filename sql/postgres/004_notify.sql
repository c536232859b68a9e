-- Notifies listeners of `headrace_model_events` that the serving plan may have changed.

create or replace function events.notify_model_events() returns trigger
language plpgsql as $$
begin
    perform pg_notify('headrace_model_events', model)
    from (select distinct model from new_rows) as changed;
    return null;
end
$$;

create or replace trigger notify_model_events
after insert on events.model_events
referencing new table as new_rows
for each statement execute function events.notify_model_events();
