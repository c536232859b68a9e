{#-
  Metrics of a classifier from binned counts, as two CTEs: `{{ name }}_bins` and `{{ name }}`.

  relation  has `by`, label, prediction, score_bin, positive_label, examples and the micro-sums
            of label_panes
  by        columns that name a row of the result

  AUC is the probability that a positive scores above a negative, by rank sums over score bins
  (Hanley and McNeil 1982); pairs inside one bin count half, so it is off by at most auc_error.
  Precision, recall and F1 are of the positive label. Log loss is in nats, its scores clipped to
  [1e-6, 1 - 1e-6].
-#}
{% macro classification(name, relation, by) -%}
    {%- set keys = by | join(', ') -%}
    {%- set is_positive = 'label = positive_label' -%}
    {{ name }}_bins as (
        select
            {{ keys }},
            score_bin,
            coalesce(sum(examples) filter (where {{ is_positive }}), 0) as positives,
            coalesce(sum(examples) filter (where label != positive_label), 0) as negatives
        from {{ relation }}
        where score_bin is not null
        group by {{ keys }}, score_bin
    ),

    {{ name }}_ranks as (
        select
            {{ keys }},
            positives,
            negatives,
            coalesce(sum(negatives) over (
                partition by {{ keys }}
                order by score_bin
                rows between unbounded preceding and 1 preceding
            ), 0) as negatives_below
        from {{ name }}_bins
    ),

    {{ name }}_auc as (
        select
            {{ keys }},
            sum(positives * (negatives_below + negatives / 2.0))::double precision
            / nullif(sum(positives) * sum(negatives), 0) as auc,
            sum(positives * negatives)::double precision
            / nullif(2 * sum(positives) * sum(negatives), 0) as auc_error
        from {{ name }}_ranks
        group by {{ keys }}
    ),

    {{ name }}_counts as (
        select
            {{ keys }},
            sum(examples) as labeled,
            sum(examples) filter (where {{ is_positive }}) as positives,
            sum(examples) filter (where prediction is not null) as predicted,
            sum(examples) filter (where prediction = label) as correct,
            sum(examples) filter (where {{ is_positive }} and prediction = label) as true_positives,
            sum(examples) filter (where prediction = positive_label) as predicted_positives,
            sum(examples) filter (where prediction is not null and {{ is_positive }})
                as predicted_of_positives,
            sum(examples) filter (where score_bin is not null) as scored,
            sum(case when {{ is_positive }} then log_score_micro else log_complement_micro end)
                as log_likelihood_micro,
            sum(score_squared_micro) - 2 * coalesce(sum(score_micro) filter (
                where {{ is_positive }}
            ), 0) + 1000000 * coalesce(sum(examples) filter (
                where {{ is_positive }} and score_bin is not null
            ), 0) as squared_error_micro
        from {{ relation }}
        group by {{ keys }}
        having sum(examples) > 0
    ),

    {{ name }} as (
        select
            {% for key in by %}counts.{{ key }},
            {% endfor -%}
            counts.labeled::bigint as labeled,
            coalesce(counts.positives, 0)::bigint as positives,
            coalesce(counts.correct, 0)::double precision / nullif(counts.predicted, 0) as accuracy,
            coalesce(counts.true_positives, 0)::double precision
            / nullif(counts.predicted_positives, 0) as precision,
            coalesce(counts.true_positives, 0)::double precision
            / nullif(counts.predicted_of_positives, 0) as recall,
            2 * coalesce(counts.true_positives, 0)::double precision / nullif(
                coalesce(counts.predicted_positives, 0)
                + coalesce(counts.predicted_of_positives, 0), 0
            ) as f1,
            auc.auc,
            auc.auc_error,
            -counts.log_likelihood_micro::double precision / 1000000 / nullif(counts.scored, 0)
                as log_loss,
            greatest(counts.squared_error_micro, 0)::double precision / 1000000
            / nullif(counts.scored, 0) as brier
        from {{ name }}_counts as counts
        left join {{ name }}_auc as auc
            on {% for key in by -%}
                counts.{{ key }} = auc.{{ key }}{{ ' and ' if not loop.last }}
            {%- endfor %}
    )
{%- endmacro %}
