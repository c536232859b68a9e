{#-
  AUC of each class against the rest, from class_panes: CTEs, the last of them `{{ name }}`.

  relation  class_panes, or rows of them
  by        columns that, with the class, identify a row of the result

  A class without a probability has 0. By rank sums over score bins, as in classification().
-#}
{% macro class_areas(name, relation, by) -%}
    {%- set keys = by | join(', ') -%}
    {{ name }}_opened as (
        {{ headrace.opened_blocks(
            relation, by + ['class', 'is_label'], headrace.score_block(), block='0'
        ) }}
    ),

    {{ name }}_sides as (
        select
            {{ keys }},
            class,
            sum(case when is_label then examples else 0 end) as positives,
            sum(case when is_label then 0 else examples end) as negatives
        from {{ relation }}
        group by {{ keys }}, class
    ),

    {{ name }}_totals as (
        select
            {{ keys }},
            sum(positives) as examples
        from {{ name }}_sides
        group by {{ keys }}
        having sum(positives) > 0
    ),

    {{ name }}_counts as (
        select
            {{ keys }},
            class,
            bin,
            case when is_label then predictions else 0 end as positives,
            case when is_label then 0 else predictions end as negatives
        from {{ name }}_opened
        union all
        -- predictions without a probability of the class
        select
            {% for key in by %}sides.{{ key }},
            {% endfor -%}
            sides.class,
            0 as bin,
            0::bigint as positives,
            (totals.examples - sides.positives - sides.negatives)::bigint as negatives
        from {{ name }}_sides as sides
        inner join {{ name }}_totals as totals
            on {% for key in by -%}
                sides.{{ key }} = totals.{{ key }}{{ ' and ' if not loop.last }}
            {%- endfor %}
    ),

    {{ name }}_bins as (
        select
            {{ keys }},
            class,
            bin,
            sum(positives) as positives,
            sum(negatives) as negatives
        from {{ name }}_counts
        group by {{ keys }}, class, bin
    ),

    {{ name }}_ranks as (
        select
            {{ keys }},
            class,
            positives,
            negatives,
            {%- for side in ['positives', 'negatives'] %}
            coalesce(sum({{ side }}) over (
                partition by {{ keys }}, class
                order by bin
                rows between unbounded preceding and 1 preceding
            ), 0) as {{ side }}_below{{ ',' if not loop.last }}
            {%- endfor %}
        from {{ name }}_bins
    ),

    {{ name }}_curves as (
        select
            {{ keys }},
            class,
            sum(positives) as positives,
            sum(negatives) as negatives,
            sum(positives * (negatives_below + negatives / 2.0))::double precision
            / nullif(sum(positives) * sum(negatives), 0) as auc,
            sum(positives * negatives)::double precision
            / nullif(2 * sum(positives) * sum(negatives), 0) as auc_error,
            {{ headrace.placed_sums() }}
        from {{ name }}_ranks
        group by {{ keys }}, class
    ),

    {{ name }} as (
        select
            {{ keys }},
            class,
            auc,
            auc_error,
            {{ headrace.auc_stderr(
                'auc', 'positives', 'negatives', 'placed_positives', 'placed_negatives'
            ) }} as auc_stderr
        from {{ name }}_curves
    )
{%- endmacro %}

{#-
  The mean of these AUC over the classes that are labels, as in the gate of the trainer
  (trainer/gate.py): a CTE. macro_auc_stderr is that of k means that depend on each other a little,
  sqrt(sum of squares / (k (k - 1))): exact for two classes, whose AUC are one. Measured for 3 and 5
  classes, equal ones and shares down to 1 %, 100 and 1,000 rows: 1.02 to 1.5 times the standard
  deviation of macro_auc.
-#}
{% macro macro_area(name, areas, by) -%}
    {{ name }} as (
        select
            {{ by | join(', ') }},
            count(*) as classes,
            avg(auc) as macro_auc,
            avg(auc_error) as macro_auc_error,
            sqrt(
                sum(auc_stderr * auc_stderr)
                / nullif(count(auc_stderr)::double precision * (count(auc_stderr) - 1), 0)
            ) as macro_auc_stderr
        from {{ areas }}
        group by {{ by | join(', ') }}
    )
{%- endmacro %}

{#- Columns of macro_auc: null, with the reason, where there is none. -#}
{% macro macro_auc_columns(area, task) -%}
    case when {{ task }} = 'classification' then {{ area }}.macro_auc end as macro_auc,
    case when {{ task }} = 'classification' then {{ area }}.macro_auc_error end
        as macro_auc_error,
    case
        when {{ task }} is null or {{ task }} != 'classification'
            then 'the task is not classification'
        when {{ area }}.classes is null
            then
                'no labelled prediction with probabilities of 3 to 100 classes, '
                || 'which are kept by the hour'
        when {{ area }}.macro_auc is null then 'all labels are of one class'
    end as macro_auc_null_because
{%- endmacro %}
