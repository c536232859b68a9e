{#-
  A query of the feature panes that drift_windows compares: model, feature, pane_start, type, category,
  block, predictions, counts, and is_reference, which is true in the reference and false in the
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

{#-
  The hash up to which all panes of a feature keep its categories apart (pane_most.sql), as CTEs, the
  last of them `{{ name }}`: model, feature and threshold, where a pane has other strings. Beyond it
  a category that one pane keeps may be among the others of the next: compared_category.

  relation  a CTE of compared_features
-#}
{% macro category_thresholds(name, relation) -%}
    {{ name }}_full as (
        select
            model,
            feature,
            is_reference,
            pane_start
        from {{ relation }}
        where type = 'string' and category is null
    ),

    {{ name }} as (
        select
            model,
            feature,
            min(threshold) as threshold
        from (
            select
                panes.model,
                panes.feature,
                max({{ headrace.category_hash('panes.category') }}) as threshold
            from {{ relation }} as panes
            inner join {{ name }}_full as full_panes
                on
                    panes.model = full_panes.model
                    and panes.feature = full_panes.feature
                    and panes.is_reference = full_panes.is_reference
                    and panes.pane_start = full_panes.pane_start
            where panes.type = 'string'
            group by
                panes.model, panes.feature, panes.is_reference, panes.pane_start
        ) as full_panes
        group by model, feature
    )
{%- endmacro %}

{#-
  The category of a row of compared_features, null where it is among the others of another pane.

  panes, thresholds  that relation, and what category_thresholds says of its feature
-#}
{% macro compared_category(panes, thresholds) -%}
    case
        when
            {{ thresholds }}.threshold is null
            or {{ panes }}.type != 'string'
            or {{ headrace.category_hash(panes ~ '.category') }} <= {{ thresholds }}.threshold
            then {{ panes }}.category
    end
{%- endmacro %}
