-- Which versions serve, and with what share of the requests. The gateway follows it.
-- grain: version that serves.  key: (model, model_version).  lateness: any.
with serving as (
    select
        model,
        model_version,
        status as variant,
        artifact_uri,
        changed_at,
        case
            when status = 'canary' then coalesce(traffic, 0)
            else 0
        end as share
    from {{ ref('model_versions') }}
    where status in ('champion', 'canary', 'shadow') and artifact_uri is not null
)

select
    model,
    model_version,
    variant,
    case
        when variant = 'champion' then
            greatest(1 - coalesce(sum(share) over (
                partition by model
                order by model_version
                rows between unbounded preceding and unbounded following
            ), 0), 0)
        else share
    end as traffic,
    artifact_uri,
    changed_at as since
from serving
