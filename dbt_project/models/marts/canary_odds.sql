-- What canary_verdict says of each canary, and how likely it is the best version of its model: the share of
-- the traffic that Thompson sampling (1933) would give it, which the conductor follows with the policy
-- canary_allocation.
-- The difference from the champion is normal a posteriori, with no prior, around difference; stderr is
-- that half of its interval which lies towards 0. Canaries share their champion's uncertainty: of the
-- variance, the champion has the part labels / (labels + champion_labels), the least of the model's
-- canaries. So the champion and its canaries are independent normal variables, and
--   P(best) = integral of density(x) * product of P(each other one < x) over x
-- is a sum over 400 steps of x, which cover whatever the best may be but for 1e-14.
-- grain: canary version.  key: (model, model_version).
-- lateness: any; a late label or a revision counts for the prediction that it is about.
{%- set all_of_model -%}
over (
            partition by model
            order by model_version
            rows between unbounded preceding and unbounded following
        )
{%- endset %}
{%- set told = [
    'champion_version', 'verdict', 'reason', 'predictions', 'labels', 'champion_labels',
    'measure', 'mean_reward', 'champion_mean_reward', 'difference'
] %}
with verdicts as (
    select
        verdicts.model,
        verdicts.model_version,
        {%- for column in told %}
        verdicts.{{ column }},
        {%- endfor %}
        case
            when verdicts.difference > 0
                then verdicts.difference - verdicts.difference_low
            else verdicts.difference_high - verdicts.difference
        end / {{ z_of(0.95) }} as half,
        least(verdicts.labels, verdicts.champion_labels) >= policies.min_sample
        and verdicts.reason not in ('no champion', 'sample ratio', 'no reward')
            as is_compared
    from {{ ref('canary_verdict') }} as verdicts
    inner join {{ ref('model_policies') }} as policies
        on verdicts.model = policies.model
),

compared as (
    select
        *,
        case when is_compared and half > 0 then half end as stderr
    from verdicts
    {{ fence() }}
),

halves as (
    select
        *,
        min(
            stderr * stderr * labels
            / nullif((labels + champion_labels)::double precision, 0)
        ) {{ all_of_model }} as champion_variance
    from compared
),

sides as (
    select
        *,
        sqrt(champion_variance) as champion_sd,
        case
            when stderr * stderr > champion_variance
                then sqrt(stderr * stderr - champion_variance)
        end as own_sd
    from halves
    {{ fence() }}
),

bounds as (
    select
        *,
        greatest(
            -8 * champion_sd, max(difference - 8 * own_sd) {{ all_of_model }}
        ) as lowest,
        greatest(
            8 * champion_sd, max(difference + 8 * own_sd) {{ all_of_model }}
        ) as highest
    from sides
    {{ fence() }}
),

numbered as (
    select
        *,
        (highest - lowest) / 400 as width,
        generate_series(0, case when own_sd is null then 0 else 400 end) as step
    from bounds
),

points as (
    select
        *,
        (lowest + step * width - difference) / nullif(own_sd, 0) as z,
        (lowest + step * width) / nullif(champion_sd, 0) as champion_z
    from numbered
    {{ fence() }}
),

chances as (
    select
        *,
        {{ normal_cdf('z') }} as own_chance,
        {{ normal_cdf('champion_z') }} as champion_chance
    from points
    {{ fence() }}
),

logs as (
    select
        *,
        {%- for side in ['own', 'champion'] %}
        ln(case
            when {{ side }}_chance < '1e-300'::double precision
                then '1e-300'::double precision
            else {{ side }}_chance
        end) as {{ side }}_log{{ ',' if not loop.last }}
        {%- endfor %}
    from chances
    {{ fence() }}
),

products as (
    select
        *,
        sum(own_log) over (
            partition by model, step
            order by model_version
            rows between unbounded preceding and unbounded following
        ) as all_log
    from logs
)

select
    model,
    model_version,
    {%- for column in told %}
    max({{ column }}) as {{ column }},
    {%- endfor %}
    max(stderr) as stderr,
    case
        when max(own_sd) is not null then
            least(sum(
                {{ exp_of('all_log - own_log + champion_log - z * z / 2') }} * width
                / nullif(own_sd, 0) / 2.5066282746310002
            ), 1)
    end as best_probability
from products
group by model, model_version
