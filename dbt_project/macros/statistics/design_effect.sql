{#-
  How much more uncertain a comparison is for people who come back. What statistics/arithmetic.sql
  says of arguments and nulls holds here too.
-#}

{% macro unit_groups() %}64{% endmacro %}

{#- How many groups can tell of units. -#}
{% macro min_unit_groups() %}8{% endmacro %}

{#-
  The group of the unit that a prediction is for: two hexadecimal digits of a hash, of the second
  but two bits. Groups are of units at random and of nearly equal number (random groups: Wolter
  2007), so that sums by group are bounded, and show how the sums of units vary. The hash is salted
  because senders may divide users between versions by a plain one.
-#}
{% macro unit_group(unit) -%}
    {%- set hash = "md5('unit ' || " ~ unit ~ ')' -%}
    left({{ hash }}, 1)
    || translate(substr({{ hash }}, 2, 1), '0123456789abcdef', '0000111122223333')
{%- endmacro %}

{#-
  By how much the variance of a count grows for units that are each counted whole or not at all,
  at random: sum(n^2) / sum(n) over the units that are (Kish 1965). An aggregate over groups of
  units: their sums vary by it. 1 where no unit is known; null without rows and below 8 groups, as
  in design_effects.

  count, known  sums of a group: what is counted, and that of which the unit is known
-#}
{% macro design_effect_of_count(count, known) -%}
    {%- set groups = headrace.effective_sample_size(
        'sum(' ~ count ~ ')', 'sum(' ~ count ~ ' * ' ~ count ~ ')'
    ) -%}
    {%- set all = headrace.unit_groups() -%}
    case
        when sum({{ known }}) = 0 then 1
        when {{ groups }} >= {{ headrace.min_unit_groups() }} then
            1 + greatest(
                {{ all }} / ({{ all }} - 1.0::double precision) * (
                    sum({{ count }} * {{ count }}) / nullif(sum({{ count }}), 0)
                    - sum({{ count }}) / {{ all }}
                ) - 1, 0
            ) * {{ groups }} / nullif({{ groups }} - 3, 0)
    end
{%- endmacro %}

{#-
  By how much the variance of a share grows for units: that of a ratio of sums by unit, by the delta
  method (Deng, Knoblich, Lu 2018), by that of as many independent trials. An aggregate over the
  groups of units that have a success; those without count by the sums over all groups. 1 where no
  unit is known or all trials have one outcome; null below 8 groups.

  successes, trials        of a group
  sum, sum_squared, known  the same in each row: sums over all groups of trials, of their squares,
                           and of trials whose unit is known
-#}
{% macro design_effect_of_share(successes, trials, sum, sum_squared, known) -%}
    {%- set all = 'max(' ~ sum ~ ')' -%}
    {%- set groups = headrace.effective_sample_size(all, 'max(' ~ sum_squared ~ ')') -%}
    {%- set share = '(sum(' ~ successes ~ ') / nullif(' ~ all ~ ', 0))' -%}
    case
        when max({{ known }}) = 0 then 1
        when {{ groups }} >= {{ headrace.min_unit_groups() }} then
            1 + greatest(
                coalesce(
                    {{ headrace.unit_groups() }} / ({{ headrace.unit_groups() }} - 1.0::double precision) * (
                        sum({{ successes }} * {{ successes }})
                        - 2 * {{ share }} * sum({{ successes }} * {{ trials }})
                        + {{ share }} * {{ share }} * max({{ sum_squared }})
                    ) / nullif({{ all }} * {{ share }} * (1 - {{ share }}), 0), 0
                ) - 1, 0
            ) * {{ groups }} / nullif({{ groups }} - 3, 0)
    end
{%- endmacro %}

{#-
  By how much variances grow for units, as CTEs, the last of them `{{ name }}`: `by`, unit_groups,
  and of the difference of two sides within strata (macro compared_rewards) design_effect, of the
  mean of a side labels_design_effect and `{{ base }}`_labels_design_effect. Without a reward whose
  unit is known there is no row.

  A design effect (Kish 1965) is the variance over units by that over rewards, of the same rows. Of
  a mean it is that of a ratio of sums by unit, by the delta method (Deng, Knoblich, Lu 2018); of
  the difference, which is the coefficient of the side in a regression with strata, the
  cluster-robust (Liang and Zeger 1986) by the heteroskedasticity-robust one (White 1980). A unit
  with rewards on both sides counts for its difference. Squares over G groups of units are G - 1
  parts of G of those over units.

  J groups of equal size are worth as much as these, (sum n)^2 / sum(n^2) (Kish; Carter, Schnepel,
  Steigerwald 2017); unit_groups is J of the side with fewer. What an effect exceeds 1 by grows by
  J / (J - 3): J / (J - 1) for few units, times the variance of Student's t of J - 1 degrees. Below
  1 it is 1, and below 8 groups null: nothing can be told.

  relation  has `by`, stratum, is_base, unit_group, labels (0 or more), known (those whose unit is
            known), reward and reward_squared (exact sums)
-#}
{% macro design_effects(name, relation, by, base) -%}
    {%- set keys = by | join(', ') -%}
    {%- set sides = [('', 'not is_base'), (base ~ '_', 'is_base')] -%}
    {%- set b = base ~ '_' -%}
    {%- set of_groups = headrace.unit_groups() ~ ' / (' ~ headrace.unit_groups() ~ ' - 1)' -%}
    {{ name }}_strata as (
        select
            {{ keys }},
            stratum,
            sum(known) as known
            {%- for prefix, side in sides %}
            {%- for column in ['labels', 'reward', 'reward_squared'] %},
            coalesce(sum({{ column }}) filter (where {{ side }}), 0) as {{ prefix }}{{ column }}
            {%- endfor %}
            {%- endfor %}
        from {{ relation }}
        group by {{ keys }}, stratum
    ),

    {{ name }}_means as (
        select
            *
            {%- for prefix, _ in sides %},
            {{ headrace.as_double(prefix ~ 'reward') }} / nullif({{ prefix }}labels, 0)
                as {{ prefix }}mean,
            {{ headrace.as_double(headrace.spread(
                prefix ~ 'labels', prefix ~ 'reward_squared', prefix ~ 'reward'
            )) }} / nullif({{ prefix }}labels, 0) as {{ prefix }}squares
            {%- endfor %},
            labels::double precision * {{ b }}labels / nullif(labels + {{ b }}labels, 0) as weight
        from {{ name }}_strata
        {{ headrace.fence() }}
    ),

    {{ name }}_sums as (
        select
            {{ keys }},
            nullif(sum(weight), 0) as all_weight,
            sum(weight * (mean - {{ b }}mean)) / nullif(sum(weight), 0) as difference
            {%- for prefix, _ in sides %},
            {{ headrace.as_double('sum(' ~ prefix ~ 'reward)') }}
            / nullif(sum({{ prefix }}labels), 0) as {{ prefix }}all_mean,
            {{ headrace.as_double(headrace.spread(
                'sum(' ~ prefix ~ 'labels)', 'sum(' ~ prefix ~ 'reward_squared)',
                'sum(' ~ prefix ~ 'reward)'
            )) }} / nullif(sum({{ prefix }}labels), 0) as {{ prefix }}all_squares
            {%- endfor %}
        from {{ name }}_means
        group by {{ keys }}
        having sum(known) > 0
    ),

    {{ name }}_fitted as (
        select
            means.*,
            sums.all_mean,
            sums.{{ b }}all_mean
            {%- for prefix, other, sign in [('', b, '+'), (b, '', '-')] %},
            means.weight / sums.all_weight / nullif(means.{{ prefix }}labels, 0)
                as {{ prefix }}slope,
            (
                means.labels * means.mean + means.{{ b }}labels * means.{{ b }}mean
                {{ sign }} sums.difference * means.{{ other }}labels
            ) / nullif(means.labels + means.{{ b }}labels, 0) as {{ prefix }}fitted
            {%- endfor %}
        from {{ name }}_means as means
        inner join {{ name }}_sums as sums
            on {% for key in by %}{{ ' and ' if not loop.first }}means.{{ key }} = sums.{{ key }}
            {%- endfor %}
        {{ headrace.fence() }}
    ),

    {{ name }}_rewards as (
        select
            {{ keys }}
            {%- for column, squares in [('squares', [
                '{0}squares', '{0}labels * ({0}mean - {0}fitted) * ({0}mean - {0}fitted)'
            ]), ('size', [headrace.as_double('{0}reward_squared')])] %},
            sum(
                {%- for prefix, _ in sides %}
                {{ '+ ' if not loop.first -}}
                {{ prefix }}slope * {{ prefix }}slope
                * ({{ (squares | join(' + ')).replace('{0}', prefix) }})
                {%- endfor %}
            ) as {{ column }}
            {%- endfor %}
        from {{ name }}_fitted
        group by {{ keys }}
    ),

    {{ name }}_groups as (
        select
            {% for key in by %}cells.{{ key }}, {% endfor %}
            cells.unit_group
            {%- for prefix, of in [
                ('', ' filter (where not cells.is_base)'), (b, ' filter (where cells.is_base)')
            ] %},
            coalesce(sum(cells.labels){{ of }}, 0)::double precision as {{ prefix }}labels,
            coalesce(sum(
                {{ headrace.as_double('cells.reward') }}
                - cells.labels * fitted.{{ prefix }}all_mean
            ){{ of }}, 0) as {{ prefix }}residual,
            coalesce(sum(
                fitted.{{ prefix }}slope * (
                    {{ headrace.as_double('cells.reward') }}
                    - cells.labels * fitted.{{ prefix }}fitted
                )
            ){{ of }}, 0) as {{ prefix }}part
            {%- endfor %}
        from {{ relation }} as cells
        inner join {{ name }}_fitted as fitted
            on
                cells.stratum = fitted.stratum
                {%- for key in by %}
                and cells.{{ key }} = fitted.{{ key }}
                {%- endfor %}
        group by {% for key in by %}cells.{{ key }}, {% endfor %}cells.unit_group
    ),

    {{ name }}_units as (
        select
            {{ keys }},
            sum((part - {{ b }}part) * (part - {{ b }}part)) as squares
            {%- for prefix, _ in sides %},
            sum({{ prefix }}residual * {{ prefix }}residual) as {{ prefix }}squares_of_labels,
            {{ headrace.effective_sample_size(
                'sum(' ~ prefix ~ 'labels)', 'sum(' ~ prefix ~ 'labels * ' ~ prefix ~ 'labels)'
            ) }} as {{ prefix }}groups
            {%- endfor %}
        from {{ name }}_groups
        group by {{ keys }}
    ),

    {{ name }}_ratios as (
        select
            {% for key in by %}units.{{ key }}, {% endfor %}
            units.groups,
            units.{{ b }}groups,
            least(units.groups, units.{{ b }}groups) as unit_groups,
            case
                when rewards.squares > rewards.size * 1e-20::double precision
                    then units.squares / nullif(rewards.squares, 0)
            end as ratio
            {%- for prefix, _ in sides %},
            units.{{ prefix }}squares_of_labels / nullif(sums.{{ prefix }}all_squares, 0)
                as {{ prefix }}labels_ratio
            {%- endfor %}
        from {{ name }}_units as units
        {%- for relation in ['sums', 'rewards'] %}
        inner join {{ name }}_{{ relation }} as {{ relation }}
            on {% for key in by %}{{ ' and ' if not loop.first -}}
            units.{{ key }} = {{ relation }}.{{ key }}
            {%- endfor %}
        {%- endfor %}
        {{ headrace.fence() }}
    ),

    {{ name }} as (
        select
            {{ keys }},
            unit_groups
            {%- for effect, ratio, groups in [
                ('design_effect', 'ratio', 'unit_groups'),
                ('labels_design_effect', 'labels_ratio', 'groups'),
                (b ~ 'labels_design_effect', b ~ 'labels_ratio', b ~ 'groups'),
            ] %},
            case when {{ groups }} >= {{ headrace.min_unit_groups() }} then
                1 + greatest(
                    coalesce({{ ratio }}, 0) * {{ of_groups }} - 1, 0
                ) * {{ groups }} / nullif({{ groups }} - 3, 0)
            end as {{ effect }}
            {%- endfor %}
        from {{ name }}_ratios
    )
{%- endmacro %}

{#-
  By how much the variances of shares grow for units on two sides of equal units, as CTEs, the last of
  them `{{ name }}`: `by`, measure, label, design_effect and `{{ base }}`_design_effect. Of the
  measure 'feedback', the share of predictions that have a label, as of a count, side by side, because
  the predictions of a group are not known. Of 'label', the share of one label among all that are not
  null, that of the side where it is greater: it is the same but for chance, and a side on which
  the label never came shows none. Null below 8 groups.

  relation  has `by`, is_base, unit_group, label, labels (0 or more) and known (those whose unit is
            known)
-#}
{% macro label_effects(name, relation, by, base) -%}
    {%- set keys = by | join(', ') -%}
    {%- set whole = 'rows between unbounded preceding and unbounded following' -%}
    {{ name }}_rows as (
        select
            {{ keys }},
            is_base,
            unit_group,
            unnest(array['feedback', 'label']) as measure,
            unnest(array[null::text, label]) as label,
            labels,
            known
        from {{ relation }}
        where labels > 0
    ),

    {{ name }}_units as (
        select
            {{ keys }},
            is_base,
            measure,
            label,
            unit_group,
            sum(labels)::double precision as labels,
            sum(known) as known
        from {{ name }}_rows
        where measure = 'feedback' or label is not null
        group by {{ keys }}, is_base, measure, label, unit_group
    ),

    {{ name }}_groups as (
        select
            *,
            sum(labels) over (
                partition by {{ keys }}, is_base, measure, unit_group order by label {{ whole }}
            ) as group_labels,
            row_number() over (
                partition by {{ keys }}, is_base, measure, unit_group order by label
            ) as place
        from {{ name }}_units
    ),

    {{ name }}_sums as (
        select
            *
            {%- for column, of in [
                ('side_known', 'known'),
                ('side_labels', 'case when place = 1 then group_labels else 0 end'),
                ('side_squares', 'case when place = 1 then group_labels * group_labels else 0 end'),
            ] %},
            sum({{ of }}) over (
                partition by {{ keys }}, is_base, measure order by label {{ whole }}
            ) as {{ column }}
            {%- endfor %}
        from {{ name }}_groups
    ),

    {{ name }}_sides as (
        select
            {{ keys }},
            is_base,
            measure,
            label,
            case
                when measure = 'feedback' then
                    {{ headrace.design_effect_of_count('labels', 'known') }}
                else {{ headrace.design_effect_of_share(
                    'labels', 'group_labels', 'side_labels', 'side_squares', 'side_known'
                ) }}
            end as effect
        from {{ name }}_sums
        group by {{ keys }}, is_base, measure, label
    ),

    {{ name }} as (
        select
            {{ keys }},
            measure,
            label
            {%- for prefix, side in [('', 'not is_base'), (base ~ '_', 'is_base')] %},
            case
                when measure = 'feedback' then max(case when {{ side }} then effect end)
                when count(*) = count(effect) then max(effect)
            end as {{ prefix }}design_effect
            {%- endfor %}
        from {{ name }}_sides
        group by {{ keys }}, measure, label
    )
{%- endmacro %}
