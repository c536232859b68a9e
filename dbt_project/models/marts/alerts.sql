-- What needs attention now: every value at its threshold, from all views that have one.
-- An alert fires at its threshold. One that fired and whose value fell back, though not below
-- clear_ratio of the threshold, hovers: it stays until it is clear, so nothing flaps. So does drift
-- that may still be chance. The trainer keeps since when (control.alert_log), once a minute.
-- What gateways cannot load alerts also where the model has no predictions, and so no clock.
-- grain: subject of a check.  key: (model, alert, subject).
-- lateness: any; each follows the view that it comes from.
{%- set limits = [
    'psi_alert', 'max_metric_drop', 'max_calibration_drift', 'max_error_rate',
    'max_report_rate', 'max_latency_ms'
] %}
with policies as (
    select * from {{ ref('model_policies') }}
),

checked as (
    {%- for view, alert, subject, may_halt in [
        ('feature_psi', 'feature_drift', 'feature', false),
        ('text_drift', 'text_drift', 'field', false),
        ('prediction_drift', 'prediction_drift', 'model_version', true),
        ('label_drift', 'label_drift', "''", false)
    ] %}
    select
        model,
        '{{ alert }}' as alert,
        {{ subject }} as subject,
        psi_excess as value,
        status not in ('drifted', 'halt') as is_doubtful,
        'psi_alert' as policy,
        {%- if may_halt %}
        case when status = 'halt' then 'critical' else 'warning' end as severity
        {%- else %}
        'warning' as severity
        {%- endif %}
    from {{ ref(view) }}
    where status not in ('too few rows', 'identifier')
    union all
    {%- endfor %}
    select
        model,
        'metric_drop' as alert,
        metric as subject,
        relative_loss as value,
        status != 'dropped' as is_doubtful,
        'max_metric_drop' as policy,
        'critical' as severity
    from {{ ref('metric_drop') }}
    where status in ('dropped', 'stable')
    union all
    select
        model,
        'calibration_drift' as alert,
        '' as subject,
        effect_size as value,
        status != 'drifted' as is_doubtful,
        'max_calibration_drift' as policy,
        'warning' as severity
    from {{ ref('calibration_drift') }}
    where status in ('drifted', 'stable')
    union all
    select
        failing.model,
        'errors' as alert,
        failing.model_version as subject,
        failing.error_rate as value,
        failing.error_rate_low <= policies.max_error_rate as is_doubtful,
        'max_error_rate' as policy,
        'critical' as severity
    from {{ ref('serving_errors') }} as failing
    inner join policies on failing.model = policies.model
    where failing.predictions >= policies.min_sample
    union all
    select
        model,
        'reports' as alert,
        window_name as subject,
        reports_per_100k as value,
        false as is_doubtful,
        'max_report_rate' as policy,
        'critical' as severity
    from {{ ref('report_rate') }}
    where status != 'too few predictions'
    union all
    select
        model,
        'latency' as alert,
        '' as subject,
        latency_p95_ms as value,
        false as is_doubtful,
        'max_latency_ms' as policy,
        'warning' as severity
    from {{ ref('scaling_signal') }}
),

limits as (
    select
        model,
        clear_ratio,
        {%- for wanted in ["'" ~ limits | join("', '") ~ "'", limits | join(', ')] %}
        unnest(array[{{ wanted }}]) as {{ ['policy', 'threshold'][loop.index0] }}
        {{- ',' if not loop.last }}
        {%- endfor %}
    from policies
),

measured as (
    select
        checked.model,
        checked.alert,
        checked.subject,
        checked.severity,
        checked.value,
        checked.is_doubtful,
        limits.threshold,
        limits.clear_ratio
    from checked
    inner join limits
        on checked.model = limits.model and checked.policy = limits.policy
    where checked.value >= limits.threshold * limits.clear_ratio
    union all
    select
        concept.model,
        'concept_drift' as alert,
        '' as subject,
        'critical' as severity,
        concept.statistic as value,
        false as is_doubtful,
        concept.threshold,
        policies.clear_ratio
    from {{ ref('concept_drift') }} as concept
    inner join policies on concept.model = policies.model
    where
        concept.status != 'too few rows'
        and concept.statistic >= concept.threshold * policies.clear_ratio
    union all
    select
        model,
        check_name as alert,
        coalesce(subject, '') as subject,
        'warning' as severity,
        current_value as value,
        false as is_doubtful,
        threshold,
        1::double precision as clear_ratio
    from {{ ref('data_quality') }}
    where status = 'alert' and check_name != 'error_rate'
    union all
    select
        model,
        'report_spike' as alert,
        dimension || ' ' || slice as subject,
        'warning' as severity,
        spike_score as value,
        false as is_doubtful,
        5::double precision as threshold,
        1::double precision as clear_ratio
    from {{ ref('report_spikes') }}
    where status = 'spike'
    union all
    select
        model,
        'conversion_drop' as alert,
        '' as subject,
        'warning' as severity,
        -z_score as value,
        false as is_doubtful,
        4::double precision as threshold,
        1::double precision as clear_ratio
    from {{ ref('conversion_rate') }}
    where status = 'low'
    union all
    select
        model,
        'sample_ratio' as alert,
        model_version as subject,
        'warning' as severity,
        share as value,
        false as is_doubtful,
        planned_share as threshold,
        1::double precision as clear_ratio
    from {{ ref('canary_share') }}
    where {{ is_unplanned('share_p_value') }}
    union all
    select
        model,
        'feeds_back' as alert,
        coalesce(label, '') as subject,
        case when halts then 'critical' else 'warning' end as severity,
        share as value,
        false as is_doubtful,
        holdout_share as threshold,
        1::double precision as clear_ratio
    from {{ ref('performative_check') }}
    where status = 'feeds back'
),

judged as (
    select
        model,
        alert,
        subject,
        case
            when is_doubtful then 'hovering'
            when value >= threshold or clear_ratio = 1 then 'firing'
            else 'hovering'
        end as state,
        severity,
        value,
        threshold,
        null::timestamptz as seen_at
    from measured
    union all
    select
        model,
        'not_loaded' as alert,
        model_version as subject,
        'firing' as state,
        case when max(case when variant = 'champion' then 1 else 0 end) = 1
            then 'critical' else 'warning' end as severity,
        count(distinct gateway)::double precision as value,
        1::double precision as threshold,
        min(seen_at) as seen_at
    from {{ source('control', 'load_failures') }}
    group by model, model_version
),

opened as (
    select
        model,
        alert,
        subject,
        min(since) as since
    from {{ source('control', 'alert_log') }}
    where cleared_at is null
    group by model, alert, subject
)

select
    judged.model,
    judged.alert,
    judged.subject,
    judged.state,
    judged.severity,
    judged.value,
    judged.threshold,
    coalesce(opened.since, clock.event_clock, judged.seen_at) as since,
    coalesce(clock.event_clock, judged.seen_at) as event_clock
from judged
left join {{ ref('model_clock') }} as clock on judged.model = clock.model
left join opened
    on
        judged.model = opened.model
        and judged.alert = opened.alert
        and judged.subject = opened.subject
where
    (judged.state = 'firing' or opened.since is not null)
    and (clock.event_clock is not null or judged.seen_at is not null)
