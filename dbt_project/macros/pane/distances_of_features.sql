{#-
  How far the values of features are from those of a reference, as CTEs, the last of them `{{ name }}`:
  the columns of category_distances over the bins of binned_numbers and over categories, `ks` of the
  numbers, how many rows of a side fall under the categories that a pane does not keep apart, and
  whether a feature identifies (are_identifiers, are_renewed).

  panes  a CTE: `by`, pane_start, type, category, block, predictions, counts, rings and is_reference
  by     columns that identify a feature
-#}
{% macro distances_of_features(name, panes, by) -%}
    {%- set keys = by | join(', ') -%}
    {{ headrace.opened_numbers('buckets', panes, by) }},

    {{ headrace.category_thresholds(
            'thresholds', panes, by + ['type'], ['is_reference', 'pane_start'], 'category'
        ) }}

    {{ headrace.binned_numbers('number_bins', 'buckets', by) }},

    -- Where the later half of a reference's categories begins.
    halves as (
        select
            {{ keys }},
            pane_start,
            2 * sum(predictions) over (
                partition by {{ keys }}
                order by pane_start
                rows between unbounded preceding and current row
            ) - predictions > sum(predictions) over (
                partition by {{ keys }}
                order by pane_start
                rows between unbounded preceding and unbounded following
            ) as is_late
        from (
            select
                {{ keys }},
                pane_start,
                sum(predictions) as predictions
            from {{ panes }}
            where is_reference and category is not null
            group by {{ keys }}, pane_start
        ) as reference_panes
    ),

    texts as (
        select
            {% for key in by -%}
            panes.{{ key }},
            {% endfor -%}
            panes.type,
            {{ headrace.compared_category('panes.category', 'thresholds') }} as category,
            panes.is_reference,
            panes.is_reference and coalesce(halves.is_late, false) as is_late,
            panes.predictions
        from {{ panes }} as panes
        {{ headrace.join_thresholds('thresholds', 'panes', by + ['type']) }}
        left join halves
            on
                {% for key in by -%}
                panes.{{ key }} = halves.{{ key }} and {% endfor -%}
                panes.pane_start = halves.pane_start
        where panes.block is null
    ),

    named as (
        select
            {{ keys }},
            'number' as kind,
            bin,
            reference,
            current,
            0 as late,
            gap
        from number_bins
        union all
        select
            {{ keys }},
            case when category is null then type else 'category' end as kind,
            case when category is null then type else 'category ' || category end as bin,
            coalesce(sum(predictions) filter (where is_reference), 0) as reference,
            coalesce(sum(predictions) filter (where not is_reference), 0) as current,
            coalesce(sum(predictions) filter (where is_late), 0) as late,
            null::double precision as gap
        from texts
        group by {{ keys }}, type, category
    ),

    binned as (
        select
            {{ keys }},
            bin,
            reference,
            current,
            max(case when kind = 'number' then 1 else 0 end) over of_feature as is_number,
            max(gap) over of_feature as ks,
            {%- for side in ['reference', 'current'] %}
            sum(case when kind = 'number' then {{ side }} else 0 end) over of_feature
                as {{ side }}_numbers,
            sum(case when kind = 'category' then {{ side }} else 0 end) over of_feature
                as {{ side }}_categories,
            sum(case when kind = 'category' and {{ side }} > 0 then 1 else 0 end)
                over of_feature as {{ side }}_names,
            sum(case when kind = 'string' then {{ side }} else 0 end) over of_feature
                as {{ side }}_others,
            {%- endfor %}
            sum(late) over of_feature as late,
            sum(case when late = reference then late else 0 end) over of_feature
                as late_new,
            sum(case when kind = 'category' and reference - late = 1 then 1 else 0 end)
                over of_feature as early_once
        from named
        window of_feature as (
            partition by {{ keys }}
            order by bin
            rows between unbounded preceding and unbounded following
        )
    ),

    judged as (
        select
            *,
            is_number = 0 and (
                (
                    {{ headrace.are_identifiers('reference_names', 'reference_categories') }}
                    and {{ headrace.are_identifiers('current_names', 'current_categories') }}
                )
                or (
                    {{ headrace.is_few_rows_each('reference_names', 'reference_categories') }}
                    and {{ headrace.is_few_rows_each('current_names', 'current_categories') }}
                    and {{ headrace.are_renewed(
                        'late', 'late_new', '(reference_categories - late)', 'early_once'
                    ) }}
                )
            ) as is_identifier
        from binned
    ),

    {{ headrace.category_distances(name, 'judged', by + [
            'is_number', 'ks', 'reference_numbers', 'current_numbers', 'reference_others',
            'current_others', 'is_identifier'
        ], 'bin') }}
{%- endmacro %}
