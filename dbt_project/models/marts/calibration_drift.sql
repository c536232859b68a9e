-- Whether the champion's scores mean something else than when it began to serve: a score of .8 that
-- came true in eight of ten cases and does no longer, whatever scores there are now. A model may be
-- calibrated badly from the start without that being a drift.
-- The change is judged in standard deviations of the outcome, sqrt(q (1 - q)) with q the rate at which
-- it came true, so that it is as great for a rare outcome as for one of two.
-- grain: model.  key: model.
-- lateness: any; windows are those of calibration_curve.
with bins as (
    select
        *,
        {{ calibration_shift() }} as shift,
        {{ calibration_variance() }} as variance,
        coalesce({{ has_calibration() }}, false) as is_compared
    from {{ ref('calibration_curve') }}
),

summed as (
    select
        model,
        model_version,
        sum(reference_rows)::bigint as reference_rows,
        sum(recent_rows)::bigint as recent_rows,
        count(case when is_compared then 1 end) as bins,
        sum(case when is_compared then shift * shift / nullif(variance, 0) end)
            as chi_square,
        sum(case when is_compared then recent_rows * (shift * shift - variance) end)
        / nullif(sum(case when is_compared then recent_rows end), 0) as squared_change,
        (sum(reference_true) + sum(recent_true))::double precision
        / nullif(sum(reference_rows) + sum(recent_rows), 0)::double precision as rate,
        {%- for side in ['reference', 'recent'] %}
        sum({{ side }}_true)::double precision
        / nullif(sum({{ side }}_rows), 0)::double precision as {{ side }}_rate,
        sum({{ side }}_rows * {{ side }}_score)
        / nullif(sum({{ side }}_rows), 0)::double precision as {{ side }}_score,
        sum({{ side }}_rows * abs({{ side }}_rate - {{ side }}_score))
        / nullif(sum({{ side }}_rows), 0)::double precision
            as {{ side }}_calibration_error,
        {%- endfor %}
        reference_start,
        reference_end,
        window_start,
        window_end
    from bins
    group by
        model, model_version, reference_start, reference_end, window_start, window_end
),

tested as (
    select
        *,
        sqrt(greatest(squared_change, 0)) as change,
        sqrt(greatest(squared_change, 0)) / nullif(sqrt(rate * (1 - rate)), 0)
            as effect_size,
        {{ chi_square_p_value('chi_square', 'bins') }} as p_value
    from summed
)

select
    -- ids
    tested.model,
    tested.model_version,
    -- the verdict
    case
        when least(tested.reference_rows, tested.recent_rows) < policies.min_sample
            then 'too few rows'
        when tested.bins = 0 then 'too few outcomes'
        when
            tested.effect_size >= policies.max_calibration_drift
            and tested.p_value < policies.drift_alpha
            then 'drifted'
        else 'stable'
    end as status,
    tested.effect_size,
    tested.change,
    tested.chi_square,
    tested.p_value,
    tested.bins,
    -- both sides
    {%- for side in ['reference', 'recent'] %}
    tested.{{ side }}_rows,
    tested.{{ side }}_rate,
    tested.{{ side }}_score,
    tested.{{ side }}_calibration_error,
    {%- endfor %}
    -- times
    tested.reference_start,
    tested.reference_end,
    tested.window_start,
    tested.window_end
from tested
inner join {{ ref('model_policies') }} as policies on tested.model = policies.model
