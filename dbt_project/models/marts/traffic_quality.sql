-- How much traffic a model had in the reference and has now, with how many errors, and the longest
-- silence lately. data_quality judges it. Shadow predictions do not count.
-- Reference and current window are those of drift_windows; silence is looked for in the last hour
-- before the model's clock (or in the last volume_gap, where that is longer, up to two days), and,
-- for a model whose predictions come in live, since its last one by the wall's clock. A replay has
-- none that came in within an hour of its event_time, so it does not fall silent.
-- grain: model.  key: model.
-- lateness: any; late predictions change the window that they belong to.
with spans as (
    select
        model,
        reference_start,
        reference_end,
        window_start,
        window_end,
        window_grain,
        first_reference_pane,
        {{ next_kept_pane('reference_grain', 'last_reference_pane') }}
            as reference_before,
        greatest(
            first_window_pane, {{ next_kept_pane('window_grain', 'reference_end') }}
        ) as first_window_pane,
        -- predictions have finer panes than features
        case reference_grain when '1 minute' then '10 seconds' else '1 hour' end
            as reference_grain
    from {{ ref('drift_windows') }}
),

serving {{ as_inlined() }} (
    select
        model,
        min(first_event_time) as first_event_time,
        max(last_live_event_time) as last_live_event_time
    from {{ ref('model_activity') }}
    where variant != 'shadow'
    group by model
),

listening as (
    select
        serving.model,
        spans.window_end,
        greatest(
            serving.first_event_time,
            samples.first_hour,
            spans.window_end
            - least(
                greatest(policies.volume_gap, interval '1 hour'), interval '48 hours'
            )
        ) as since,
        case when spans.window_grain = '1 minute' then spans.first_window_pane end
            as first_window_pane
    from serving
    inner join spans on serving.model = spans.model
    inner join {{ ref('model_policies') }} as policies on serving.model = policies.model
    left join {{ ref('sample_spans') }} as samples on serving.model = samples.model
),

-- Read once, for silence and for the current window.
fine_panes as (
    select
        panes.model,
        panes.pane_start,
        listening.first_window_pane <= panes.pane_start as is_current,
        {{ pane_start('10 seconds', 'listening.since') }} <= panes.pane_start
            as is_heard,
        sum(panes.inferences)::bigint as predictions,
        sum(panes.errors)::bigint as errors
    from listening
    inner join {{ ref('request_panes') }} as panes
        on
            listening.model = panes.model
            and least(
                {{ pane_start('10 seconds', 'listening.since') }},
                coalesce(listening.first_window_pane, listening.since)
            ) <= panes.pane_start
            and listening.window_end >= panes.pane_start
    where panes.grain = '10 seconds' and panes.variant != 'shadow'
    group by
        panes.model, panes.pane_start, listening.first_window_pane, listening.since
),

sides as (
    select
        panes.model,
        true as is_reference,
        panes.inferences as predictions,
        panes.errors
    from spans
    inner join {{ ref('request_panes') }} as panes
        on
            spans.model = panes.model
            and spans.reference_grain = panes.grain
            and spans.first_reference_pane <= panes.pane_start
            and spans.reference_before > panes.pane_start
    where panes.variant != 'shadow'
    union all
    select
        panes.model,
        false as is_reference,
        panes.inferences as predictions,
        panes.errors
    from spans
    inner join {{ ref('request_panes') }} as panes
        on
            spans.model = panes.model
            and spans.window_grain = panes.grain
            and spans.first_window_pane <= panes.pane_start
            and spans.window_end >= panes.pane_start
    where panes.grain = '1 hour' and panes.variant != 'shadow'
    union all
    select
        model,
        false as is_reference,
        predictions,
        errors
    from fine_panes
    where is_current
),

counts as (
    select
        model
        {%- for side, which in [
            ('reference', 'is_reference'), ('current', 'not is_reference')
        ] %}
        {%- for number in ['predictions', 'errors'] %},
        coalesce(sum({{ number }}) filter (where {{ which }}), 0)::bigint
            as {{ side }}_{{ number }}
        {%- endfor %}
        {%- endfor %}
    from sides
    group by model
),

silences as (
    select
        listening.model,
        heard.predictions,
        heard.pane_start - coalesce(
            lag(heard.pane_start) over (
                partition by listening.model
                order by heard.pane_start
            ) + interval '10 seconds', listening.since
        ) as silence,
        listening.window_end - heard.pane_start - interval '10 seconds' as since_then,
        listening.window_end - listening.since as everything,
        listening.since
    from listening
    left join fine_panes as heard on listening.model = heard.model and heard.is_heard
),

silence as (
    select
        model,
        extract(epoch from greatest(
            max(coalesce(silence, everything)),
            min(coalesce(since_then, everything)),
            interval '0 seconds'
        ))::double precision as longest_silence,
        coalesce(sum(predictions), 0)::bigint as predictions,
        max(since) as since
    from silences
    group by model
)

select
    spans.model,
    -- reference and current window
    spans.reference_start,
    spans.reference_end,
    counts.reference_predictions,
    counts.reference_errors,
    spans.window_start,
    spans.window_end,
    counts.current_predictions,
    counts.current_errors,
    -- silence
    silence.since as recent_start,
    silence.predictions as recent_predictions,
    greatest(
        silence.longest_silence,
        extract(epoch from now() - serving.last_live_event_time)::double precision
    ) as longest_silence
from spans
inner join silence on spans.model = silence.model
inner join serving on spans.model = serving.model
left join counts on spans.model = counts.model
