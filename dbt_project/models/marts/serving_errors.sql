-- How often each version that serves has failed lately, and whether it still does: champions and
-- canaries, and whatever else serves.
-- grain: version that serves.  key: (model, model_version).
-- lateness: any; the window is the rollback_window before the model's clock.
with spans as (
    select
        clock.model,
        clock.event_clock,
        {{ pane_start('10 seconds', '(clock.event_clock - policies.rollback_window)') }}
            as first_pane,
        {{ pane_start(
            '10 seconds', '(clock.event_clock - policies.rollback_window / 2)'
        ) }} as middle_pane
    from {{ ref('model_clock') }} as clock
    inner join {{ ref('model_policies') }} as policies on clock.model = policies.model
),

told as (
    select
        model,
        model_version,
        status as variant,
        changed_at as serving_since
    from {{ ref('model_versions') }}
    where status in ('champion', 'canary')
),

answered as (
    select
        spans.model,
        panes.model_version,
        case when count(case when panes.variant = 'canary' then 1 end) = count(*)
            then 'canary' else 'champion' end as variant,
        sum(panes.inferences)::bigint as predictions,
        sum(panes.errors)::bigint as errors,
        coalesce(sum(panes.inferences) filter (
            where panes.pane_start >= spans.middle_pane
        ), 0)::bigint as latest_predictions,
        coalesce(sum(panes.errors) filter (
            where panes.pane_start >= spans.middle_pane
        ), 0)::bigint as latest_errors
    from spans
    inner join {{ ref('request_panes') }} as panes
        on
            spans.model = panes.model
            and spans.first_pane <= panes.pane_start
            and spans.event_clock >= panes.pane_start
    where panes.grain = '10 seconds' and panes.variant != 'shadow'
    group by spans.model, panes.model_version
),

began as (
    select
        model,
        model_version,
        min(first_event_time) as first_event_time
    from {{ ref('model_activity') }}
    where variant != 'shadow'
    group by model, model_version
),

serving as (
    select
        model,
        model_version
    from told
    union
    select
        model,
        model_version
    from answered
)

select
    serving.model,
    serving.model_version,
    coalesce(told.variant, answered.variant) as variant,
    coalesce(told.serving_since, began.first_event_time) as serving_since,
    coalesce(answered.predictions, 0) as predictions,
    coalesce(answered.errors, 0) as errors,
    answered.errors::double precision / nullif(answered.predictions, 0) as error_rate,
    {{ wilson_low('answered.errors', 'answered.predictions', 0.999) }}
        as error_rate_low,
    answered.latest_errors::double precision / nullif(answered.latest_predictions, 0)
        as latest_error_rate,
    spans.first_pane as window_start,
    spans.event_clock as window_end
from serving
inner join spans on serving.model = spans.model
{%- for part in ['told', 'answered', 'began'] %}
left join {{ part }}
    on
        serving.model = {{ part }}.model
        and serving.model_version = {{ part }}.model_version
{%- endfor %}
