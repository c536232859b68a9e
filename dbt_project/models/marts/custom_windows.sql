-- Windows of model_performance that the policy custom_windows adds: of fixed length, up to the 400
-- days for which panes of hours are kept. They end with a UTC day, those below a day with an hour.
-- grain: window of a model.  key: (model, window_name).
-- lateness: none; a changed policy is seen by the next query.
with listed as (
    select
        model,
        unnest(string_to_array(custom_windows, ',')) as item
    from {{ ref('model_policies') }}
),

measured as (
    select
        model,
        trim(split_part(item, '=', 1)) as window_name,
        extract(epoch from (trim(split_part(item, '=', 2)))::interval)::bigint
            as seconds
    from listed
)

select
    model,
    window_name,
    seconds,
    case when seconds >= 86400 then 86400 else 3600 end::bigint as step
from measured
