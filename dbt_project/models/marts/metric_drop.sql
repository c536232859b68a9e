-- Whether a champion is worse than at its promotion by more than chance: the first of its metrics
-- whose value was published with it as baseline_<metric>, over the labels of recent_performance.
-- Both values have a sampling error. That of the baseline is the recent one, scaled by
-- baseline_rows where the version says on how many rows it was measured. A drop counts from
-- max_metric_drop on, and where a t-test calls it no chance at drift_alpha.
-- grain: model.  key: model.
-- lateness: any; the window is the metric_window before the model's clock, in whole hours.
{%- set metrics = [
    ('macro_auc', 'auc', -1), ('auc', 'auc', -1), ('accuracy', 'accuracy', -1),
    ('mae', 'mae', 1), ('rmse', 'rmse', 1), ('mean_reward', 'mean_reward', -1)
] %}
with measured as (
    select
        recent.model,
        recent.model_version,
        recent.labeled,
        {{ metric_number('baseline_rows', 'champion.metrics') }} as baseline_rows,
        unnest(array[{% for metric, _, _ in metrics %}
            '{{ metric }}'{{ ',' if not loop.last }}
        {%- endfor %}]) as metric,
        unnest(array[1, 2, 3, 4, 5, 6]) as preference,
        unnest(array[{% for _, _, worse in metrics %}
            {{ worse }}{{ ',' if not loop.last }}
        {%- endfor %}]) as worse,
        unnest(array[{% for metric, _, _ in metrics %}
            recent.{{ metric }}{{ ',' if not loop.last }}
        {%- endfor %}]) as recent,
        unnest(array[{% for metric, _, _ in metrics %}
            recent.{{ metric }}_stderr{{ ',' if not loop.last }}
        {%- endfor %}]) as recent_stderr,
        unnest(array[{% for _, baseline, _ in metrics %}
            {{ metric_number('baseline_' ~ baseline, 'champion.metrics') }}
            {{- ',' if not loop.last }}
        {%- endfor %}]) as baseline,
        unnest(array[{% for metric, _, _ in metrics %}
            recent.{{ 'fewer_of_classes' if metric == 'auc' else 'labeled' }} - 1
            {{- ',' if not loop.last }}
        {%- endfor %}]) as degrees
    from {{ ref('recent_performance') }} as recent
    left join {{ ref('champions') }} as champion
        on
            recent.model = champion.model
            and recent.model_version = champion.model_version
),

ranked as (
    select
        model,
        model_version,
        metric,
        labeled,
        case when baseline_rows >= 1 then baseline_rows end as baseline_rows,
        degrees,
        worse,
        {{ bounded('baseline') }} as baseline,
        {{ bounded('recent') }} as recent,
        {{ bounded('recent_stderr') }} as recent_stderr,
        row_number() over (
            partition by model
            order by
                case
                    when recent is not null and baseline is not null then 1
                    when recent is not null then 2
                    else 3
                end,
                preference
        ) as place
    from measured
),

compared as (
    select
        model,
        model_version,
        metric,
        labeled,
        degrees,
        worse,
        baseline,
        recent,
        recent_stderr,
        worse * (recent - baseline) as loss,
        recent_stderr * coalesce(sqrt(labeled / nullif(baseline_rows, 0)), 1)
            as baseline_stderr
    from ranked
    where place = 1
),

tested as (
    select
        *,
        loss / nullif(
            sqrt(recent_stderr * recent_stderr + baseline_stderr * baseline_stderr), 0
        ) as t
    from compared
),

placed as (
    select
        *,
        {{ student_z('t', 'degrees') }} as z
    from tested
),

judged as (
    select
        *,
        loss / nullif(abs(baseline), 0) as relative_loss,
        {{ normal_p_value('z') }} as p_value
    from placed
)

select
    -- ids
    judged.model,
    judged.model_version,
    -- the verdict
    case when judged.recent is not null then judged.metric end as metric,
    case
        when judged.loss is null then 'no baseline'
        when judged.labeled < policies.min_sample then 'too few rows'
        when
            judged.relative_loss >= policies.max_metric_drop
            and judged.z > 0
            and judged.p_value < policies.drift_alpha
            then 'dropped'
        else 'stable'
    end as status,
    -- the values
    judged.baseline,
    case when judged.baseline is not null then judged.baseline_stderr end
        as baseline_stderr,
    judged.recent,
    judged.recent_stderr,
    judged.relative_loss,
    judged.p_value,
    judged.labeled
from judged
inner join {{ ref('model_policies') }} as policies on judged.model = policies.model
