{#-
  The status of the drift views: too few rows, stable, moving or drifted.

  psi_excess  of category_distances
  is_sure     whether chi-square is significant
  n, m        rows of the two sides
  policies    prefix of the columns min_sample and psi_alert, such as 'spans.'
  is_apart    for numbers, whether Kolmogorov-Smirnov says that they moved (ks_is_apart)
-#}
{% macro drift_status(psi_excess, is_sure, n, m, policies='', is_apart=none) -%}
    case
        when ({{ psi_excess }}) is null or least({{ n }}, {{ m }}) < {{ policies }}min_sample
            then 'too few rows'
        when {{ is_sure }} and {{ psi_excess }} >= {{ policies }}psi_alert then 'drifted'
        when {{ is_sure }} and {{ psi_excess }} >= 0.1 then 'moving'
        {%- if is_apart %}
        when {{ is_apart }} then 'moving'
        {%- endif %}
        else 'stable'
    end
{%- endmacro %}

{#-
  Whether a p-value is significant where so many tests are looked at together. As each of them has
  its part of drift_alpha, the probability that chance makes one of them so is at most drift_alpha,
  however they depend on each other (Bonferroni; Dunn 1961).
-#}
{% macro is_significant(p_value, tests, policies='') -%}
    coalesce({{ p_value }} < {{ policies }}drift_alpha / nullif({{ tests }}, 0), false)
{%- endmacro %}

{#-
  Whether two distribution functions are a tenth apart: of a tenth of all rows, be they of one bin of
  psi or a few of each. With rows enough, any difference is significant.
-#}
{% macro ks_is_apart(ks, p_value, tests, policies='') -%}
    ({{ ks }} >= 0.1 and {{ headrace.is_significant(p_value, tests, policies) }})
{%- endmacro %}

{#- How many of these p-values there are, of a row that is tested. -#}
{% macro tests_of(p_values, is_tested) -%}
    case
            when {{ is_tested }}
                then {% for p_value in p_values %}
                {{- ' + ' if not loop.first }}case when {{ p_value }} is not null then 1 else 0 end
                {%- endfor %}
            else 0
        end
{%- endmacro %}

{#-
  How many tests a model has, which share its drift_alpha (Bonferroni).

  tests  those of a row
  row    columns that tell the rows of a model apart
-#}
{% macro tests_of_model(tests, row) -%}
    sum({{ tests }}) over (
            partition by model
            order by {{ row }}
            rows between unbounded preceding and unbounded following
        )::bigint
{%- endmacro %}

{#-
  Whether categories are identifiers: at least nine of ten rows have one of their own.

  names  different categories
  rows   that have one
-#}
{% macro are_identifiers(names, rows) -%}
    ({{ rows }} > 0 and 10 * {{ names }} >= 9 * {{ rows }})
{%- endmacro %}

{#-
  Whether categories are identifiers that repeat, such as those of sessions: of the later rows of the
  reference at least half have a category that the earlier ones never had, and less than a third of
  those come back that should. By Turing's estimate (Good 1953) they are the share of earlier rows
  whose category came more than once; categories that stay, be they thousands, come back so often.

  late        later rows of the reference, at least a tenth of the earlier ones
  late_new    those of them with a new category
  early       its earlier rows
  early_once  those of them whose category came once
-#}
{% macro are_renewed(late, late_new, early, early_once) -%}
    (
            {{ late }} > 0
            and 10 * {{ late }} >= {{ early }}
            and 2 * {{ late_new }} >= {{ late }}
            and 3 * ({{ late }} - {{ late_new }}) * {{ early }}
            <= {{ late }} * ({{ early }} - {{ early_once }})
        )
{%- endmacro %}

{#- Whether a category has at most ten rows on average, as one that names a few rows has. -#}
{% macro is_few_rows_each(names, rows) -%}
    ({{ rows }} > 0 and 10 * {{ names }} >= {{ rows }})
{%- endmacro %}

{#-
  Whether a feature is one that Headrace makes of the events: what it counts grows with them, and a
  feature view is compared with no reference.
-#}
{% macro is_own_feature(feature) -%}
    split_part({{ feature }}, '__', 1) in (
        'segment_features', 'user_features', 'item_features', 'session_features'
    )
{%- endmacro %}
