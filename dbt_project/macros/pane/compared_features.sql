{#-
  A query of the feature panes that drift_windows compares: model, feature, pane_start, type, category,
  block, predictions, counts, rings, and is_reference, which is true in the reference and false in the
  current window.

  spans  a CTE with the rows of drift_windows
-#}
{% macro compared_features(spans) -%}
    {%- for grain, first_pane, bound, is_reference in [
        ('reference_grain', 'first_reference_pane',
         'spans.last_reference_pane >= panes.pane_start', 'true'),
        ('window_grain', 'first_window_pane',
         'spans.reference_end < panes.pane_start
            and spans.window_end >= panes.pane_start', 'false')
    ] %}
    {%- if not loop.first %}
    union all
    {%- endif %}
    select
        panes.model,
        panes.feature,
        panes.pane_start,
        panes.type,
        panes.category,
        panes.block,
        panes.predictions,
        panes.counts,
        panes.rings,
        {{ is_reference }} as is_reference
    from {{ spans }} as spans
    inner join {{ ref('feature_panes') }} as panes
        on
            spans.model = panes.model
            and spans.{{ grain }} = panes.grain
            and spans.{{ first_pane }} <= panes.pane_start
            and {{ bound }}
    {%- endfor %}
{%- endmacro %}
