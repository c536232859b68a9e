-- Whether inputs mean something else than those that the serving version was trained on, by the
-- vectors of them that are kept (input_vectors).
-- Each dimension is compared by Welch's t-test (1947) of the means, whose p-value is that of a normal
-- number as far out (student_z); the p-value of all is the least of them times their number
-- (Bonferroni), as a maximum finds what moved in a few dimensions (Cai, Liu and Xia 2014). psi is
-- that of normal numbers which moved as the dimension that moved most: the square of its shift in
-- standard deviations. Status follows psi_excess (psi without what chance adds), as other drift
-- does, where the p-value is significant.
-- The cosine distance is that of the mean vectors, less what sampling adds.
-- Another base has other vectors: each is compared with itself, so its change is no drift.
-- grain: base of a model.  key: (model, base).
-- lateness: any; windows are those of drift_windows, in whole hours.
with spans as (
    select * from {{ ref('drift_windows') }}
),

panes as (
    {{ compared_hours(
        'spans', source('events', 'input_vector_hours'),
        ['base', 'vectors', 'sums', 'squares']
    ) }}
),

opened as (
    select
        model,
        base,
        is_reference,
        vectors,
        generate_series(1, cardinality(sums)) as place,
        unnest(sums) as total,
        unnest(squares) as square
    from panes
),

added as (
    select
        model,
        base,
        place
        {%- for side, is_side in [
            ('reference', 'is_reference'), ('current', 'not is_reference')
        ] %},
        coalesce(sum(vectors) filter (where {{ is_side }}), 0)::bigint
            as {{ side }}_vectors,
        sum(total) filter (where {{ is_side }}) as {{ side }}_total,
        sum(square) filter (where {{ is_side }}) as {{ side }}_square
        {%- endfor %}
    from opened
    group by model, base, place
),

moments as (
    select
        *
        {%- for side in ['reference', 'current'] %},
        {{ side }}_total / nullif({{ side }}_vectors, 0) as {{ side }}_mean,
        {{ vector_variance(
            side ~ '_square', side ~ '_total', side ~ '_vectors'
        ) }} as {{ side }}_variance
        {%- endfor %}
    from added
),

shifted as (
    select
        *,
        (current_mean - reference_mean) * (current_mean - reference_mean) as shift,
        reference_variance / nullif(reference_vectors, 0) as reference_error,
        current_variance / nullif(current_vectors, 0) as current_error
    from moments
),

places as (
    select
        *,
        2 * shift / nullif(reference_variance + current_variance, 0) as psi,
        {{ student_z(
            'sqrt(greatest(shift, 0) / nullif(reference_error + current_error, 0))',
            welch_degrees(
                'reference_error', 'reference_vectors', 'current_error', 'current_vectors'
            )
        ) }} as z
    from shifted
),

compared as (
    select
        model,
        base,
        count(*) as dimensions,
        max(reference_vectors)::bigint as reference_vectors,
        max(current_vectors)::bigint as current_vectors,
        max(psi) as psi,
        max(z) as z,
        sum(reference_mean * current_mean) as product,
        sum(reference_mean * reference_mean - reference_error) as reference_length,
        sum(current_mean * current_mean - current_error) as current_length
    from places
    group by model, base
),

distances as (
    select
        compared.*,
        least(compared.reference_vectors, compared.current_vectors)
        >= policies.min_sample as has_rows,
        case
            when compared.psi >= 0
                then greatest(
                    compared.psi
                    - 1 / nullif(compared.reference_vectors, 0)::double precision
                    - 1 / nullif(compared.current_vectors, 0)::double precision,
                    0
                )
        end as psi_excess,
        case
            when compared.z >= 0
                then least(compared.dimensions * {{ normal_p_value('compared.z') }}, 1)
        end as p_value,
        1 - compared.product / nullif(sqrt(
            greatest(compared.reference_length, 0)
            * greatest(compared.current_length, 0)
        ), 0) as distance,
        policies.min_sample,
        policies.drift_alpha,
        policies.psi_alert
    from compared
    inner join {{ ref('model_policies') }} as policies
        on compared.model = policies.model
),

counted as (
    select
        *,
        {{ tests_of_model(tests_of(['p_value'], 'has_rows'), 'base') }} as tests
    from distances
)

select
    -- ids
    counted.model,
    spans.model_version,
    counted.base,
    -- the verdict
    {{ drift_status(
        'counted.psi_excess', is_significant('counted.p_value', 'counted.tests', 'counted.'),
        'counted.reference_vectors', 'counted.current_vectors', 'counted.'
    ) }} as status,
    counted.psi_excess,
    counted.tests,
    -- distances
    counted.psi,
    counted.p_value,
    case
        when counted.distance is not null then least(greatest(counted.distance, 0), 2)
    end as cosine_distance,
    -- what was compared
    counted.dimensions,
    counted.reference_vectors,
    counted.current_vectors,
    -- times
    spans.reference_start,
    spans.reference_end,
    spans.window_start,
    spans.window_end
from counted
inner join spans on counted.model = spans.model
