-- How often people prefer a version's prediction to another version's, and how strong that makes
-- it. Strengths are those of Bradley and Terry (1952): i is preferred to j with probability
-- strength_i / (strength_i + strength_j), the likeliest ones after half a win was given to either
-- side of every pair that met. They come from a fixed number of Newman's (2023) steps,
--   strength_i = sum_j(wins_ij strength_j / (strength_i + strength_j))
--              / sum_j(losses_ij / (strength_i + strength_j)),
-- each halved (the geometric mean with the old one), because all versions step at once. A tie is
-- half a win for either side. Twenty are
-- within 0.001 of ln strength where all met each other, or one and the same; Hunter's (2004) would
-- still be 0.4 away. Along a chain of versions, each of which met only the next, they fall short:
-- strength_error says by how much, from the last two steps as of a geometric series (Aitken 1926).
-- The last 30 days behind the model's clock, by the hour of the preference.
-- grain: version that was compared with another one.  key: (model, model_version).
-- lateness: any; a preference counts once both its predictions are there.
{%- set steps = 20 %}
{%- set last_three = [
    'strength', 'strength_' ~ (steps - 1), 'strength_' ~ (steps - 2)
] %}
with outcomes as (
    select
        panes.model,
        panes.preferred_version,
        panes.rejected_version,
        sum(panes.preferences) as preferences,
        sum(panes.ties) as ties
    from {{ ref('model_clock') }} as clock
    inner join {{ ref('preference_panes') }} as panes
        on
            clock.model = panes.model
            and clock.event_clock - interval '720 hours' < panes.pane_start
    where panes.preferred_version != panes.rejected_version
    group by panes.model, panes.preferred_version, panes.rejected_version
    having sum(panes.preferences + panes.ties) != 0
),

sides as (
    select
        model,
        preferred_version as model_version,
        rejected_version as opponent,
        preferences as wins,
        0 as losses,
        ties
    from outcomes
    union all
    select
        model,
        rejected_version as model_version,
        preferred_version as opponent,
        0 as wins,
        preferences as losses,
        ties
    from outcomes
),

pairs as (
    select
        model,
        model_version,
        opponent,
        least(model_version, opponent) as one_version,
        greatest(model_version, opponent) as other_version,
        sum(wins)::bigint as wins,
        sum(losses)::bigint as losses,
        sum(ties)::bigint as ties
    from sides
    group by model, model_version, opponent
),

step_0 as (
    select
        *,
        1::double precision as strength,
        1::double precision as opposing
    from pairs
),

{%- for step in range(1, steps + 1) %}

step_{{ step }} as (
    select
        *,
        coalesce(lag(strength) over of_pair, lead(strength) over of_pair) as opposing
    from (
        select
            model,
            model_version,
            opponent,
            one_version,
            other_version,
            wins,
            losses,
            ties,
            {%- if step > steps - 2 %}
            strength as strength_{{ step - 1 }},
            {%- endif %}
            {%- if step == steps %}
            strength_{{ step - 2 }},
            {%- endif %}
            sqrt(
                strength
                * sum(
                    (wins + 0.5 * ties + 0.5) * opposing
                    / nullif(strength + opposing, 0)
                ) over of_version
                / nullif(
                    sum((losses + 0.5 * ties + 0.5) / nullif(strength + opposing, 0))
                        over of_version, 0
                )
            ) as strength
        from step_{{ step - 1 }}
        window of_version as (
            partition by model, model_version
            order by opponent
            rows between unbounded preceding and unbounded following
        )
    ) as stronger
    window of_pair as (
        partition by model, one_version, other_version
        order by model_version
    )
),
{%- endfor %}

versions as (
    select
        model,
        model_version,
        sum(wins)::bigint as wins,
        sum(losses)::bigint as losses,
        sum(ties)::bigint as ties,
        sum(wins + losses + ties)::bigint as comparisons,
        count(*) as opponents,
        {%- for name in last_three %}
        ln(nullif(max({{ name }}), 0)) as log_{{ name }}{{ ',' if not loop.last }}
        {%- endfor %}
    from step_{{ steps }}
    group by model, model_version
),

centred as (
    select
        *,
        {%- for name in last_three %}
        log_{{ name }} - avg(log_{{ name }}) over of_model as {{ name }}
        {{- ',' if not loop.last }}
        {%- endfor %}
    from versions
    window of_model as (
        partition by model
        order by model_version
        rows between unbounded preceding and unbounded following
    )
),

moved as (
    select
        *,
        max(abs(strength - strength_{{ steps - 1 }})) over of_model as last_move,
        max(abs(strength_{{ steps - 1 }} - strength_{{ steps - 2 }})) over of_model
            as move_before
    from centred
    window of_model as (
        partition by model
        order by model_version
        rows between unbounded preceding and unbounded following
    )
)

select
    model,
    model_version,
    opponents,
    comparisons,
    wins,
    losses,
    ties,
    (wins + 0.5 * ties)::double precision / nullif(comparisons, 0) as win_rate,
    {{ wilson_low('wins + 0.5 * ties', 'comparisons') }} as win_rate_low,
    {{ wilson_high('wins + 0.5 * ties', 'comparisons') }} as win_rate_high,
    case when strength is not null then {{ exp_of('strength') }} end as strength,
    case
        when last_move < move_before
            then last_move * last_move / nullif(move_before - last_move, 0)
        when last_move = 0 then 0
    end as strength_error
from moved
