{#-
  CTEs of what a canary is compared by, the last of them `sides`: a row for the canary and one for
  its champion with
    model, model_version, champion_version, began_at  of the canary
    variant, side_version                             whose predictions count
    event_clock                                       as of the model
    start_hour                                        first pane of an hour that is read
    first_minute, first_pane                          first pane of a minute and of 10 seconds that
                                                      is read before it, while kept; else null
-#}
{% macro canary_sides() -%}
    versions as (
        select
            model,
            model_version,
            status,
            counts_since,
            max(case when status = 'champion' then model_version end) over (
                partition by model
                order by model_version
                rows between unbounded preceding and unbounded following
            ) as champion_version
        from {{ ref('model_versions') }}
    ),

    canaries as (
        select
            canary.model,
            canary.model_version,
            canary.champion_version,
            canary.counts_since as began_at,
            clock.event_clock,
            {{ headrace.pane_start('1 hour', 'canary.counts_since') }} as first_hour,
            {{ headrace.pane_start('1 hour', 'canary.counts_since') }}
            >= {{ headrace.minutes_kept_from('clock.event_clock') }} as is_recent
        from versions as canary
        left join {{ ref('model_clock') }} as clock on canary.model = clock.model
        where canary.status = 'canary'
    ),

    sides as (
        select
            model,
            model_version,
            champion_version,
            began_at,
            unnest(array['canary', 'champion']) as variant,
            unnest(array[model_version, champion_version]) as side_version,
            event_clock,
            case when is_recent then first_hour + interval '1 hour' else first_hour end
                as start_hour,
            case when is_recent then {{ headrace.pane_start('1 minute', 'began_at') }} end
                as first_minute,
            case when is_recent then {{ headrace.pane_start('10 seconds', 'began_at') }} end
                as first_pane
        from canaries
    )
{%- endmacro %}
