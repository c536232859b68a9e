-- How far the texts of each field are from those that the serving version was trained on.
-- text_drift judges it.
-- Lengths are compared as any number (psi, chi-square, Kolmogorov-Smirnov), the vocabulary by the
-- share of texts that have a word in each of 256 places of the hash. Its p-value is the least of
-- those of all places, times their number (Bonferroni), because words of one text come together;
-- its psi is over the same places. The cosine distance is that of the mean vectors of hashed words,
-- less what sampling adds. It is no embedding of a language model: a synonym is another word.
-- grain: field of a model.  key: (model, field).
-- lateness: any; windows are those of drift_windows, in whole hours.
with spans as (
    select * from {{ ref('drift_windows') }}
),

panes as (
    {{ compared_hours(
        'spans', ref('text_panes'), ['field', 'measure', 'block', 'texts', 'counts']
    ) }}
),

opened as (
    {{ opened_blocks(
        'panes', ['model', 'field', 'measure', 'is_reference'], sketch_block()
    ) }}
),

compared as (
    select
        model,
        field,
        measure,
        bin as bucket,
        coalesce(sum(predictions) filter (where is_reference), 0) as reference,
        coalesce(sum(predictions) filter (where not is_reference), 0) as current
    from opened
    group by 1, 2, 3, 4
),

counted {{ as_materialized() }} (
    select
        *,
        {%- for side in ['reference', 'current'] %}
        sum(case when measure = 'length' then {{ side }} else 0 end) over of_field
            as {{ side }}_texts{{ ',' if not loop.last }}
        {%- endfor %}
    from compared
    window of_field as (
        partition by model, field
        order by bucket
        rows between unbounded preceding and unbounded following
    )
),

lengths as (
    select
        model,
        field,
        bucket,
        {{ sketch_value('bucket') }} as value,
        reference,
        current
    from counted
    where measure = 'length'
),

{{ binned_numbers('length_bins', 'lengths', ['model', 'field']) }},

gaps as (
    select
        *,
        max(gap) over (
            partition by model, field
            order by bin
            rows between unbounded preceding and unbounded following
        ) as ks
    from length_bins
),

{{ category_distances('apart', 'gaps', ['model', 'field', 'ks'], 'bin') }},

places as (
    select
        model,
        field,
        bucket,
        reference,
        current,
        reference_texts,
        current_texts,
        reference::double precision / nullif(reference_texts, 0) as reference_share,
        current::double precision / nullif(current_texts, 0) as current_share,
        {{ two_proportion_g(
            'reference', 'reference_texts', 'current', 'current_texts'
        ) }} as g
    from counted
    where measure = 'vocabulary'
    {{ fence() }}
),

words as (
    select
        model,
        field,
        bucket,
        reference,
        current,
        max(g) over of_field as g,
        sum(reference_share * current_share) over of_field as product,
        {%- for side in ['reference', 'current'] %}
        sum(
            {{ side }}_share * {{ side }}_share
            - {{ side }}_share * (1 - {{ side }}_share)
            / nullif({{ side }}_texts - 1, 0)
        ) over of_field as {{ side }}_square{{ ',' if not loop.last }}
        {%- endfor %}
    from places
    window of_field as (
        partition by model, field
        order by bucket
        rows between unbounded preceding and unbounded following
    )
),

{{ category_distances(
    'spoken', 'words',
    ['model', 'field', 'g', 'product', 'reference_square', 'current_square'], 'bucket'
) }},

vocabulary as (
    select
        *,
        case
            when g >= 0
                then least(bins * {{ normal_p_value('sqrt(greatest(g, 0))') }}, 1)
        end as g_p_value,
        1 - product / nullif(sqrt(
            greatest(reference_square, 0) * greatest(current_square, 0)
        ), 0) as distance
    from spoken
    {{ fence() }}
)

select
    -- ids
    apart.model,
    spans.model_version,
    apart.field,
    -- lengths
    apart.psi as length_psi,
    apart.psi_excess as length_psi_excess,
    apart.p_value as length_chi_square_p_value,
    apart.ks as length_ks,
    {{ ks_p_value('ks', 'apart.reference_rows', 'apart.current_rows') }}
        as length_ks_p_value,
    -- words
    vocabulary.psi as vocabulary_psi,
    vocabulary.psi_excess as vocabulary_psi_excess,
    vocabulary.g_p_value as vocabulary_p_value,
    case
        when vocabulary.distance is not null
            then least(greatest(vocabulary.distance, 0), 1)
    end as cosine_distance,
    -- what was compared
    vocabulary.bins as places,
    apart.reference_rows as reference_texts,
    apart.current_rows as current_texts,
    -- times
    spans.reference_start,
    spans.reference_end,
    spans.window_start,
    spans.window_end
from apart
inner join spans on apart.model = spans.model
left join vocabulary
    on apart.model = vocabulary.model and apart.field = vocabulary.field
