-- How far the labels have moved from those that the serving version was trained on.
-- Reference and current window are those of label_windows. Labels that are measures count as one
-- class; rewards of 0 and 1 count where the model's task is to predict them. Other tasks have no
-- classes, and no rows here. Status follows psi_excess (psi without what chance alone adds to it)
-- where chi-square is significant, too.
-- grain: model.  key: model.
-- lateness: any; by the time of the inference, in whole hours, so a late label changes its own
-- hour.
with spans as (
    select
        windows.*,
        policies.min_sample,
        policies.drift_alpha,
        policies.psi_alert,
        positive.task,
        positive.positive_label
    from {{ ref('label_windows') }} as windows
    inner join {{ ref('model_policies') }} as policies on windows.model = policies.model
    inner join {{ ref('positive_labels') }} as positive
        on windows.model = positive.model
),

parts as (
    select
        model,
        task,
        unnest(array[true, false]) as is_reference,
        unnest(array[reference_start, window_start]) as span_start,
        unnest(array[reference_end, window_end]) as span_end
    from spans
),

judged as (
    select
        parts.model,
        parts.is_reference,
        {{ judged_label('panes', 'parts.task') }} as label,
        panes.examples
    from parts
    inner join {{ ref('label_panes') }} as panes
        on
            parts.model = panes.model
            and parts.span_start <= panes.pane_start
            and parts.span_end > panes.pane_start
    where
        panes.clock = 'inference'
        and panes.grain = '1 hour'
        and panes.variant != 'shadow'
        and {{ is_compared('panes', 'parts.task') }}
),

labels as (
    select
        model,
        label,
        coalesce(sum(examples) filter (where is_reference), 0) as reference,
        coalesce(sum(examples) filter (where not is_reference), 0) as current
    from judged
    group by model, label
),

{{ category_distances('distances', 'labels', ['model'], 'label') }},

positives as (
    select
        labels.model,
        sum(labels.reference) as reference,
        sum(labels.current) as current
    from labels
    inner join spans
        on labels.model = spans.model and labels.label = spans.positive_label
    group by labels.model
)

select
    -- ids
    spans.model,
    spans.model_version,
    spans.task,
    -- the verdict
    {{ drift_status(
        'distances.psi_excess', is_significant('distances.p_value', 1, 'spans.'),
        'distances.reference_rows', 'distances.current_rows', 'spans.'
    ) }} as status,
    distances.psi,
    distances.psi_excess,
    distances.js_divergence,
    distances.chi_square,
    distances.p_value,
    distances.cramers_v,
    -- what was compared
    case when spans.positive_label is not null then
        coalesce(positives.reference, 0)::double precision
        / nullif(distances.reference_rows, 0)
    end as reference_positive_share,
    case when spans.positive_label is not null then
        coalesce(positives.current, 0)::double precision
        / nullif(distances.current_rows, 0)
    end as current_positive_share,
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
