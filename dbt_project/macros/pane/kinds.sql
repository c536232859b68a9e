{#-
  What feedback of a kind says. `label` and `correction` say what was right; rewards say how good it
  was, and are never compared with the prediction.
-#}

{#- Whether a kind of feedback is a reward. -#}
{% macro is_reward(kind='kind') -%}
    {{ kind }} in ('rating', 'thumbs', 'click', 'dwell', 'purchase', 'conversion')
{%- endmacro %}

{#-
  The label that a row of label_panes is judged by: the class, or the 0 or 1 of a reward where the
  model's task is to predict rewards; null for tasks that have neither. Without a task it is the
  class.

  row  has label and outcome
-#}
{% macro judged_label(row, task) -%}
    {%- set said = 'coalesce(' ~ row ~ '.outcome, ' ~ row ~ '.label)' -%}
    case
            when {{ task }} = 'reward' then case when {{ said }} in ('0', '1') then {{ said }} end
            when coalesce({{ task }}, 'classification') = 'classification' then {{ row }}.label
        end
{%- endmacro %}

{#- Whether a row has a label, be it a measure, whose mix is compared over time. -#}
{% macro is_compared(row, task) -%}
    (
            (coalesce({{ task }}, 'classification') = 'classification' and {{ row }}.outcome is null)
            or {{ headrace.judged_label(row, task) }} is not null
        )
{%- endmacro %}

{#- The predicted class that labels are compared with; null for tasks without classes. -#}
{% macro judged_prediction(row, task) -%}
    case
            when coalesce({{ task }}, 'classification') = 'classification' then {{ row }}.prediction
        end
{%- endmacro %}

{#- How many predictions of numbers are compared with labels; 0 for other tasks than regression. -#}
{% macro judged_numbers(row, task) -%}
    case when coalesce({{ task }}, 'regression') = 'regression' then {{ row }}.measured else 0 end
{%- endmacro %}

{#-
  Whether a row counts where scores are judged by labels, and whether what its score is the
  probability of came true: the positive label, or else that the prediction was right.

  row  has the judged label and prediction, positive_label and score_of
-#}
{% macro is_score_judged(row='') -%}
    {{ row }}label is not null and (
            {{ row }}positive_label is not null
            or ({{ row }}score_of = 'prediction' and {{ row }}prediction is not null)
        )
{%- endmacro %}

{% macro came_true(row='') -%}
    {{ row }}label = coalesce({{ row }}positive_label, {{ row }}prediction)
{%- endmacro %}
