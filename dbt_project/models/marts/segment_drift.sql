-- Whether a feature has moved in a segment from what the serving version was trained on: as
-- feature_psi says it of all predictions, where what moved in one segment of many is hidden.
-- Of a model the 50 segments with most values in the current window are compared; `segments` says
-- how many there are. Significance is that of all tests of a model together, in all its segments.
-- grain: feature in a segment of a model.  key: (model, segment, feature).
-- lateness: any; windows are those of drift_windows, in whole hours.
with spans as (
    select * from {{ ref('drift_windows') }}
),

compared as (
    {{ compared_hours('spans', ref('segment_feature_panes'), [
        'segment', 'pane_start', 'feature', 'type', 'category', 'block', 'predictions',
        'counts', 'rings'
    ]) }}
),

panes {{ as_materialized() }} (
    select * from compared
    where not {{ is_own_feature('feature') }}
),

sized as (
    select
        model,
        segment,
        coalesce(sum(predictions) filter (where not is_reference), 0) as values_now
    from panes
    group by model, segment
),

{{ ranked_segments('ranked', 'sized', 'values_now') }},

{{ distances_of_features('distances', 'panes', ['model', 'segment', 'feature']) }},

measured as (
    select
        spans.model,
        spans.model_version,
        distances.segment,
        distances.feature,
        case
            when distances.is_number = 1 then 'numeric' else 'categorical'
        end as feature_type,
        distances.psi,
        distances.psi_excess,
        distances.chi_square,
        distances.p_value as chi_square_p_value,
        distances.ks,
        {{ ks_p_value(
            'distances.ks', 'distances.reference_numbers', 'distances.current_numbers'
        ) }} as ks_p_value,
        distances.is_identifier,
        distances.bins,
        distances.reference_rows,
        distances.current_rows,
        ranked.segments,
        least(distances.reference_rows, distances.current_rows)
        >= policies.min_sample as has_rows,
        policies.min_sample,
        policies.drift_alpha,
        policies.psi_alert,
        spans.reference_start,
        spans.reference_end,
        spans.window_start,
        spans.window_end
    from distances
    inner join ranked
        on distances.model = ranked.model and distances.segment = ranked.segment
    inner join spans on distances.model = spans.model
    inner join {{ ref('model_policies') }} as policies
        on distances.model = policies.model
    where ranked.place <= {{ most_segments() }}
    {{ fence() }}
),

counted as (
    select
        *,
        {{ tests_of_model(
            tests_of(['chi_square_p_value', 'ks_p_value'], 'has_rows and not is_identifier'),
            'segment, feature'
        ) }} as tests
    from measured
)

select
    -- ids
    model,
    model_version,
    segment,
    feature,
    feature_type,
    -- the verdict
    case
        when has_rows and is_identifier then 'identifier'
        else {{ drift_status(
            'psi_excess', is_significant('chi_square_p_value', 'tests'),
            'reference_rows', 'current_rows',
            is_apart=ks_is_apart('ks', 'ks_p_value', 'tests')
        ) }}
    end as status,
    psi,
    psi_excess,
    tests,
    -- facts
    chi_square,
    chi_square_p_value,
    ks,
    ks_p_value,
    bins,
    reference_rows,
    current_rows,
    segments,
    -- times
    reference_start,
    reference_end,
    window_start,
    window_end
from counted
