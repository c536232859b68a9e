-- How often the answers of each champion were slow in the day after its promotion, and whether
-- they still are, beside those of the version before it, to which a rollback returns. Of that one
-- the hour counts that was most surely slow, from a day before the promotion to a day after it, as
-- it may answer on as the holdback: who is slow at times, or on a slow machine, is as slow as it
-- then was. Slow is longer than the policy max_latency_ms. rollback_trigger judges it.
-- grain: champion with a version before it.  key: model.
-- lateness: any; a late prediction counts.
with versions as (
    select
        model,
        max(case when place = 1 then model_version end) as model_version,
        max(case when place = 2 then model_version end) as earlier_version,
        max(case when place = 1 then changed_at end) as promoted_at
    from {{ ref('model_versions') }}
    where place <= 2
    group by model
),

-- The promotion's hour has answers of both versions: whose a pane is says the version.
sides as (
    select
        versions.model,
        unnest(array['since', 'earlier', 'latest']) as side,
        unnest(array[
            versions.model_version, versions.earlier_version, versions.model_version
        ]) as side_version,
        unnest(array['1 hour', '1 hour', '10 seconds']) as grain,
        unnest(array[
            {{ pane_start('1 hour', 'versions.promoted_at') }},
            {{ pane_start('1 hour', 'versions.promoted_at') }} - interval '24 hours',
            {{ pane_start(
                '10 seconds', '(clock.event_clock - policies.rollback_window)'
            ) }}
        ]) as span_start,
        unnest(array[
            versions.promoted_at + interval '24 hours',
            versions.promoted_at + interval '24 hours',
            clock.event_clock + interval '1 second'
        ]) as span_end
    from versions
    inner join {{ ref('model_clock') }} as clock on versions.model = clock.model
    inner join {{ ref('model_policies') }} as policies
        on versions.model = policies.model
    where versions.earlier_version is not null
),

timed_rows as (
    select
        sides.model,
        sides.side,
        case when sides.side = 'earlier' then panes.pane_start else sides.span_start end
            as began_at,
        panes.block,
        panes.counts
    from sides
    inner join {{ ref('latency_panes') }} as panes
        on
            sides.model = panes.model
            and sides.grain = panes.grain
            and sides.side_version = panes.model_version
            and sides.span_start <= panes.pane_start
            and sides.span_end > panes.pane_start
    where panes.variant != 'shadow'
),

latency_bins as (
    {{ opened_blocks('timed_rows', ['model', 'side', 'began_at'], sketch_block()) }}
),

slow as (
    {{ slow_counts('latency_bins', ['model', 'side', 'began_at'], [('', 'true')]) }}
),

ranked as (
    select
        *,
        row_number() over (
            partition by model, side
            order by
                case
                    when slow > 0 then {{ wilson_low('slow', 'timed') }} else 0
                end desc,
                timed desc,
                began_at desc
        ) as place
    from slow
),

measured as (
    select
        model,
        max(case when side = 'earlier' then began_at end) as earlier_hour
        {%- for prefix, side in [
            ('', 'since'), ('latest_', 'latest'), ('earlier_', 'earlier')
        ] %}
        {%- for column in ['timed', 'slow'] %},
        coalesce(max(case when side = '{{ side }}' then {{ column }} end), 0)
            as {{ prefix }}{{ column }}
        {%- endfor %}
        {%- endfor %}
    from ranked
    where place = 1
    group by model
)

select
    -- ids
    versions.model,
    versions.model_version,
    versions.earlier_version,
    versions.promoted_at,
    -- answers
    measured.timed,
    measured.slow,
    measured.slow::double precision / nullif(measured.timed, 0) as slow_rate,
    measured.latest_timed,
    measured.latest_slow,
    measured.latest_slow::double precision / nullif(measured.latest_timed, 0)
        as latest_slow_rate,
    measured.earlier_hour,
    measured.earlier_timed,
    measured.earlier_slow,
    measured.earlier_slow::double precision / nullif(measured.earlier_timed, 0)
        as earlier_slow_rate,
    {{ always_valid_p_value(
        'measured.slow', 'measured.timed',
        'measured.earlier_slow', 'measured.earlier_timed'
    ) }} as slow_always_valid_p_value
from versions
inner join measured on versions.model = measured.model
where versions.earlier_version is not null
