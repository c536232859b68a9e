-- How far the labels have moved from those that the serving version was trained on.
-- The reference is that of drift_windows; as labels are late, the current window ends with the
-- hour of the newest inference that has one, is metric_window long and never reaches back into the
-- reference. Labels that are measures count as one class. Status follows the size of the effect.
-- grain: model.  key: model.
-- lateness: any; by the time of the inference, in whole hours, so a late label changes its own hour.
with newest as (
    {{ newest_pane(
        ref('label_panes'),
        "clock = 'inference' and grain = '1 hour' and variant != 'shadow' and examples != 0"
    ) }}
),

hours as (
    select
        reference.model,
        reference.model_version,
        policies.metric_window,
        policies.min_sample,
        policies.psi_alert,
        newest.pane_start + interval '1 hour' as label_clock,
        {{ pane_start('1 hour', 'reference.reference_start') }} as reference_start,
        {{ pane_start('1 hour', 'reference.reference_end') }} + interval '1 hour'
            as reference_end
    from {{ ref('drift_windows') }} as reference
    inner join {{ ref('model_policies') }} as policies
        on reference.model = policies.model
    left join newest on reference.model = newest.model
),

spans as (
    select
        model,
        model_version,
        min_sample,
        psi_alert,
        reference_start,
        reference_end,
        case when label_clock is not null then greatest(
            {{ pane_start('1 hour', '(label_clock - metric_window)') }}, reference_end
        ) end as window_start,
        case when label_clock is not null then greatest(label_clock, reference_end) end
            as window_end
    from hours
),

judged as (
    select
        spans.model,
        panes.label,
        panes.examples as reference,
        0 as current
    from spans
    inner join {{ ref('label_panes') }} as panes
        on
            spans.model = panes.model
            and spans.reference_start <= panes.pane_start
            and spans.reference_end > panes.pane_start
    where
        panes.clock = 'inference'
        and panes.grain = '1 hour'
        and panes.variant != 'shadow'
    union all
    select
        spans.model,
        panes.label,
        0 as reference,
        panes.examples as current
    from spans
    inner join {{ ref('label_panes') }} as panes
        on
            spans.model = panes.model
            and spans.window_start <= panes.pane_start
            and spans.window_end > panes.pane_start
    where
        panes.clock = 'inference'
        and panes.grain = '1 hour'
        and panes.variant != 'shadow'
),

labels as (
    select
        model,
        label,
        sum(reference) as reference,
        sum(current) as current
    from judged
    group by model, label
),

{{ category_distances('distances', 'labels', ['model']) }},

positives as (
    select
        labels.model,
        sum(labels.reference) as reference,
        sum(labels.current) as current
    from labels
    inner join {{ ref('positive_labels') }} as positive
        on labels.model = positive.model and labels.label = positive.positive_label
    group by labels.model
)

select
    -- ids
    spans.model,
    spans.model_version,
    -- the verdict
    case
        when
            distances.psi is null
            or least(distances.reference_rows, distances.current_rows)
            < spans.min_sample then 'too few rows'
        when distances.psi >= spans.psi_alert then 'drifted'
        when distances.psi >= 0.1 then 'moving'
        else 'stable'
    end as status,
    distances.psi,
    distances.js_divergence,
    distances.chi_square,
    case when distances.degrees > 0 then
        {{ chi_square_p_value('distances.chi_square', 'distances.degrees') }}
    end as p_value,
    distances.cramers_v,
    -- what was compared
    coalesce(positives.reference, 0)::double precision
    / nullif(distances.reference_rows, 0) as reference_positive_share,
    coalesce(positives.current, 0)::double precision
    / nullif(distances.current_rows, 0) as current_positive_share,
    coalesce(distances.reference_rows, 0) as reference_rows,
    coalesce(distances.current_rows, 0) as current_rows,
    -- times
    spans.reference_start,
    spans.reference_end,
    spans.window_start,
    spans.window_end
from spans
left join distances on spans.model = distances.model
left join positives on spans.model = positives.model
