{#-
  Retention of a pane. control.expire drops what is older and notes in control.horizons up to where;
  rows beyond are never made again, so a late event begins no pane that lacks its other events.

  retention    {grain: interval}; '' is the grain of a pane without grains
  time_column  the column that it looks at
-#}

{#- Statements that store the retention, for a pane that is built anew. -#}
{% macro pane_retention(retention, time_column) -%}
    {%- set pane = "'" ~ this.schema ~ '.' ~ this.identifier ~ "'" -%}
    delete from control.horizons where pane = {{ pane }};
    delete from control.retentions where pane = {{ pane }};
    {%- for grain, keep in retention.items() %}
    insert into control.retentions (pane, grain, time_column, keep)
    values ({{ pane }}, '{{ grain }}', '{{ time_column }}', '{{ keep }}');
    {%- endfor %}
{%- endmacro %}


{#- A condition on the relation `rows`: it is not beyond the horizon. -#}
{% macro pane_kept(rows, retention, time_column) -%}
    {%- if retention -%}
    not exists (
        select from control.horizons as horizons
        where
            horizons.pane = '{{ this.schema }}.{{ this.identifier }}'
            and horizons.grain = {{ "''" if '' in retention else rows ~ '.grain' }}
            and horizons.model = {{ rows }}.model
            and horizons.horizon > {{ rows }}.{{ time_column }}
    )
    {%- else -%}
    true
    {%- endif -%}
{%- endmacro %}
