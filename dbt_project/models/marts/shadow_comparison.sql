-- Whether a shadow version is right more often than what was served, on the same requests: of the
-- pairs in which only one was right, how many was the shadow (McNemar 1947).
-- The last 30 days behind the model's clock, by the hour of the shadow's prediction.
-- grain: pair of shadow and served version with labels.
-- key: (model, shadow_version, served_version).
-- lateness: any; either prediction may come first, and labels follow.
with pairs as (
    select
        panes.model,
        panes.shadow_version,
        panes.served_version,
        sum(panes.judged)::bigint as judged,
        sum(panes.shadow_right)::bigint as shadow_right,
        sum(panes.served_right)::bigint as served_right,
        sum(panes.shadow_right + panes.served_right)::bigint as one_right
    from {{ ref('model_clock') }} as clock
    inner join {{ ref('shadow_label_panes') }} as panes
        on
            clock.model = panes.model
            and clock.event_clock - interval '720 hours' < panes.pane_start
    group by panes.model, panes.shadow_version, panes.served_version
    having sum(panes.judged) != 0
),

tested as (
    select
        *,
        (shadow_right - served_right)::double precision / nullif(judged, 0)
            as difference,
        (shadow_right - served_right) / nullif(sqrt(one_right::double precision), 0)
            as z,
        {{ planned_share_p_value('shadow_right', 'one_right', '0.5') }}
            as always_valid_p_value
    from pairs
    {{ fence() }}
)

select
    tested.model,
    tested.shadow_version,
    tested.served_version,
    case
        when tested.judged < policies.min_sample then 'too few labels'
        when tested.always_valid_p_value < policies.canary_alpha
            then case when tested.difference > 0 then 'better' else 'worse' end
        else 'even'
    end as status,
    tested.judged,
    tested.shadow_right,
    tested.served_right,
    tested.difference,
    tested.z,
    {{ normal_p_value('tested.z') }} as p_value,
    tested.always_valid_p_value
from tested
inner join {{ ref('model_policies') }} as policies on tested.model = policies.model
left join {{ ref('model_tasks') }} as tasks on tested.model = tasks.model
where coalesce(tasks.task, 'classification') = 'classification'
