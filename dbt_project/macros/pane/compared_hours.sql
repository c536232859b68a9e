{#-
  A query of the panes of hours that drift_windows compares: model, `columns`, and is_reference,
  which is true in the reference and false in the current window. Both are whole hours: the
  reference without the one in which it ends, the current window with the one in which it begins.

  spans    a CTE with the rows of drift_windows
  panes    has model, pane_start and `columns`
  columns  a list
-#}
{% macro compared_hours(spans, panes, columns) -%}
    {%- set first_reference = headrace.pane_start('1 hour', 'spans.reference_start') -%}
    {%- set first_current = headrace.pane_start('1 hour', 'spans.window_start') -%}
    {%- for first_pane, bound, is_reference in [
        (first_reference,
         'greatest(' ~ headrace.pane_start(
            '1 hour', "(spans.reference_end - interval '1 hour')"
         ) ~ ', ' ~ first_reference ~ ') >= panes.pane_start', 'true'),
        (first_current, 'spans.reference_end < panes.pane_start', 'false')
    ] %}
    {%- if not loop.first %}
    union all
    {%- endif %}
    select
        panes.model,
        panes.{{ columns | join(',\n        panes.') }},
        {{ is_reference }} as is_reference
    from {{ spans }} as spans
    inner join {{ panes }} as panes
        on
            spans.model = panes.model
            and {{ first_pane }} <= panes.pane_start
            and {{ bound }}
    {%- endfor %}
{%- endmacro %}
