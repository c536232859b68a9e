-- How long a version took from the first new feedback to its first prediction, stage by stage.
-- All times are the wall's: when the engine took an event in, or when the trainer did a step. The
-- last new feedback also tells how long it was on its way (ingest) and waited for its prediction
-- (join).
-- grain: stage of a version.  key: (model, model_version, stage).
-- lateness: none; a stage is there once both its ends are.
with served as (
    select
        model,
        model_version,
        min(first_ingested_at) as served_at
    from {{ ref('model_activity') }}
    group by model, model_version
),

steps as (
    select
        versions.model,
        versions.model_version,
        versions.published_at,
        -- an application may serve a version that it publishes later: that is no stage
        case when served.served_at >= versions.published_at then served.served_at end
            as served_at
        {%- for step in [
            'first_feedback_at', 'last_feedback_sent_at', 'last_feedback_ingested_at',
            'last_feedback_at', 'claimed_at', 'compiled_at', 'trained_at', 'gated_at'
        ] %},
        {{ metric_time(step, 'versions.metrics') }} as {{ step }}
        {%- endfor %}
    from {{ ref('model_versions') }} as versions
    left join served
        on
            versions.model = served.model
            and versions.model_version = served.model_version
    where versions.published_at is not null
),

stages as (
    {%- for place, stage, start, finish in [
        (1, 'collect', 'first_feedback_at', 'last_feedback_at'),
        (2, 'ingest', 'last_feedback_sent_at', 'last_feedback_ingested_at'),
        (3, 'join', 'last_feedback_ingested_at', 'last_feedback_at'),
        (4, 'trigger', 'last_feedback_at', 'claimed_at'),
        (5, 'compile', 'claimed_at', 'compiled_at'),
        (6, 'train', 'compiled_at', 'trained_at'),
        (7, 'gate', 'trained_at', 'gated_at'),
        (8, 'publish', 'gated_at', 'published_at'),
        (9, 'serve', 'published_at', 'served_at'),
        (10, 'total', 'last_feedback_at', 'served_at')
    ] %}
    {%- if not loop.first %}
    union all
    {%- endif %}
    select
        model,
        model_version,
        {{ place }} as place,
        '{{ stage }}' as stage,
        {{ start }} as started_at,
        {{ finish }} as finished_at
    from steps
    where {{ start }} is not null and {{ finish }} is not null
    {%- endfor %}
)

select
    model,
    model_version,
    place,
    stage,
    started_at,
    finished_at,
    extract(epoch from finished_at - started_at)::double precision as seconds
from stages
