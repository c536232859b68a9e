-- How far the labels have moved from those that the serving version was trained on.
-- The reference is that of drift_windows; as labels are late, the current window ends with the
-- hour of the newest inference that has one, is metric_window long and never reaches back into the
-- reference. Labels that are measures count as one class. Silence counts as the default_label
-- (macros/silence.sql), and all predictions have a label then. Status follows psi_excess, what chance
-- alone adds to psi taken off, where chi-square is significant, too.
-- grain: model.  key: model.
-- lateness: any; by the time of the inference, in whole hours, so a late label changes its own hour.
with newest as (
    {{ newest_pane(
        ref('label_panes'),
        "clock = 'inference' and grain = '1 hour' and variant != 'shadow' and examples != 0"
    ) }}
),

asked as (
    {{ newest_pane(ref('request_panes'), "grain = '1 hour' and variant != 'shadow'") }}
),

hours as (
    select
        reference.model,
        reference.model_version,
        policies.metric_window,
        policies.min_sample,
        policies.drift_alpha,
        policies.psi_alert,
        policies.default_label,
        {{ pane_start('1 hour', settled_at('reference.window_end')) }} as settled_hour,
        case
            when policies.default_label is null
                then newest.pane_start + interval '1 hour'
            when asked.pane_start is not null
                then least(
                    asked.pane_start + interval '1 hour',
                    coalesce(
                        {{ pane_start('1 hour', settled_at('reference.window_end')) }},
                        asked.pane_start + interval '1 hour'
                    )
                )
        end as label_clock,
        {{ pane_start('1 hour', 'reference.reference_start') }} as reference_start,
        {{ pane_start('1 hour', 'reference.reference_end') }} + interval '1 hour'
            as reference_end
    from {{ ref('drift_windows') }} as reference
    inner join {{ ref('model_policies') }} as policies
        on reference.model = policies.model
    left join newest on reference.model = newest.model
    left join asked on reference.model = asked.model
),

spans as (
    select
        model,
        model_version,
        min_sample,
        drift_alpha,
        psi_alert,
        default_label,
        settled_hour,
        reference_start,
        reference_end,
        case when label_clock is not null then greatest(
            {{ pane_start('1 hour', '(label_clock - metric_window)') }}, reference_end
        ) end as window_start,
        case when label_clock is not null then greatest(label_clock, reference_end) end
            as window_end
    from hours
),

parts as (
    {%- for start, end, is_reference in [
        ('reference_start', 'reference_end', 'true'),
        ('window_start', 'window_end', 'false')
    ] %}
    {%- if not loop.first %}
    union all
    {%- endif %}
    select
        model,
        default_label,
        {{ is_reference }} as is_reference,
        '1 hour' as grain,
        {{ start }} as span_start,
        least({{ end }}, coalesce(settled_hour, {{ end }})) as span_end
    from spans
    {%- endfor %}
),

judged as (
    select
        parts.model,
        parts.is_reference,
        panes.label,
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
    union all
    select
        model,
        is_reference,
        label,
        examples
    from (
        {{ silence('parts', ['model', 'is_reference']) }}
    ) as silent
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
    inner join {{ ref('positive_labels') }} as positive
        on labels.model = positive.model and labels.label = positive.positive_label
    group by labels.model
)

select
    -- ids
    spans.model,
    spans.model_version,
    -- the verdict
    {{ drift_status(
        'distances.psi_excess', 'distances.p_value < spans.drift_alpha',
        'distances.reference_rows', 'distances.current_rows', 'spans.'
    ) }} as status,
    distances.psi,
    distances.psi_excess,
    distances.js_divergence,
    distances.chi_square,
    distances.p_value,
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
