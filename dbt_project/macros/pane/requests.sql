{#-
  Which predictions feedback is about. A request may have predictions of several models, and several
  of one model, each with an item_id; feedback may name the model and the item. The names of the
  relations are given. Models and items are compared by expressions that no index serves, so that
  joins go by request_id.
-#}

{#- Whether feedback with the request_id of a prediction is about it. -#}
{% macro is_about(feedback, inference, item=true) -%}
    coalesce({{ feedback }}.model, {{ inference }}.model) = {{ inference }}.model
            {%- if item %}
            and coalesce({{ feedback }}.item_id, {{ inference }}.item_id)
            is not distinct from {{ inference }}.item_id
            {%- endif %}
{%- endmacro %}

{#- Whether two rows of one request_id are of the same prediction. -#}
{% macro is_same_prediction(one, other) -%}
    {{ one }}.model is not distinct from {{ other }}.model
            and {{ one }}.item_id is not distinct from {{ other }}.item_id
{%- endmacro %}

{#-
  Of the new predictions (`new_rows as n`), those that feedback may be about which is stored already:
  it waits for them, or is about another prediction of their request, too. Both panes that are asked
  are almost empty.
-#}
{% macro has_feedback() -%}
    (
                exists (
                    select from panes.waiting_feedback as w where w.awaited_id = n.request_id
                )
                or exists (
                    select from panes.answered_again as a where a.request_id = n.request_id
                )
            )
{%- endmacro %}

{#-
  Whether feedback was not taken back, by a row of `all_feedback`. As an anti-join: a left join whose
  rows are then filtered is expected to leave none, and the next join becomes a nested loop.

  until  retractions after it, by their `time`, do not count
-#}
{% macro is_standing(feedback, all_feedback, until=none, time='event_time') -%}
    not exists (
        select 1 from {{ all_feedback }} as retraction
        where
            {{ feedback }}.request_id = retraction.request_id
            and {{ feedback }}.feedback_id = retraction.retracts
            {%- if until %}
            and retraction.{{ time }} <= {{ until }}
            {%- endif %}
    )
{%- endmacro %}
