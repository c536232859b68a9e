{#-
  CTEs of the rewards of the last 30 days behind each model's clock, by the hour of the prediction
  and without shadow predictions. The last of them, `{{ name }}`, has model, variant, arm (the
  predicted class), pulls, reward and reward_squared; sum them. Silence counts.
-#}
{% macro earned(name) -%}
    {{ name }}_models as (
        select
            clock.model,
            clock.event_clock,
            policies.default_label,
            {{ headrace.settled_at() }} as settled_at,
            {{ headrace.pane_start('1 hour', '(clock.event_clock - interval \'720 hours\')') }}
            + interval '1 hour' as start_hour,
            null::timestamptz as first_minute
        from {{ ref('model_clock') }} as clock
        inner join {{ ref('model_policies') }} as policies on clock.model = policies.model
    ),

    {{ name }}_spans as (
        {{ headrace.label_spans(name ~ '_models', ['model', 'settled_at']) }}
    ),

    {{ name }} as (
        select
            panes.model,
            panes.variant,
            panes.arm,
            panes.pulls,
            panes.reward,
            panes.reward_squared
        from {{ name }}_models as models
        inner join {{ ref('arm_panes') }} as panes
            on
                models.model = panes.model
                and models.start_hour <= panes.pane_start
        where models.settled_at is null and panes.pulls != 0
        union all
        select
            panes.model,
            panes.variant,
            panes.prediction as arm,
            panes.examples as pulls,
            panes.reward,
            panes.reward_squared
        from {{ name }}_spans as spans
        inner join {{ ref('label_panes') }} as panes
            on
                spans.model = panes.model
                and spans.grain = panes.grain
                and spans.span_start <= panes.pane_start
                and spans.span_end > panes.pane_start
        where
            spans.settled_at is not null
            and panes.clock = 'inference'
            and panes.variant != 'shadow'
            and panes.examples != 0
        union all
        select
            model,
            variant,
            prediction as arm,
            examples as pulls,
            reward,
            reward_squared
        from (
            {{ headrace.silence(name ~ '_spans', ['model']) }}
        ) as silent
    )
{%- endmacro %}
