{#-
  Silence as a label. Where the policy default_label is set, a prediction without feedback for
  label_window has that label until feedback comes. labeled_examples applies this row by row; views
  that judge a model count it from the panes: all predictions of a span, minus those that have a
  label.

  A pane counts once the label window of all its predictions is over: by the minute in the last
  hour, where minutes are still kept, else by the hour. Labels given earlier count together with
  their pane and not before, because early labels alone would be a biased sample. A label_window of
  0 does not wait.
-#}

{#-
  The time before which the label window of predictions is over; null where there is nothing to wait
  for, because there is no default_label or no label_window.
-#}
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
            read whole) and first_minute (from where minutes are read before it, else null)
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
                        >= {{ headrace.minutes_kept_from('event_clock') }}
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
  A query of the predictions without a label in given spans, in the columns of label_panes. It has
  positive rows for all predictions and negative rows for those that have a label, so that their
  sums are what is left. `weight` is 1 or -1 and applies to `counts`, which are never negative.
  Errors of numeric predictions are 0.

  spans  relation with the keys, model, default_label, grain, span_start and span_end
  keys   the columns of `spans` to select
  on     further join conditions on spans and panes
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
        null::text as outcome,
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
