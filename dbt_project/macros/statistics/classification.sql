{#-
  Metrics of predictions from label_panes, as CTEs, the last of them `{{ name }}`.

  relation  label_panes, or rows of them, with the positive_label, score_of and task of positive_labels
  by        columns that identify a row of the result, which is of one model

  AUC is the probability that a positive scores above a negative, by rank sums over score bins
  (Hanley and McNeil 1982); pairs in the same bin count half, so it is off by at most auc_error.
  What ends in _stderr is the standard error by sampling; fewer_of_classes counts the scores of the
  rarer class. The one of the RMSE is right where errors have the tails of a Laplace distribution
  (kurtosis 6), too great where they have less. Log
  loss is in nats, with scores clipped to [1e-6, 1 - 1e-6]. Where a score is the probability of the
  predicted class, log loss, Brier score and calibration_error are of whether the prediction was
  right, and there is no AUC, which needs the probabilities of all classes. calibration_error is the
  expected calibration error over tenths of the score (Naeini, Cooper, Hauskrecht 2015), with each score at
  the middle of its bin. Precision, recall and F1 are of the positive label; macro_f1 is the mean
  over all classes. RMSE and MAE are over predictions and labels that are both numbers. What means
  nothing for the task is null.
-#}
{% macro classification(name, relation, by) -%}
    {%- set keys = by | join(', ') -%}
    {%- set is_positive = 'label = positive_label' -%}
    {%- set is_scored = headrace.is_score_judged() -%}
    {%- set is_hit = headrace.came_true() -%}
    {{ name }}_judged as (
        select
            {{ keys }},
            positive_label,
            score_of,
            {{ headrace.judged_label('given', 'task') }} as label,
            {{ headrace.judged_prediction('given', 'task') }} as prediction,
            examples,
            {%- for sum in [
                'scored', 'score_micro', 'score_squared_micro', 'log_score_micro',
                'log_complement_micro', 'reward', 'reward_squared'
            ] %}
            {{ sum }},
            {%- endfor %}
            {{ headrace.judged_numbers('given', 'task') }} as measured,
            absolute_error,
            squared_error,
            counts
        from {{ relation }} as given
    ),

    {{ name }}_scores as (
        select
            {{ keys }},
            {{ is_hit }} as is_positive,
            counts
        from {{ name }}_judged
        where {{ is_scored }}
    ),

    {{ name }}_opened as (
        {{ headrace.opened_blocks(
            name ~ '_scores', by + ['is_positive'], headrace.score_block(), block='0'
        ) }}
    ),

    {{ name }}_bins as (
        select
            {{ keys }},
            bin,
            coalesce(sum(predictions) filter (where is_positive), 0) as positives,
            coalesce(sum(predictions) filter (where not is_positive), 0) as negatives
        from {{ name }}_opened
        group by {{ keys }}, bin
    ),

    {{ name }}_ranks as (
        select
            {{ keys }},
            {{ headrace.score_decile('bin') }} as decile,
            {{ headrace.score_value('bin') }} as score,
            positives,
            negatives,
            {%- for side in ['positives', 'negatives'] %}
            coalesce(sum({{ side }}) over (
                partition by {{ keys }}
                order by bin
                rows between unbounded preceding and 1 preceding
            ), 0) as {{ side }}_below{{ ',' if not loop.last }}
            {%- endfor %}
        from {{ name }}_bins
    ),

    {{ name }}_deciles as (
        select
            {{ keys }},
            sum(positives) as positives,
            sum(negatives) as negatives,
            sum(positives * (negatives_below + negatives / 2.0)) as pairs_won,
            sum(positives * negatives) as pairs_tied,
            {{ headrace.placed_sums() }},
            abs(
                sum(positives)::double precision
                - sum((positives + negatives)::double precision * score)
            ) as gap
        from {{ name }}_ranks
        group by {{ keys }}, decile
    ),

    {{ name }}_curve as (
        select
            {{ keys }},
            sum(pairs_won)::double precision
            / nullif(sum(positives) * sum(negatives), 0) as auc,
            sum(pairs_tied)::double precision
            / nullif(2 * sum(positives) * sum(negatives), 0) as auc_error,
            sum(gap) / nullif(sum(positives + negatives)::double precision, 0)
                as calibration_error,
            sum(positives) as positives,
            sum(negatives) as negatives,
            sum(placed_positives) as placed_positives,
            sum(placed_negatives) as placed_negatives
        from {{ name }}_deciles
        group by {{ keys }}
    ),

    {{ name }}_sides as (
        select
            {{ keys }},
            unnest(array[label, prediction]) as class,
            unnest(array[examples, 0::bigint]) as labeled,
            unnest(array[0::bigint, examples]) as predicted,
            unnest(array[case when label = prediction then examples else 0 end, 0::bigint])
                as correct
        from {{ name }}_judged
        where label is not null and prediction is not null
    ),

    {{ name }}_classes as (
        select
            {{ keys }},
            class,
            2 * sum(correct)::double precision
            / nullif(sum(labeled) + sum(predicted), 0) as f1
        from {{ name }}_sides
        group by {{ keys }}, class
    ),

    {{ name }}_macro as (
        select
            {{ keys }},
            avg(f1) as macro_f1
        from {{ name }}_classes
        group by {{ keys }}
    ),

    {{ name }}_counts as (
        select
            {{ keys }},
            max(positive_label) as positive_label,
            sum(examples) as labeled,
            sum(examples) filter (where {{ is_positive }}) as positives,
            sum(examples) filter (where prediction is not null and label is not null)
                as predicted,
            sum(examples) filter (where prediction = label) as correct,
            sum(examples) filter (where {{ is_positive }} and prediction = label) as true_positives,
            sum(examples) filter (where prediction = positive_label and label is not null)
                as predicted_positives,
            sum(examples) filter (where prediction is not null and {{ is_positive }})
                as predicted_of_positives,
            sum(scored) filter (where {{ is_scored }}) as scored,
            sum(case
                when {{ is_hit }} then log_score_micro else log_complement_micro
            end) filter (where {{ is_scored }}) as log_likelihood_micro,
            sum(score_squared_micro) filter (where {{ is_scored }})
            - 2 * coalesce(sum(score_micro) filter (where {{ is_scored }} and {{ is_hit }}), 0)
            + 1000000 * coalesce(sum(scored) filter (where {{ is_scored }} and {{ is_hit }}), 0)
                as squared_error_micro,
            sum(reward) as reward,
            {{ headrace.spread('sum(examples)', 'sum(reward_squared)', 'sum(reward)') }}
                as reward_spread,
            sum(measured) as measured,
            sum(squared_error) as squared_error,
            sum(absolute_error) as absolute_error
        from {{ name }}_judged
        group by {{ keys }}
        having sum(examples) > 0
    ),

    {{ name }} as (
        select
            {% for key in by %}counts.{{ key }},
            {% endfor -%}
            counts.labeled::bigint as labeled,
            case when counts.positive_label is not null then coalesce(counts.positives, 0) end
            ::bigint as positives,
            coalesce(counts.correct, 0)::double precision / nullif(counts.predicted, 0) as accuracy,
            coalesce(counts.true_positives, 0)::double precision
            / nullif(counts.predicted_positives, 0) as precision,
            coalesce(counts.true_positives, 0)::double precision
            / nullif(counts.predicted_of_positives, 0) as recall,
            2 * coalesce(counts.true_positives, 0)::double precision / nullif(
                coalesce(counts.predicted_positives, 0)
                + coalesce(counts.predicted_of_positives, 0), 0
            ) as f1,
            of_classes.macro_f1,
            case when counts.positive_label is not null then curve.auc end as auc,
            case when counts.positive_label is not null then curve.auc_error end as auc_error,
            case when counts.positive_label is not null then
                {{ headrace.auc_stderr(
                    'curve.auc', 'curve.positives', 'curve.negatives', 'curve.placed_positives',
                    'curve.placed_negatives'
                ) }}
            end as auc_stderr,
            least(curve.positives, curve.negatives)::bigint as fewer_of_classes,
            sqrt(
                coalesce(counts.correct, 0)::double precision
                * (counts.predicted - coalesce(counts.correct, 0))
                / nullif(counts.predicted::double precision * counts.predicted * counts.predicted, 0)
            ) as accuracy_stderr,
            -counts.log_likelihood_micro::double precision / 1000000 / nullif(counts.scored, 0)
                as log_loss,
            greatest(counts.squared_error_micro, 0)::double precision / 1000000
            / nullif(counts.scored, 0) as brier,
            curve.calibration_error,
            sqrt((greatest(counts.squared_error, 0) / nullif(counts.measured, 0))::double precision)
                as rmse,
            (counts.absolute_error / nullif(counts.measured, 0))::double precision as mae,
            sqrt((greatest(counts.squared_error, 0) / nullif(counts.measured, 0))::double precision)
            * sqrt(1.25 / nullif(counts.measured, 0)) as rmse_stderr,
            sqrt(greatest(
                (counts.squared_error / nullif(counts.measured, 0))::double precision
                - (counts.absolute_error / nullif(counts.measured, 0))::double precision
                * (counts.absolute_error / nullif(counts.measured, 0))::double precision,
                0
            ) / nullif(counts.measured, 0)) as mae_stderr,
            (counts.reward / nullif(counts.labeled, 0))::double precision as mean_reward,
            sqrt(
                {{ headrace.sample_variance('counts.labeled', 'counts.reward_spread') }}
                / nullif(counts.labeled, 0)
            ) as mean_reward_stderr
        from {{ name }}_counts as counts
        {%- for cte, alias in [
            ('curve', 'curve'), ('macro', 'of_classes')
        ] %}
        left join {{ name }}_{{ cte }} as {{ alias }}
            on {% for key in by -%}
                counts.{{ key }} = {{ alias }}.{{ key }}{{ ' and ' if not loop.last }}
            {%- endfor %}
        {%- endfor %}
    )
{%- endmacro %}

{#- The columns of label_panes that classification reads. -#}
{% macro classified_columns() -%}
    {{ return([
        'label', 'prediction', 'outcome', 'examples', 'scored', 'score_micro',
        'score_squared_micro', 'log_score_micro', 'log_complement_micro', 'reward',
        'reward_squared', 'measured', 'absolute_error', 'squared_error', 'counts'
    ]) }}
{%- endmacro %}
