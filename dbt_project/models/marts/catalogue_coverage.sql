-- How much of the catalogue is shown, and how unequally: the share of items that were predicted, and
-- the share of predictions that went to the tenth of them that was predicted most.
-- The catalogue is every item that was predicted in the last 30 days. In whole hours, the last of
-- them that of the model's clock; shadow predictions are left out.
-- grain: window of a model with items.  key: (model, window_name).  lateness: any.
with bounds as (
    select
        model,
        {{ pane_start('1 hour', 'event_clock') }} + interval '1 hour' as window_end
    from {{ ref('model_clock') }}
),

shown as (
    select
        bounds.model,
        bounds.window_end,
        panes.item_id,
        sum(panes.inferences)::bigint as predictions_30d,
        coalesce(sum(panes.inferences) filter (
            where panes.pane_start >= bounds.window_end - interval '168 hours'
        ), 0)::bigint as predictions_7d,
        coalesce(sum(panes.inferences) filter (
            where panes.pane_start >= bounds.window_end - interval '24 hours'
        ), 0)::bigint as predictions_1d
    from bounds
    inner join {{ ref('item_panes') }} as panes on bounds.model = panes.model
    where panes.pane_start >= bounds.window_end - interval '720 hours'
    group by bounds.model, bounds.window_end, panes.item_id
),

windows as (
    {%- for name, hours, column in [
        ('1 day', 24, 'predictions_1d'), ('7 days', 168, 'predictions_7d'),
        ('30 days', 720, 'predictions_30d')
    ] %}
    {%- if not loop.first %}
    union all
    {%- endif %}
    select
        model,
        '{{ name }}' as window_name,
        window_end - interval '{{ hours }} hours' as window_start,
        window_end,
        item_id,
        {{ column }} as predictions
    from shown
    {%- endfor %}
),

ranked as (
    select
        *,
        row_number() over (
            partition by model, window_name
            order by predictions desc, item_id asc
        ) as place,
        sum(case when predictions > 0 then 1 else 0 end) over (
            partition by model, window_name
            order by item_id
            rows between unbounded preceding and unbounded following
        ) as items_shown
    from windows
)

select
    model,
    window_name,
    window_start,
    window_end,
    count(*) as catalogue_items,
    max(items_shown)::bigint as items_shown,
    max(items_shown)::double precision / nullif(count(*), 0) as coverage,
    sum(predictions)::bigint as predictions,
    (
        sum(case when 10 * (place - 1) < items_shown then predictions else 0 end)
        / nullif(sum(predictions), 0)
    )::double precision as top_tenth_share
from ranked
group by model, window_name, window_start, window_end
