-- What the experiments of ab_assignments are judged by: the reward of each arm, as uncertain as the
-- units that it is of (canary_rewards, holdout_comparison), and guardrails, which may not get
-- worse: the shares of predictions that failed, that were slow and that people reported. These
-- count predictions, not units, and are corrected for their number (Holm). The share of the class
-- that an arm predicts most often is shown and not judged.
-- grain: metric of an experiment.  key: (model, experiment, metric).
-- lateness: any; a late prediction, label or report counts.
with worth as (
    select * from {{ ref('holdout_comparison') }}
    where holdout_predictions > 0
),

canaries {{ as_materialized() }} (
    select * from {{ ref('canary_traffic') }}
),

rewards as (
    select
        traffic.model,
        'canary ' || traffic.model_version as experiment,
        {%- for column in [
            'labels', 'champion_labels', 'measure', 'mean_reward', 'mean_reward_low',
            'mean_reward_high', 'champion_mean_reward', 'champion_mean_reward_low',
            'champion_mean_reward_high', 'unit_groups', 'design_effect', 'difference',
            'always_valid_p_value', 'always_valid_low', 'always_valid_high'
        ] %}
        compared.{{ column }}
        {%- if 'champion' in column %} as {{ column | replace('champion', 'control') }}
        {%- endif %}
        {{- ',' if not loop.last }}
        {%- endfor %}
    from canaries as traffic
    left join {{ ref('canary_rewards') }} as compared
        on
            traffic.model = compared.model
            and traffic.model_version = compared.model_version
    union all
    select
        model,
        'holdback' as experiment,
        labels,
        holdout_labels,
        measure,
        mean_reward,
        mean_reward_low,
        mean_reward_high,
        holdout_mean_reward,
        holdout_mean_reward_low,
        holdout_mean_reward_high,
        unit_groups,
        design_effect,
        difference,
        always_valid_p_value,
        always_valid_low,
        always_valid_high
    from worth
),

reports as (
    select
        traffic.model,
        traffic.model_version,
        coalesce(sum(panes.opinions) filter (
            where panes.model_version = traffic.model_version
        ), 0)::bigint as reports,
        coalesce(sum(panes.opinions) filter (
            where panes.model_version = traffic.champion_version
        ), 0)::bigint as champion_reports
    from canaries as traffic
    left join {{ ref('opinion_panes') }} as panes
        on
            traffic.model = panes.model
            and panes.grain = '1 hour'
            and panes.kind = 'report'
            and {{ pane_start('1 hour', 'traffic.began_at') }} <= panes.pane_start
    group by traffic.model, traffic.model_version
),

served_rows as (
    select
        panes.model,
        panes.variant = 'holdout' as is_control,
        panes.inferences,
        panes.errors,
        panes.block,
        panes.counts
    from {{ ref('model_clock') }} as clock
    inner join {{ ref('latency_panes') }} as panes
        on
            clock.model = panes.model
            and clock.event_clock - interval '720 hours' < panes.pane_start
    where panes.grain = '1 hour' and panes.variant != 'shadow'
),

latency_bins as (
    {{ opened_blocks('served_rows', ['model', 'is_control'], sketch_block()) }}
),

{%- set sides = [('', 'not is_control'), ('control_', 'is_control')] %}

served as (
    select
        model
        {%- for prefix, side in sides %},
        coalesce(sum(inferences) filter (where {{ side }}), 0)::bigint
            as {{ prefix }}predictions,
        coalesce(sum(errors) filter (where {{ side }}), 0)::bigint
            as {{ prefix }}errors
        {%- endfor %}
    from served_rows
    group by model
),

served_slow as (
    {{ slow_counts('latency_bins', ['model'], sides) }}
),

class_rows as (
    select
        traffic.model,
        'canary ' || traffic.model_version as experiment,
        panes.variant = 'champion' as is_control,
        panes.prediction,
        panes.inferences
    from canaries as traffic
    inner join {{ ref('inference_panes') }} as panes
        on
            traffic.model = panes.model
            and panes.grain = '1 hour'
            and {{ pane_start('1 hour', 'traffic.began_at') }} <= panes.pane_start
            and case panes.variant
                when 'canary' then traffic.model_version
                when 'champion' then traffic.champion_version
            end = panes.model_version
    union all
    select
        panes.model,
        'holdback' as experiment,
        panes.variant = 'holdout' as is_control,
        panes.prediction,
        panes.inferences
    from {{ ref('model_clock') }} as clock
    inner join {{ ref('inference_panes') }} as panes
        on
            clock.model = panes.model
            and clock.event_clock - interval '720 hours' < panes.pane_start
    where panes.grain = '1 hour' and panes.variant != 'shadow'
),

classes as (
    select
        model,
        experiment,
        is_control,
        prediction,
        sum(inferences) as inferences
    from class_rows
    group by model, experiment, is_control, prediction
),

top_classes as (
    select
        model,
        experiment
        {%- for prefix, side in sides %},
        {%- for made, column in [('max', 'events'), ('sum', 'trials')] %}
        coalesce({{ made }}(inferences) filter (
            where {{ side }} and prediction is not null
        ), 0)::bigint as {{ prefix }}{{ column }}{{ ',' if not loop.last }}
        {%- endfor %}
        {%- endfor %}
    from classes
    group by model, experiment
    having
        count(prediction) > 0
        and (experiment != 'holdback' or count(case when is_control then 1 end) > 0)
),

counted as (
    select
        traffic.model,
        'canary ' || traffic.model_version as experiment,
        unnest(array['errors', 'slow', 'reports']) as metric
        {%- for prefix in ['', 'champion_'] %}
        {%- set as_prefix = prefix | replace('champion', 'control') %},
        unnest(array[
            traffic.{{ prefix }}errors,
            traffic.{{ prefix }}slow,
            least(reports.{{ prefix }}reports, traffic.{{ prefix }}predictions)
        ]) as {{ as_prefix }}events,
        unnest(array[
            traffic.{{ prefix }}predictions,
            traffic.{{ prefix }}timed,
            traffic.{{ prefix }}predictions
        ]) as {{ as_prefix }}trials
        {%- endfor %}
    from canaries as traffic
    inner join reports
        on
            traffic.model = reports.model
            and traffic.model_version = reports.model_version
    union all
    select
        served.model,
        'holdback' as experiment,
        unnest(array['errors', 'slow']) as metric
        {%- for prefix, _ in sides %},
        unnest(array[
            served.{{ prefix }}errors, coalesce(served_slow.{{ prefix }}slow, 0)
        ]) as {{ prefix }}events,
        unnest(array[
            served.{{ prefix }}predictions, coalesce(served_slow.{{ prefix }}timed, 0)
        ]) as {{ prefix }}trials
        {%- endfor %}
    from served
    left join served_slow on served.model = served_slow.model
    where served.control_predictions > 0
    union all
    select
        model,
        experiment,
        'top class' as metric,
        events,
        trials,
        control_events,
        control_trials
    from top_classes
),

judged as (
    select
        counted.*,
        policies.canary_alpha,
        case counted.metric
            when 'errors' then policies.max_error_rate
            when 'slow' then {{ max_slow_share() }}
            when 'reports' then policies.max_report_rate / 100000
        end as threshold
    from counted
    inner join {{ ref('model_policies') }} as policies
        on counted.model = policies.model
),

rated as (
    select
        *,
        {%- for prefix, _ in sides %}
        {{ prefix }}events::double precision / nullif({{ prefix }}trials, 0)
            as {{ prefix }}value,
        {{ wilson_low(prefix ~ 'events', prefix ~ 'trials') }}
            as {{ prefix }}value_low,
        {{ wilson_high(prefix ~ 'events', prefix ~ 'trials') }}
            as {{ prefix }}value_high,
        {%- endfor %}
        case when metric != 'top class' then
            {{ always_valid_p_value(
                'events', 'trials', 'control_events', 'control_trials'
            ) }}
        end as always_valid_p_value
    from judged
    {{ fence() }}
),

{{ holm_p_values(
    'corrected', 'rated', ['model', 'experiment'], 'always_valid_p_value', 'metric'
) }}

select
    -- ids
    rewards.model,
    rewards.experiment,
    'reward' as metric,
    -- arms
    coalesce(rewards.labels, 0) as trials,
    rewards.mean_reward as value,
    rewards.mean_reward_low as value_low,
    rewards.mean_reward_high as value_high,
    coalesce(rewards.control_labels, 0) as control_trials,
    rewards.control_mean_reward as control_value,
    rewards.control_mean_reward_low as control_value_low,
    rewards.control_mean_reward_high as control_value_high,
    rewards.measure,
    rewards.unit_groups,
    rewards.design_effect,
    -- difference
    rewards.difference,
    rewards.always_valid_low,
    rewards.always_valid_high,
    rewards.always_valid_p_value,
    rewards.always_valid_p_value as adjusted_p_value,
    null::double precision as threshold,
    coalesce(
        rewards.difference < 0
        and rewards.always_valid_p_value < policies.canary_alpha
        and (
            rewards.measure = 'share'
            or least(rewards.labels, rewards.control_labels) >= policies.min_sample
        ),
        false
    ) as is_violated
from rewards
inner join {{ ref('model_policies') }} as policies on rewards.model = policies.model
union all
select
    model,
    experiment,
    metric,
    trials,
    value,
    value_low,
    value_high,
    control_trials,
    control_value,
    control_value_low,
    control_value_high,
    'share' as measure,
    null::double precision as unit_groups,
    null::double precision as design_effect,
    value - control_value as difference,
    null::double precision as always_valid_low,
    null::double precision as always_valid_high,
    always_valid_p_value,
    adjusted_p_value,
    threshold,
    coalesce(
        value > control_value
        and value > threshold
        and adjusted_p_value < canary_alpha,
        false
    ) as is_violated
from corrected
