-- The champion of each model, and whether it serves. What watches a model follows its champion only
-- while that serves: a version may be promoted while the application's own server goes on serving
-- versions of its own, and then all versions that serve count as one.
-- It serves while its last prediction is at most a day older than the model's last one.
-- grain: model that has a champion.  key: model.  lateness: any.
{{ config(stored=true) }}

with answered as (
    select
        model,
        model_version,
        max(last_event_time) as last_prediction_at
    from {{ ref('model_activity') }}
    where variant != 'shadow'
    group by model, model_version
),

compared as (
    select
        *,
        max(last_prediction_at) over (
            partition by model
            order by model_version
            rows between unbounded preceding and unbounded following
        ) as newest_prediction_at
    from answered
)

select
    champion.model,
    champion.model_version,
    champion.promoted_at,
    champion.metrics,
    compared.last_prediction_at,
    coalesce(
        compared.last_prediction_at
        >= compared.newest_prediction_at - interval '24 hours',
        false
    ) as is_serving
from {{ ref('model_versions') }} as champion
left join compared
    on
        champion.model = compared.model
        and champion.model_version = compared.model_version
where champion.status = 'champion'
