{#-
  CTEs that count the examples that silence makes of each model with a default_label. The last of
  them, `{{ name }}`, has model, examples, new_examples and is_said (some feedback gave that label,
  too). New are those since the clock of the last run, from the first whole minute after it, so that
  what that run may have known does not count twice.

  Reads the CTEs last_run (model, event_time) and known (model, examples: labels from feedback).
-#}
{% macro silence_counts(name) -%}
    {%- set settled_hour = headrace.pane_start('1 hour', 'settled_at') -%}
    {{ name }}_quiet as (
        select
            clock.model,
            clock.event_clock,
            policies.default_label,
            {{ headrace.class_of('policies.default_label') }} as default_class,
            {{ headrace.settled_at() }} as settled_at,
            {{ headrace.minutes_kept_from('clock.event_clock') }} as minutes_from,
            last_run.event_time - policies.label_window as known_until
        from {{ ref('model_clock') }} as clock
        inner join {{ ref('model_policies') }} as policies on clock.model = policies.model
        left join last_run on clock.model = last_run.model
        where policies.default_label is not null
    ),

    {{ name }}_parts as (
        -- since the last run
        select
            model,
            false as is_open,
            event_clock,
            default_label,
            settled_at,
            {{ headrace.pane_start('1 hour', 'known_until') }} + interval '1 hour' as start_hour,
            case when known_until >= minutes_from
                then {{ headrace.pane_start('1 minute', 'known_until') }} + interval '1 minute'
            end as first_minute
        from {{ name }}_quiet
        where known_until is not null
        union all
        -- label window still open: from there on up to the clock
        select
            model,
            true as is_open,
            event_clock,
            default_label,
            null::timestamptz as settled_at,
            case when {{ settled_hour }} >= minutes_from
                then {{ settled_hour }} + interval '1 hour'
                else {{ settled_hour }}
            end as start_hour,
            case when {{ settled_hour }} >= minutes_from
                then {{ headrace.pane_start('1 minute', 'settled_at') }}
            end as first_minute
        from {{ name }}_quiet
        where settled_at is not null
    ),

    {{ name }}_spans as (
        {{ headrace.label_spans(name ~ '_parts', ['model', 'is_open']) }}
    ),

    {{ name }}_silent as (
        select
            model,
            sum(examples) filter (where is_open)::bigint as open_examples,
            sum(examples) filter (where not is_open)::bigint as new_examples
        from (
            {{ headrace.silence(name ~ '_spans', ['model', 'is_open']) }}
        ) as silent
        group by model
    ),

    {{ name }}_predicted as (
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
                and {{ name }}_quiet.default_class = counts.label
        where counts.examples > 0
        group by {{ name }}_quiet.model
    ),

    {{ name }}_totals as (
        select
            quiet.model,
            quiet.known_until,
            said.labels is not null as is_said,
            greatest(
                predicted.predictions
                - coalesce(known.examples, 0)
                - coalesce(silent.open_examples, 0), 0
            ) as examples,
            coalesce(silent.new_examples, 0) as new_examples
        from {{ name }}_quiet as quiet
        inner join {{ name }}_predicted as predicted on quiet.model = predicted.model
        left join known on quiet.model = known.model
        left join {{ name }}_silent as silent on quiet.model = silent.model
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
