{#-
  Which times hold min_sample predictions, the first and the newest ones: what a window reaches to
  that would else have too few rows. Shadow predictions do not count. Both macros are a subquery to
  join, as in macros/engine/spans.sql:

      from spans
      left join {{ lateral() }} ({{ first_sample('spans', ['model']) }}) as earliest
          on spans.model = earliest.model

  spans  a CTE with the keys and min_sample
  keys   ['model'] or ['model', 'model_version']
  since  a column of `spans`: the earliest prediction; nothing is looked for before it
  until  the same for the latest prediction

  PostgreSQL reads as many panes as min_sample takes and no history beyond. A single prediction of
  another age is no beginning: the first sample came within 30 days.
-#}

{#- The keys, first_hour and last_hour, both inclusive. -#}
{% macro first_sample(spans, keys, since=none) -%}
    {%- set columns = keys + ['min_sample'] + ([since] if since else []) %}
        select
            {{ keys | join(', ') }},
            min(beginning) as first_hour,
            min(pane_start) as last_hour
        from (
            select
                {{ keys | join(', ') }},
                beginning,
                pane_start
            from (
                select
                    *,
                    first_value(pane_start) over month as beginning,
                    sum(inferences) over month as predictions
                from (
                    select
                        span.{{ (keys + ['min_sample']) | join(', span.') }},
                        panes.pane_start,
                        panes.inferences
                    from {{ headrace.span(columns, spans) }} as span
                    inner join {{ ref('request_panes') }} as panes
                        on
                            {%- for key in keys %}
                            span.{{ key }} = panes.{{ key }}{{ ' and' if not loop.last }}
                            {%- endfor %}
                            {%- if since %}
                            and span.{{ since }} - interval '1 hour' <= panes.pane_start
                            {%- endif %}
                    where panes.grain = '1 hour' and panes.variant != 'shadow'
                    {{ headrace.no_more_than(1000, 'panes.pane_start') }}
                ) as hours
                window month as (
                    {{ headrace.of_each(keys) }}
                    order by pane_start
                    range between interval '720 hours' preceding and current row
                )
            ) as summed
            where predictions >= min_sample
            {{ headrace.no_more_than(1, 'pane_start') }}
        ) as found
        group by {{ keys | join(', ') }}
{%- endmacro %}

{#-
  The keys, and the first panes of the newest sample: newest_ten_seconds, newest_hour (null where
  the newest 1,000 panes hold fewer).
-#}
{% macro newest_sample(spans, keys, until=none) -%}
    {%- set all_keys = keys + ['grain'] %}
    {%- set given = keys + ['min_sample'] + ([until] if until else []) %}
        with graded as (
            select
                {{ given | join(', ') }},
                unnest(array['10 seconds', '1 hour']) as grain
            from {{ headrace.span(given, spans) }} as span
        )

        select
            graded.{{ keys | join(', graded.') }},
            max(case when graded.grain = '10 seconds' then pane_start end)
                as newest_ten_seconds,
            max(case when graded.grain = '1 hour' then pane_start end) as newest_hour
        from {% call headrace.each_of('graded') %}
            select
                {{ all_keys | join(', ') }},
                pane_start
            from (
                select
                    *,
                    sum(inferences) over (
                        {{ headrace.of_each(all_keys) }}
                        order by pane_start desc
                        rows between unbounded preceding and current row
                    ) as predictions
                from (
                    select
                        span.{{ (all_keys + ['min_sample']) | join(', span.') }},
                        panes.pane_start,
                        panes.inferences,
                        row_number() over (
                            partition by span.{{ all_keys | join(', span.') }}
                            order by panes.pane_start desc
                        ) as newness
                    from {{ headrace.span(given + ['grain'], 'graded') }} as span
                    inner join {{ ref('request_panes') }} as panes
                        on
                            {%- for key in all_keys %}
                            span.{{ key }} = panes.{{ key }}{{ ' and' if not loop.last }}
                            {%- endfor %}
                            {%- if until %}
                            and span.{{ until }} >= panes.pane_start
                            {%- endif %}
                    where panes.variant != 'shadow'
                    {{ headrace.no_more_than(1000, 'panes.pane_start desc') }}
                ) as newest
                where newness <= 1000
            ) as summed
            where predictions >= min_sample
            {{ headrace.no_more_than(1, 'pane_start desc') }}
        {% endcall %}
        group by graded.{{ keys | join(', graded.') }}
{%- endmacro %}

{#-
  Where a current window starts: `length` before the clock, or earlier, where its sample does, up to
  30 days (so far where there is none); by the hour, where panes of 10 seconds are not kept any more.

  samples  the relation with the columns of newest_sample
-#}
{% macro window_from(event_clock, length, minutes_from, samples) -%}
    least(
        {{ event_clock }} - {{ length }},
        greatest(
            case
                when {{ samples }}.newest_ten_seconds >= {{ minutes_from }}
                    then {{ samples }}.newest_ten_seconds
                else {{ samples }}.newest_hour
            end,
            {{ event_clock }} - interval '720 hours'
        )
    )
{%- endmacro %}
