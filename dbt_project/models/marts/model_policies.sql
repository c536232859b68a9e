-- The thresholds in force for every model: its own rows, else those of model '*'.
-- A day of an interval has 24 hours, a month 30 days, a year 365.25.
-- grain: model.  key: model.  lateness: none; a changed row is seen by the next query.
{{ config(stored=true) }}

with models as (
    select model from {{ ref('model_activity') }}
    union all
    select model from {{ ref('stg_model_events') }}
    union all
    select model from {{ source('control', 'policies') }}
    where model != '*'
),

named as (
    select
        model,
        '*' as all_models
    from models
    group by model
),

chosen as (
    select
        named.model,
        jsonb_object_agg(defaults.policy, coalesce(own.value, defaults.value))
            as policies
    from named
    inner join {{ source('control', 'policies') }} as defaults
        on named.all_models = defaults.model
    left join {{ source('control', 'policies') }} as own
        on named.model = own.model and defaults.policy = own.policy
    -- RisingWave stores a null key, which jsonb_object_agg would end the view on
    where defaults.policy is not null
    group by named.model
)

select
    model,
    nullif(policies ->> 'task', 'inferred') as task,
    nullif(policies ->> 'positive_label', '') as positive_label,
    nullif(policies ->> 'default_label', '') as default_label,
    nullif(policies ->> 'custom_windows', '') as custom_windows,
    nullif(policies ->> 'canary_steps', '') as canary_steps,
    policies ->> 'canary_allocation' as canary_allocation,
    policies ->> 'rollout' as rollout,
    nullif(policies ->> 'holdback_version', '') as holdback_version,
    policies ->> 'explore' as explore,
    policies ->> 'gate_metric' as gate_metric,
    coalesce(policies ->> 'learn' = 'on', false) as learns
    {%- for policy in [
        'label_window', 'metric_window', 'drift_window', 'cooldown', 'retrain_every',
        'label_patience', 'forecast_horizon', 'rollback_window', 'volume_gap',
        'session_gap', 'step_time', 'rollout_patience', 'review_lease', 'vector_retention'
    ] %},
    {{ fixed_length("(policies ->> '" ~ policy ~ "')::interval") }} as {{ policy }}
    {%- endfor %}
    {%- for policy in [
        'min_new_labels', 'min_sample', 'max_metric_drop', 'psi_alert',
        'drift_alpha', 'max_calibration_drift', 'min_improvement', 'max_forgetting', 'max_slice_drop', 'clear_ratio',
        'page_hinkley_delta', 'page_hinkley_threshold', 'psi_halt', 'max_error_rate',
        'max_canary_loss', 'canary_alpha', 'max_report_rate', 'max_latency_ms',
        'quality_tolerance', 'suspect_auc', 'shadow_pairs', 'holdback', 'explore_rate',
        'explore_temperature', 'explore_half_life', 'max_arm_share', 'review_overlap',
        'best_probability', 'embed_inputs'
    ] %},
    (policies ->> '{{ policy }}')::double precision as {{ policy }}
    {%- endfor %}
from chosen
