-- The next step of each version on its way to champion, and what holds it back; the conductor takes the
-- steps that are due. A version begins as a candidate (trained), answers unseen beside the champion
-- (shadow_pairs), serves the shares of canary_steps one after the other, and becomes champion when
-- canary_verdict says so. Each step is judged by what came in since it began.
-- With canary_allocation thompson its share follows the probability that it is the best version
-- (canary_odds) between the first and the last of canary_steps, as soon as it would move by 5 points; it
-- becomes champion, or is taken back, at best_probability. It is judged by all that came in as a canary.
-- What serves and does harm is in rollback_trigger.
-- While the loop feeds on itself and does harm (performative_check) no version advances; a share may
-- fall.
-- A version is retired when another one became champion after it, or when it has been at one step for
-- longer than rollout_patience.
-- grain: version on its way, of a model that learns.  key: (model, model_version).
-- lateness: any; a late label or a revision counts for the prediction that it is about.
with travelling as (
    select
        versions.model,
        versions.model_version,
        versions.champion_version,
        versions.stage,
        versions.traffic,
        versions.since,
        versions.counts_since,
        versions.is_overtaken,
        versions.stage = 'canary' and policies.canary_allocation = 'thompson'
            as is_allocated,
        sum(versions.traffic) over (
            partition by versions.model
            order by versions.model_version
            rows between unbounded preceding and unbounded following
        ) - versions.traffic as other_traffic,
        coalesce(clock.event_clock, versions.since) as event_clock,
        policies.rollout,
        policies.shadow_pairs,
        case
            when policies.canary_allocation = 'thompson'
                then coalesce(policies.canary_steps, '0.05, 0.95')
            else policies.canary_steps
        end as canary_steps,
        policies.canary_allocation,
        policies.best_probability as bound,
        policies.min_sample,
        policies.max_canary_loss,
        policies.step_time,
        clock.event_clock > versions.counts_since + policies.rollout_patience
            as is_out_of_time
    from {{ ref('rolling_versions') }} as versions
    inner join {{ ref('model_policies') }} as policies
        on versions.model = policies.model
    left join {{ ref('model_clock') }} as clock
        on versions.model = clock.model
    where policies.learns
),

shares as (
    select
        model,
        model_version,
        traffic,
        unnest(string_to_array(canary_steps, ',')) as item
    from travelling
),

next_shares as (
    select
        model,
        model_version,
        min(case
            when item::double precision > traffic then item::double precision
        end) as next_step,
        min(item::double precision) as least_share,
        max(item::double precision) as most_share
    from shares
    group by model, model_version
),

pairs as (
    select
        travelling.model,
        travelling.model_version,
        sum(panes.predictions)::bigint as pairs
    from travelling
    inner join {{ ref('shadow_panes') }} as panes
        on
            travelling.model = panes.model
            and travelling.model_version = panes.shadow_version
            and {{ pane_start('1 hour', 'travelling.since') }} <= panes.pane_start
    where travelling.stage = 'shadow'
    group by travelling.model, travelling.model_version
),

worse as (
    select
        model,
        shadow_version,
        max(served_version) as served_version
    from {{ ref('shadow_comparison') }}
    where status = 'worse'
    group by model, shadow_version
),

-- Else these would be measured again for every version that they are joined to.
verdicts {{ as_materialized() }} (
    select
        model,
        model_version,
        verdict,
        reason,
        predictions,
        labels,
        measure,
        mean_reward,
        champion_mean_reward,
        difference,
        best_probability
    from {{ ref('canary_odds') }}
),

self_fed {{ as_materialized() }} (
    select model from {{ ref('performative_check') }}
    where halts
),

facts as (
    select
        travelling.*,
        self_fed.model is not null as feeds_itself,
        case
            when travelling.canary_allocation != 'thompson' then next_shares.next_step
            when verdict.best_probability is null and travelling.is_allocated
                then travelling.traffic
            else
                round(1e9 * least(
                    greatest(
                        coalesce(round(1000 * verdict.best_probability) / 1000, 0),
                        next_shares.least_share
                    ),
                    next_shares.most_share - travelling.other_traffic
                )) / 1e9
        end as next_share,
        greatest(
            least(0.05, next_shares.most_share - next_shares.least_share), 0.001
        ) - 0.000001 as least_move,
        case when travelling.is_allocated then verdict.best_probability end
            as best_probability,
        worse.served_version as better_version,
        verdict.verdict,
        verdict.reason as verdict_reason,
        verdict.measure,
        verdict.mean_reward,
        verdict.champion_mean_reward,
        verdict.difference,
        case
            when travelling.stage = 'shadow' then coalesce(pairs.pairs, 0)
            else coalesce(verdict.predictions, 0)
        end as predictions,
        coalesce(verdict.labels, 0) as labels
    from travelling
    {%- for part in ['next_shares', 'pairs'] %}
    left join {{ part }}
        on
            travelling.model = {{ part }}.model
            and travelling.model_version = {{ part }}.model_version
    {%- endfor %}
    left join worse
        on
            travelling.stage = 'shadow'
            and travelling.model = worse.model
            and travelling.model_version = worse.shadow_version
    left join verdicts as verdict
        on
            travelling.model = verdict.model
            and travelling.model_version = verdict.model_version
    left join self_fed on travelling.model = self_fed.model
),

aimed as (
    select
        *,
        case
            when is_overtaken or is_out_of_time then 'retired'
            when better_version is not null then 'rolled_back'
            when champion_version is null then 'promoted'
            when stage = 'trained' and shadow_pairs > 0 then 'shadow'
            when best_probability < 1 - bound and difference < 0 then 'rolled_back'
            when best_probability < 1 - bound then 'retired'
            when best_probability >= bound then 'promoted'
            when next_share is not null then 'canary'
            else 'promoted'
        end as next_event
    from facts
    {{ fence() }}
),

judged as (
    select
        *,
        case
            when rollout = 'pinned' then 'pinned: headrace rollout '
                || {{ shell_word('model') }} || ' --resume'
            when next_event = 'rolled_back' then null
            when rollout = 'paused' then 'paused: headrace rollout '
                || {{ shell_word('model') }} || ' --resume'
            when next_event = 'retired' then null
            when
                feeds_itself
                and not coalesce(next_event = 'canary' and next_share < traffic, false)
                then
                    'performative_check: what is served changes its labels, and the '
                    || 'holdback is better; all the same: headrace promote '
                    || {{ shell_word('model') }} || ' '
                    || {{ shell_word('model_version') }}
            when champion_version is null then null
            when next_event = 'canary' and next_share <= 0
                then 'other canaries have what canary_steps allows'
            when stage = 'trained' then null
            when stage = 'shadow' and predictions < shadow_pairs
                then
                    predictions || ' predictions in the shadow, of at least '
                    || shadow_pairs
            when event_clock < since + step_time
                then
                    'at this step until '
                    || {{ utc_text('(since + step_time)') }} || ' UTC'
            when stage = 'shadow' then null
            when verdict = 'rollback' then 'canary_verdict: ' || verdict_reason
            when verdict_reason in ('sample ratio', 'too few users')
                then 'canary_verdict: ' || verdict_reason
            when is_allocated and best_probability is null
                then
                    case
                        when labels < min_sample
                            then
                                labels || ' labels as a canary, of at least '
                                || min_sample
                        else 'canary_verdict: ' || coalesce(verdict_reason, 'undecided')
                    end
            when
                is_allocated and next_event = 'canary'
                and abs(next_share - traffic) < least_move
                then
                    'its share would be '
                    || {{ with_decimals('100 * next_share', 1) }}
                    || ' %, which is too near'
            when is_allocated then null
            when predictions < min_sample
                then
                    predictions || ' predictions at this share, of at least '
                    || min_sample
            when labels < min_sample
                then labels || ' labels at this share, of at least ' || min_sample
            when difference < -max_canary_loss * abs(champion_mean_reward)
                then 'so far its reward is lower than max_canary_loss allows'
            when next_event = 'promoted' and coalesce(verdict, 'continue') != 'promote'
                then 'canary_verdict: ' || coalesce(verdict_reason, 'undecided')
        end as held_back_by
    from aimed
)

select
    -- ids
    model,
    model_version,
    champion_version,
    -- where it is
    stage,
    traffic,
    since,
    -- where it goes
    held_back_by is null as due,
    next_event,
    case when next_event = 'canary' then next_share end as next_traffic,
    case
        when is_overtaken then champion_version || ' became champion after it'
        when is_out_of_time then 'at this step for longer than rollout_patience'
        when better_version is not null
            then 'worse than ' || better_version || ' in the shadow'
        when champion_version is null then 'no version serves'
        when stage = 'trained' then 'passed the gate'
        when stage = 'shadow' then predictions || ' predictions in the shadow'
        else
            concat_ws(
                ', ',
                'canary at ' || {{ with_decimals('100 * traffic', 1) }} || ' %: '
                || case
                    when best_probability is not null
                        then
                            'best with a probability of '
                            || {{ with_decimals('100 * best_probability', 1) }} || ' %'
                    when next_event = 'promoted' then verdict_reason
                    else predictions || ' predictions and ' || labels || ' labels'
                end,
                measure || ' ' || {{ with_decimals('abs(mean_reward)', 3) }}
                || ' against ' || {{ with_decimals('abs(champion_mean_reward)', 3) }}
            )
    end as reason,
    held_back_by,
    -- numbers
    predictions,
    labels,
    mean_reward,
    champion_mean_reward,
    difference,
    best_probability,
    event_clock
from judged
