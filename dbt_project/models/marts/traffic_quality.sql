-- How much traffic a model had in the reference and has now, with how many errors, and the longest
-- silence lately. data_quality judges it. Shadow predictions do not count.
-- Which panes are read says traffic_windows. A model whose predictions come in live is silent since
-- its last one by the wall's clock, too. A replay has none that came in within an hour of its
-- event_time, so it does not fall silent.
-- grain: model.  key: model.
-- lateness: any; late predictions change the window that they belong to.
with spans as (
    select
        *,
        case when window_grain = '1 minute' then first_window_pane end
            as first_fine_pane
    from {{ ref('traffic_windows') }}
),

-- Read once, for silence and for the current window.
fine_panes as (
    select
        panes.model,
        panes.pane_start,
        spans.first_fine_pane <= panes.pane_start as is_current,
        {{ pane_start('10 seconds', 'spans.recent_start') }} <= panes.pane_start
            as is_heard,
        sum(panes.inferences)::bigint as predictions,
        sum(panes.errors)::bigint as errors
    from spans
    inner join {{ ref('request_panes') }} as panes
        on
            spans.model = panes.model
            and least(
                {{ pane_start('10 seconds', 'spans.recent_start') }},
                coalesce(spans.first_fine_pane, spans.recent_start)
            ) <= panes.pane_start
            and spans.window_end >= panes.pane_start
    where panes.grain = '10 seconds' and panes.variant != 'shadow'
    group by
        panes.model, panes.pane_start, spans.first_fine_pane, spans.recent_start
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
        spans.model,
        heard.predictions,
        heard.pane_start - coalesce(
            lag(heard.pane_start) over (
                partition by spans.model
                order by heard.pane_start
            ) + interval '10 seconds', spans.recent_start
        ) as silence,
        spans.window_end - heard.pane_start - interval '10 seconds' as since_then,
        spans.window_end - spans.recent_start as everything
    from spans
    left join fine_panes as heard on spans.model = heard.model and heard.is_heard
),

silence as (
    select
        model,
        extract(epoch from greatest(
            max(coalesce(silence, everything)),
            min(coalesce(since_then, everything)),
            interval '0 seconds'
        ))::double precision as longest_silence,
        coalesce(sum(predictions), 0)::bigint as predictions
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
    spans.recent_start,
    silence.predictions as recent_predictions,
    greatest(
        silence.longest_silence,
        extract(epoch from now() - spans.last_live_event_time)::double precision
    ) as longest_silence
from spans
inner join silence on spans.model = silence.model
left join counts on spans.model = counts.model
