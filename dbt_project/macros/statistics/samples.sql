{#-
  Which times hold min_sample predictions, the first and the newest ones: what a window reaches to
  that would else have too few rows. Shadow predictions do not count.

  spans  a CTE with the keys and min_sample
  keys   ['model'] or ['model', 'model_version']
  since  a column of `spans`: the earliest prediction. PostgreSQL does not look before it
  until  the same for the latest prediction

  PostgreSQL reads as many panes as min_sample takes and no history beyond. A single prediction of
  another age is no beginning: the first sample came within 30 days.
-#}

{#- CTEs; the last of them, `{{ name }}`, has the keys, first_hour and last_hour, both inclusive. -#}
{% macro first_samples(name, spans, keys, since=none) -%}
    {%- set columns = keys + ['min_sample'] + ([since] if since else []) %}
    {{ name }} as (
        select
            found.{{ keys | join(', found.') }},
            min(found.first_hour) as first_hour,
            min(found.pane_start) as last_hour
        from {{ headrace.each_of(spans) }} (
            select
                {{ keys | join(', ') }},
                first_hour,
                pane_start
            from (
                select
                    span.{{ (keys + ['min_sample']) | join(', span.') }},
                    panes.pane_start,
                    first_value(panes.pane_start) over month as first_hour,
                    sum(panes.inferences) over month as predictions
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
                window month as (
                    partition by span.{{ keys | join(', span.') }}
                    order by panes.pane_start
                    range between interval '720 hours' preceding and current row
                )
            ) as summed
            where predictions >= min_sample
            {{ headrace.no_more_than(1, 'pane_start') }}
        ) as found
        group by found.{{ keys | join(', found.') }}
    )
{%- endmacro %}

{#-
  CTEs; the last of them, `{{ name }}`, has the keys and the first panes of the newest sample:
  newest_ten_seconds, newest_hour (null where the newest 1,000 panes hold fewer).
-#}
{% macro newest_samples(name, spans, keys, until=none) -%}
    {%- set graded = name ~ '_by_grain' -%}
    {%- set all_keys = keys + ['grain'] %}
    {%- set columns = all_keys + ['min_sample'] + ([until] if until else []) %}
    {{ graded }} as (
        select
            {{ keys | join(', ') }},
            min_sample,
            {%- if until %}
            {{ until }},
            {%- endif %}
            unnest(array['10 seconds', '1 hour']) as grain
        from {{ spans }}
    ),

    {{ name }} as (
        select
            found.{{ keys | join(', found.') }},
            max(case when found.grain = '10 seconds' then found.pane_start end)
                as newest_ten_seconds,
            max(case when found.grain = '1 hour' then found.pane_start end) as newest_hour
        from {{ headrace.each_of(graded) }} (
            select
                {{ all_keys | join(', ') }},
                pane_start
            from (
                select
                    *,
                    sum(inferences) over (
                        partition by {{ all_keys | join(', ') }}
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
                    from {{ headrace.span(columns, graded) }} as span
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
        ) as found
        group by found.{{ keys | join(', found.') }}
    )
{%- endmacro %}

{#-
  Where a current window starts: `length` before the clock, or earlier, where its sample does, up to
  30 days (so far where there is none); by the hour, where panes of 10 seconds are not kept any more.

  samples  the relation with the columns of newest_samples
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
