{#- No two rows share a key, and only its `nullable` columns may be null (equal to each other). -#}
{% test unique_key(model, columns, nullable=[]) %}
{%- set key = columns | join(', ') %}
select
    {{ key }},
    count(*) as copies
from {{ model }}
group by {{ key }}
having
    count(*) > 1
    {%- for column in columns if column not in nullable %}
    or {{ column }} is null
    {%- endfor %}
{% endtest %}
