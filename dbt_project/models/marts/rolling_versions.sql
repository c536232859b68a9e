-- Versions with an artifact that are on their way to champion: the newest candidate (trained) that no
-- champion came after, shadows and canaries. rollout_trigger says what comes next.
-- grain: version on its way.  key: (model, model_version).  lateness: any; the latest step wins.
with champion as (
    select
        model,
        model_version,
        promoted_at
    from {{ ref('model_versions') }}
    where status = 'champion'
),

versions as (
    select
        model,
        model_version,
        status as stage,
        coalesce(traffic, 0) as traffic,
        changed_at as since,
        counts_since,
        row_number() over (
            partition by model, status
            order by changed_at desc, model_version desc
        ) as place
    from {{ ref('model_versions') }}
    where status in ('trained', 'shadow', 'canary') and artifact_uri is not null
)

select
    versions.model,
    versions.model_version,
    champion.model_version as champion_version,
    versions.stage,
    versions.traffic,
    versions.since,
    versions.counts_since,
    coalesce(champion.promoted_at > versions.since, false) as is_overtaken
from versions
left join champion on versions.model = champion.model
where
    versions.stage != 'trained'
    or (
        versions.place = 1
        and coalesce(champion.promoted_at <= versions.since, true)
    )
