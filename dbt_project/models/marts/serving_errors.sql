-- How often each version that serves has failed lately, and whether it still does.
-- grain: version that serves.  key: (model, model_version).
-- lateness: any; the window is the rollback_window before the model's clock.
with serving as (
    select
        versions.model,
        versions.model_version,
        versions.status as variant,
        versions.changed_at as serving_since,
        clock.event_clock,
        {{ pane_start('10 seconds', '(clock.event_clock - policies.rollback_window)') }}
            as first_pane,
        {{ pane_start(
            '10 seconds', '(clock.event_clock - policies.rollback_window / 2)'
        ) }} as middle_pane
    from {{ ref('model_versions') }} as versions
    inner join {{ ref('model_clock') }} as clock on versions.model = clock.model
    inner join
        {{ ref('model_policies') }} as policies
    on versions.model = policies.model
    where versions.status in ('champion', 'canary')
),

answered as (
    select
        serving.model,
        serving.model_version,
        sum(panes.inferences)::bigint as answers,
        sum(panes.errors)::bigint as errors,
        coalesce(sum(panes.inferences) filter (
            where panes.pane_start >= serving.middle_pane
        ), 0)::bigint as latest_answers,
        coalesce(sum(panes.errors) filter (
            where panes.pane_start >= serving.middle_pane
        ), 0)::bigint as latest_errors
    from serving
    inner join {{ ref('request_panes') }} as panes
        on
            serving.model = panes.model
            and serving.model_version = panes.model_version
            and serving.first_pane <= panes.pane_start
    where panes.grain = '10 seconds' and panes.variant != 'shadow'
    group by serving.model, serving.model_version
)

select
    serving.model,
    serving.model_version,
    serving.variant,
    serving.serving_since,
    coalesce(answered.answers, 0) as answers,
    coalesce(answered.errors, 0) as errors,
    answered.errors::double precision / nullif(answered.answers, 0) as error_rate,
    answered.latest_errors::double precision / nullif(answered.latest_answers, 0)
        as latest_error_rate,
    serving.first_pane as window_start,
    serving.event_clock as window_end
from serving
left join answered
    on
        serving.model = answered.model
        and serving.model_version = answered.model_version
