{#-
  Silence as a label. Where the policy default_label is set, a prediction that nobody judged within
  label_window has that label until somebody does (labeled_examples says so row by row); views that
  decide something count it from the panes: all predictions of a span, less those that were judged.

  Panes count as a whole, once all their predictions are past their label window: the last hour by the
  minute while minutes are kept (two days), else by the hour. What was judged there before counts
  with them and not earlier, as judgements that come soon would else come alone. A label_window of 0
  knows no such wait.
-#}

{#- Up to when predictions are past their label window; null: all are, or silence says nothing. -#}
{% macro settled_at(event_clock='clock.event_clock', policies='policies') -%}
    case
            when
                {{ policies }}.default_label is not null
                and {{ policies }}.label_window > interval '0 seconds'
                then {{ event_clock }} - {{ policies }}.label_window
        end
{%- endmacro %}

{#-
  A query of the spans in which the predictions of each row of a relation are read: its keys,
  default_label, grain, span_start and span_end (exclusive).
  relation  has the keys, default_label, settled_at, event_clock, start_hour (the first hour that is
            read as a whole) and first_minute (before it, where minutes are read; else null)
-#}
{% macro label_spans(relation, keys) -%}
    {%- set columns = keys | join(',\n        ') -%}
    {%- set settled_hour = headrace.pane_start('1 hour', 'settled_at') -%}
    {%- set settled_minute = headrace.pane_start('1 minute', 'settled_at') -%}
    select
        {{ columns }},
        default_label,
        grain,
        span_start,
        span_end
    from (
        select
            {{ columns }},
            default_label,
            unnest(array['1 hour', '1 minute', '1 minute']) as grain,
            unnest(array[
                start_hour,
                first_minute,
                case
                    when
                        settled_at >= start_hour
                        and {{ settled_hour }}
                        >= {{ headrace.pane_start('1 hour', 'event_clock') }} - interval '2 days'
                        then {{ settled_hour }}
                end
            ]) as span_start,
            unnest(array[
                coalesce({{ settled_hour }}, event_clock + interval '1 second'),
                least(start_hour, coalesce({{ settled_minute }}, start_hour)),
                {{ settled_minute }}
            ]) as span_end
        from {{ relation }}
    ) as parts
    where span_start is not null
{%- endmacro %}

{#-
  A query of the silence in spans, in the columns of label_panes: rows of all predictions, and negative
  ones of those that were judged, so that their sums are what nobody judged. `weight` is 1 or -1 and
  belongs to counts, which are never negative. Errors of numbers are left out (0).
  spans  relation with the keys, model, default_label, grain, span_start and span_end
  keys   its columns of the result
  on     further conditions on spans and panes
-#}
{% macro silence(spans, keys, on='true') -%}
    {%- for panes, number, weight in [
        ('inference_panes', 'inferences', 1), ('label_panes', 'examples', -1)
    ] %}
    {%- set sign = '-' if weight < 0 else '' %}
    {%- if not loop.first %}
    union all
    {%- endif %}
    select
        {%- for key in keys %}
        spans.{{ key }},
        {%- endfor %}
        panes.pane_start,
        panes.model_version,
        panes.variant,
        {{ headrace.as_class('spans.default_label') }} as label,
        panes.prediction,
        {{ sign }}panes.{{ number }} as examples,
        {%- for name in [
            'scored', 'score_micro', 'score_squared_micro', 'log_score_micro',
            'log_complement_micro'
        ] %}
        {{ sign }}panes.{{ name }} as {{ name }},
        {%- endfor %}
        {%- for name in ['reward', 'reward_squared'] %}
        (case
            when panes.prediction = spans.default_label then {{ sign }}panes.{{ number }} else 0
        end)::numeric as {{ name }},
        {%- endfor %}
        0 as measured,
        0::numeric as absolute_error,
        0::numeric as squared_error,
        panes.counts,
        {{ weight }} as weight
    from {{ spans }} as spans
    inner join {{ ref(panes) }} as panes
        on
            spans.model = panes.model
            and spans.grain = panes.grain
            and spans.span_start <= panes.pane_start
            and spans.span_end > panes.pane_start
            and {{ on }}
    where
        spans.default_label is not null
        and panes.variant != 'shadow'
        {%- if weight < 0 %}
        and panes.clock = 'inference'
        and panes.examples != 0
        {%- endif %}
    {%- endfor %}
{%- endmacro %}

{#-
  CTEs of the rewards of the last 30 days behind each model's clock, by the hour of the prediction and
  without shadow predictions; the last of them, `{{ name }}`, has model, variant, arm (the predicted
  class), pulls, reward and reward_squared, sums of which count silence.
-#}
{% macro earned(name) -%}
    {{ name }}_models as (
        select
            clock.model,
            clock.event_clock,
            policies.default_label,
            {{ headrace.settled_at() }} as settled_at,
            {{ headrace.pane_start('1 hour', '(clock.event_clock - interval \'30 days\')') }}
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

{#-
  For views by the time at which labels were known: silence of an hour of predictions is known in the hour
  in which the label windows of its first predictions close, once the last one's has.
  is_known     whether all labels of a pane of an hour are known, silence too
  known_spans  a CTE of the spans for `silence`
  from_hour    first hour of what is known, a column of `models`; none: all hours
  models       has model, model_version, event_clock, default_label, label_window and settled_at
-#}
{% macro is_known(pane_start, models) -%}
    (
            {{ models }}.settled_at is null
            or {{ pane_start }} < {{ headrace.pane_start(
                '1 hour',
                '(' ~ headrace.pane_start('1 hour', models ~ '.settled_at') ~ ' + '
                ~ models ~ '.label_window)'
            ) }}
        )
{%- endmacro %}

{% macro known_spans(name, models, from_hour=none) -%}
    {{ name }} as (
        select
            *,
            '1 hour' as grain,
            {{ from_hour ~ ' - label_window' if from_hour else 'to_timestamp(0)' }} as span_start,
            coalesce(
                {{ headrace.pane_start('1 hour', 'settled_at') }},
                event_clock + interval '1 second'
            ) as span_end
        from {{ models }}
    )
{%- endmacro %}

{#- The hour in which silence of an hour of predictions is known. -#}
{% macro known_hour(pane_start, label_window) -%}
    {{ headrace.pane_start('1 hour', '(' ~ pane_start ~ ' + ' ~ label_window ~ ')') }}
{%- endmacro %}

{#-
  CTEs of how many examples silence makes of each model that has a default_label; the last of them,
  `{{ name }}`, has model, examples, new_examples (since the clock of the last run: from the first
  whole minute after it on, so that what that run may have known is not new again) and is_said
  (somebody gave that label, too).
  Reads the CTEs policies (model_policies), last_run (model, event_time) and known (model, examples:
  labels that were said).
-#}
{% macro silence_counts(name) -%}
    {%- set settled_hour = headrace.pane_start('1 hour', 'settled_at') -%}
    {{ name }}_quiet as (
        select
            clock.model,
            clock.event_clock,
            policies.default_label,
            {{ headrace.settled_at() }} as settled_at,
            {{ headrace.pane_start('1 hour', 'clock.event_clock') }} - interval '2 days' as fine_from,
            last_run.event_time - policies.label_window as known_until
        from {{ ref('model_clock') }} as clock
        inner join policies on clock.model = policies.model
        left join last_run on clock.model = last_run.model
        where policies.default_label is not null
    ),

    {{ name }}_since_run as (
        select
            model,
            event_clock,
            default_label,
            settled_at,
            {{ headrace.pane_start('1 hour', 'known_until') }} + interval '1 hour' as start_hour,
            case when known_until >= fine_from
                then {{ headrace.pane_start('1 minute', 'known_until') }} + interval '1 minute'
            end as first_minute
        from {{ name }}_quiet
        where known_until is not null
    ),

    {{ name }}_new_spans as (
        {{ headrace.label_spans(name ~ '_since_run', ['model']) }}
    ),

    {{ name }}_new_silence as (
        select
            model,
            sum(examples)::bigint as examples
        from (
            {{ headrace.silence(name ~ '_new_spans', ['model']) }}
        ) as silent
        group by model
    ),

    -- Predictions whose label window is open.
    {{ name }}_open_spans as (
        select
            model,
            default_label,
            grain,
            span_start,
            span_end
        from (
            select
                model,
                default_label,
                unnest(array['1 hour', '1 minute']) as grain,
                unnest(array[
                    case
                        when {{ settled_hour }} >= fine_from
                            then {{ settled_hour }} + interval '1 hour'
                        else {{ settled_hour }}
                    end,
                    case
                        when {{ settled_hour }} >= fine_from
                            then {{ headrace.pane_start('1 minute', 'settled_at') }}
                    end
                ]) as span_start,
                unnest(array[
                    event_clock + interval '1 second',
                    {{ settled_hour }} + interval '1 hour'
                ]) as span_end
            from {{ name }}_quiet
            where settled_at is not null
        ) as parts
        where span_start is not null
    ),

    {{ name }}_open_silence as (
        select
            model,
            sum(examples)::bigint as examples
        from (
            {{ headrace.silence(name ~ '_open_spans', ['model']) }}
        ) as silent
        group by model
    ),

    {{ name }}_answered as (
        select
            model,
            sum(inferences)::bigint as predictions
        from {{ ref('model_activity') }}
        where variant != 'shadow'
        group by model
    ),

    {{ name }}_said as (
        select
            {{ name }}_quiet.model,
            count(*) as labels
        from {{ name }}_quiet
        inner join {{ ref('label_counts') }} as counts
            on
                {{ name }}_quiet.model = counts.model
                and {{ name }}_quiet.default_label = counts.label
        where counts.examples > 0
        group by {{ name }}_quiet.model
    ),

    {{ name }}_totals as (
        select
            quiet.model,
            quiet.known_until,
            said.labels is not null as is_said,
            greatest(
                answered.predictions - coalesce(known.examples, 0) - coalesce(open_now.examples, 0), 0
            ) as examples,
            coalesce(new_silence.examples, 0) as new_examples
        from {{ name }}_quiet as quiet
        inner join {{ name }}_answered as answered on quiet.model = answered.model
        left join known on quiet.model = known.model
        left join {{ name }}_open_silence as open_now on quiet.model = open_now.model
        left join {{ name }}_new_silence as new_silence on quiet.model = new_silence.model
        left join {{ name }}_said as said on quiet.model = said.model
    ),

    {{ name }} as (
        select
            model,
            is_said,
            examples,
            case when known_until is null then examples else least(new_examples, examples) end
                as new_examples
        from {{ name }}_totals
    )
{%- endmacro %}
