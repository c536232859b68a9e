-- How far reviewers agree: each pair of them on the predictions that both labelled, and each of them
-- with the label that counts in the end. Kappa is Cohen's (1960): the agreement beyond what two people
-- with the same habits reach by chance, 0 is chance and 1 is always; null where both said one thing.
-- Labels of source human; what was retracted does not count, and of several labels of a reviewer on a
-- prediction the last one does. The label that counts is made of their votes, too, so that a row of
-- it, which is over predictions that several people labelled, flatters.
-- grain: pair of reviewers of a model, or reviewer and final label (other_reviewer is null).
-- key: (model, reviewer, other_reviewer).  lateness: any.
-- Reads feedback from the source: a staging model that is referenced twice would be computed in full.
with said as (
    select
        i.model,
        i.request_id,
        i.item_id,
        f.user_id as reviewer,
        {{ class_of('coalesce(f.label, ' ~ number_text('f.value') ~ ')') }} as label,
        row_number() over (
            partition by i.model, i.request_id, i.item_id, f.user_id
            order by f.event_time desc, {{ in_bytes('f.feedback_id') }} desc
        ) as place
    from {{ source('events', 'feedback') }} as f
    inner join {{ ref('stg_inference') }} as i
        on f.request_id = i.request_id and {{ is_about('f', 'i') }}
    where
        f.source = 'human'
        and f.kind = 'label'
        and f.user_id != ''
        and {{ is_standing('f', source('events', 'feedback')) }}
),

votes as (
    select
        model,
        request_id,
        item_id,
        reviewer,
        label
    from said
    where place = 1
),

compared as (
    select
        mine.model,
        mine.reviewer,
        theirs.reviewer as other_reviewer,
        mine.label,
        theirs.label as other_label
    from votes as mine
    inner join votes as theirs
        on
            mine.request_id = theirs.request_id
            and {{ is_same_prediction('mine', 'theirs') }}
            and {{ in_bytes('mine.reviewer') }} < {{ in_bytes('theirs.reviewer') }}
    union all
    select
        votes.model,
        votes.reviewer,
        null as other_reviewer,
        votes.label,
        {{ class_of('held.label') }} as other_label
    from votes
    inner join {{ ref('labels') }} as held
        on
            votes.request_id = held.request_id
            and {{ is_same_prediction('votes', 'held') }}
    where held.raters > 1
),

cells as (
    select
        model,
        reviewer,
        other_reviewer,
        label,
        other_label,
        count(*) as predictions
    from compared
    group by model, reviewer, other_reviewer, label, other_label
),

totals as (
    select
        model,
        reviewer,
        other_reviewer,
        sum(predictions)::bigint as predictions,
        sum(case when label = other_label then predictions else 0 end)::bigint
            as agreeing
    from cells
    group by model, reviewer, other_reviewer
),

{% for side in ['label', 'other_label'] -%}
by_{{ side }} as (
    select
        model,
        reviewer,
        other_reviewer,
        {{ side }} as label,
        sum(predictions)::double precision as predictions
    from cells
    group by model, reviewer, other_reviewer, {{ side }}
),

{% endfor -%}
expected as (
    select
        mine.model,
        mine.reviewer,
        mine.other_reviewer,
        sum(mine.predictions * theirs.predictions) as products
    from by_label as mine
    inner join by_other_label as theirs
        on
            mine.model = theirs.model
            and mine.reviewer = theirs.reviewer
            and mine.other_reviewer is not distinct from theirs.other_reviewer
            and mine.label = theirs.label
    group by mine.model, mine.reviewer, mine.other_reviewer
),

shares as (
    select
        totals.*,
        totals.agreeing::double precision / totals.predictions as agreement,
        coalesce(expected.products, 0)
        / (totals.predictions::double precision * totals.predictions)
            as chance_agreement
    from totals
    left join expected
        on
            totals.model = expected.model
            and totals.reviewer = expected.reviewer
            and totals.other_reviewer is not distinct from expected.other_reviewer
)

select
    model,
    reviewer,
    other_reviewer,
    predictions,
    agreeing,
    agreement,
    chance_agreement,
    (agreement - chance_agreement) / nullif(1 - chance_agreement, 0) as kappa
from shares
