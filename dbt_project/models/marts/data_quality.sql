-- Whether the data still looks as it did when the serving version was trained: nulls, numbers out
-- of range, unseen categories, changed types, features that came or went, silence, errors.
-- Reference and current window are those of drift_windows; silence is looked for in the last hour
-- before the model's clock (or in the last volume_gap, where that is longer, up to two days).
-- grain: check of a feature, or of the model as a whole (subject '').
-- key: (model, check_name, subject).
-- lateness: any; late predictions change the window that they belong to.
with policies as (
    select
        model,
        min_sample,
        quality_tolerance,
        max_error_rate,
        volume_gap
    from {{ ref('model_policies') }}
),

spans as (
    select
        model,
        reference_start,
        reference_end,
        window_start,
        window_end,
        reference_grain,
        window_grain,
        first_reference_pane,
        last_reference_pane,
        case
            when reference_grain = '1 hour' then last_reference_pane + interval '1 hour'
            else
                {{ pane_start('1 minute', 'last_reference_pane') }}
                + interval '1 minute'
        end as reference_before,
        greatest(first_window_pane, case
            when window_grain = '1 hour'
                then {{ pane_start('1 hour', 'reference_end') }} + interval '1 hour'
            else {{ pane_start('1 minute', 'reference_end') }} + interval '1 minute'
        end) as first_window_pane,
        -- predictions have finer panes than features
        case reference_grain when '1 minute' then '10 seconds' else '1 hour' end
            as prediction_grain
    from {{ ref('drift_windows') }}
),

compared as (
    {{ compared_features('spans') }}
),

panes as (
    select
        *,
        case when is_reference then predictions else 0 end as reference,
        case when is_reference then 0 else predictions end as current
    from compared
),

serving as (
    select
        model,
        min(first_event_time) as first_event_time
    from {{ ref('model_activity') }}
    where variant != 'shadow'
    group by model
),

listening as (
    select
        serving.model,
        spans.window_end as event_clock,
        greatest(
            serving.first_event_time,
            spans.window_end
            - least(greatest(policies.volume_gap, interval '1 hour'), interval '2 days')
        ) as since,
        case when spans.window_grain = '1 minute' then spans.first_window_pane end
            as first_window_pane
    from serving
    inner join spans on serving.model = spans.model
    inner join policies on serving.model = policies.model
),

-- Read once, for silence and for the current window.
fine_panes as (
    select
        panes.model,
        panes.pane_start,
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
    where panes.grain = '10 seconds' and panes.variant != 'shadow'
    group by panes.model, panes.pane_start
),

prediction_panes as (
    select
        panes.model,
        panes.inferences as reference,
        0::bigint as current,
        panes.errors as reference_errors,
        0::bigint as current_errors
    from spans
    inner join {{ ref('request_panes') }} as panes
        on
            spans.model = panes.model
            and spans.prediction_grain = panes.grain
            and spans.first_reference_pane <= panes.pane_start
            and spans.reference_before > panes.pane_start
    where panes.variant != 'shadow'
    union all
    select
        fine_panes.model,
        0::bigint as reference,
        fine_panes.predictions as current,
        0::bigint as reference_errors,
        fine_panes.errors as current_errors
    from fine_panes
    inner join listening
        on
            fine_panes.model = listening.model
            and fine_panes.pane_start >= listening.first_window_pane
    union all
    select
        panes.model,
        0::bigint as reference,
        panes.inferences as current,
        0::bigint as reference_errors,
        panes.errors as current_errors
    from spans
    inner join {{ ref('request_panes') }} as panes
        on
            spans.model = panes.model
            and spans.window_grain = panes.grain
            and spans.first_window_pane <= panes.pane_start
    where panes.grain = '1 hour' and panes.variant != 'shadow'
),

predictions as (
    select
        model,
        sum(reference)::bigint as reference,
        sum(current)::bigint as current,
        sum(reference_errors)::double precision as reference_errors,
        sum(current_errors)::double precision as current_errors
    from prediction_panes
    group by model
),

types as (
    select
        model,
        feature,
        type,
        sum(reference)::bigint as reference,
        sum(current)::bigint as current
    from panes
    group by model, feature, type
),

-- The type that most values of the reference had comes first.
typed as (
    select
        *,
        case when type != 'null' and reference > 0 then
            row_number() over (
                partition by model, feature
                order by
                    case when type != 'null' and reference > 0 then 0 else 1 end asc,
                    reference desc,
                    type asc
            )
        end as place
    from types
),

-- How many predictions carry a feature, and for how many it holds a value (is given).
features as (
    select
        typed.model,
        typed.feature,
        max(predictions.reference) as reference_predictions,
        max(predictions.current) as current_predictions,
        sum(typed.reference)::bigint as reference_carried,
        sum(typed.current)::bigint as current_carried,
        coalesce(sum(typed.reference) filter (where typed.type != 'null'), 0)::bigint
            as reference_given,
        coalesce(sum(typed.current) filter (where typed.type != 'null'), 0)::bigint
            as current_given,
        (max(typed.reference) filter (where typed.place = 1))::bigint
            as reference_main,
        (max(typed.current) filter (where typed.place = 1))::bigint
            as current_main
    from typed
    inner join predictions on typed.model = predictions.model
    group by typed.model, typed.feature
),

opened as (
    {{ opened_blocks('panes', ['model', 'feature', 'is_reference'], sketch_block()) }}
),

ranges as (
    select
        *,
        min(case when is_reference then bin end) over of_feature as lowest,
        max(case when is_reference then bin end) over of_feature as highest
    from opened
    window of_feature as (
        partition by model, feature
        order by bin
        rows between unbounded preceding and unbounded following
    )
),

outside as (
    select
        model,
        feature,
        coalesce(sum(predictions) filter (where is_reference), 0) as reference,
        coalesce(sum(predictions) filter (where not is_reference), 0) as current,
        coalesce(sum(predictions) filter (where bin < lowest or bin > highest), 0)
        ::double precision as beyond
    from ranges
    where lowest is not null
    group by model, feature
),

categories as (
    select
        model,
        feature,
        category,
        sum(reference) as reference,
        sum(current) as current
    from panes
    where category is not null
    group by model, feature, category
),

-- Of the values that come next, as many are new as there are values that came once: Good (1953).
unseen as (
    select
        model,
        feature,
        sum(reference) as reference,
        sum(current) as current,
        coalesce(sum(reference) filter (where reference = 1), 0)::double precision
            as once,
        coalesce(sum(current) filter (where reference = 0), 0)::double precision
            as beyond
    from categories
    group by model, feature
    having sum(reference) > 0
),

heard as (
    select
        fine_panes.model,
        fine_panes.pane_start,
        fine_panes.predictions
    from fine_panes
    inner join listening
        on
            fine_panes.model = listening.model
            and fine_panes.pane_start
            >= {{ pane_start('10 seconds', 'listening.since') }}
),

silences as (
    select
        listening.model,
        heard.pane_start,
        heard.predictions,
        heard.pane_start - coalesce(
            lag(heard.pane_start) over (
                partition by listening.model
                order by heard.pane_start
            ) + interval '10 seconds', listening.since
        ) as silence,
        listening.event_clock - heard.pane_start - interval '10 seconds' as since_then,
        listening.event_clock - listening.since as everything,
        listening.since,
        listening.event_clock
    from listening
    left join heard on listening.model = heard.model
),

volume as (
    select
        model,
        extract(epoch from greatest(
            max(coalesce(silence, everything)),
            min(coalesce(since_then, everything)),
            interval '0 seconds'
        ))::double precision as seconds,
        coalesce(sum(predictions), 0)::bigint as predictions,
        max(since) as since,
        max(event_clock) as until
    from silences
    group by model
),

feature_checks as (
    select
        model,
        feature as subject,
        unnest(array['null_rate', 'new_feature', 'missing_feature', 'type_change'])
            as check_name,
        unnest(array[
            true, current_carried > 0, reference_carried > 0, reference_main is not null
        ]) as is_due,
        unnest(array[
            (reference_predictions - reference_given)::double precision
            / nullif(reference_predictions, 0),
            reference_carried::double precision / nullif(reference_predictions, 0),
            reference_carried::double precision / nullif(reference_predictions, 0),
            (reference_given - reference_main)::double precision
            / nullif(reference_given, 0)
        ]) as reference_value,
        unnest(array[
            (current_predictions - current_given)::double precision
            / nullif(current_predictions, 0),
            current_carried::double precision / nullif(current_predictions, 0),
            current_carried::double precision / nullif(current_predictions, 0),
            (current_given - current_main)::double precision / nullif(current_given, 0)
        ]) as current_value,
        unnest(array[
            reference_predictions, reference_predictions, reference_predictions, reference_given
        ]) as reference_rows,
        unnest(array[current_predictions, current_predictions, current_predictions, current_given])
            as current_rows
    from features
),

checks as (
    select
        model,
        check_name,
        subject,
        reference_value,
        current_value,
        reference_rows,
        current_rows,
        null::timestamptz as since,
        null::timestamptz as until
    from feature_checks
    where is_due
    union all
    select
        model,
        'out_of_range' as check_name,
        feature as subject,
        0::double precision as reference_value,
        beyond / nullif(current, 0) as current_value,
        reference::bigint as reference_rows,
        current::bigint as current_rows,
        null::timestamptz as since,
        null::timestamptz as until
    from outside
    union all
    select
        model,
        'unseen_category' as check_name,
        feature as subject,
        once / nullif(reference, 0)::double precision as reference_value,
        beyond / nullif(current, 0)::double precision as current_value,
        reference::bigint as reference_rows,
        current::bigint as current_rows,
        null::timestamptz as since,
        null::timestamptz as until
    from unseen
    union all
    select
        model,
        'error_rate' as check_name,
        '' as subject,
        reference_errors / nullif(reference, 0) as reference_value,
        current_errors / nullif(current, 0) as current_value,
        reference as reference_rows,
        current as current_rows,
        null::timestamptz as since,
        null::timestamptz as until
    from predictions
    union all
    select
        model,
        'volume_gap' as check_name,
        '' as subject,
        null::double precision as reference_value,
        seconds as current_value,
        null::bigint as reference_rows,
        predictions as current_rows,
        since,
        until
    from volume
),

limited as (
    select
        checks.*,
        policies.min_sample,
        case
            when checks.check_name = 'volume_gap'
                then extract(epoch from policies.volume_gap)::double precision
            when checks.check_name = 'error_rate' then policies.max_error_rate
            when checks.check_name in ('new_feature', 'missing_feature') then 0
            else policies.quality_tolerance
        end as threshold
    from checks
    inner join policies on checks.model = policies.model
),

judged as (
    select
        *,
        case
            when check_name = 'volume_gap' then current_value >= threshold
            when check_name = 'error_rate' then current_value > threshold
            when check_name = 'new_feature' then reference_value = 0
            when check_name = 'missing_feature' then current_value = 0
            else
                current_value > reference_value
                and current_value - reference_value >= threshold
        end as is_bad,
        case
            when check_name = 'volume_gap' then false
            when check_name = 'error_rate' then current_rows < min_sample
            else least(reference_rows, current_rows) < min_sample
        end as is_small
    from limited
)

select
    -- ids
    judged.model,
    judged.check_name,
    judged.subject,
    -- the verdict
    case
        when judged.is_small or judged.is_bad is null then 'too few rows'
        when judged.is_bad then 'alert'
        else 'ok'
    end as status,
    judged.reference_value,
    judged.current_value,
    judged.threshold,
    judged.reference_rows,
    judged.current_rows,
    -- times
    case when judged.check_name != 'volume_gap' then spans.reference_start end
        as reference_start,
    case when judged.check_name != 'volume_gap' then spans.reference_end end
        as reference_end,
    coalesce(judged.since, spans.window_start) as window_start,
    coalesce(judged.until, spans.window_end) as window_end
from judged
inner join spans on judged.model = spans.model
