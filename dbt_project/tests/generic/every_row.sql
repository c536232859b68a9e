{#- Every condition holds in every row (or is null there); `violated` names those that do not. -#}
{% test every_row(model, conditions) %}
select *
from (
    select
        *,
        concat_ws(
            '; '
            {%- for condition in conditions %},
            case when not ({{ condition }}) then '{{ condition | replace("'", "''") }}' end
            {%- endfor %}
        ) as violated
    from {{ model }}
) as checked
where violated != ''
{% endtest %}
