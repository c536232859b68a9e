{#-
  Silence, for views by the time at which labels became known. The silence of an hour of predictions
  becomes known in the hour in which the label window of its first predictions ends, once that of
  its last one has ended.
-#}

{#-
  Whether all labels of an hour's pane are known, silence included.

  models  a relation with settled_at and label_window
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

{#-
  A CTE of the spans for `silence`.

  models     has model, model_version, event_clock, default_label, label_window and settled_at
  from_hour  the first hour of labels that is read, a column of `models`; none: all hours
-#}
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

{#- The hour in which the silence of an hour of predictions becomes known. -#}
{% macro known_hour(pane_start, label_window) -%}
    {{ headrace.pane_start('1 hour', '(' ~ pane_start ~ ' + ' ~ label_window ~ ')') }}
{%- endmacro %}
