-- What silence says, of the models where it says anything: the default_label of a prediction without
-- feedback when its label window closes, which is by the model's clock.
-- grain: model with a default_label.  key: model.
-- lateness: none; a changed policy is seen by the next query.
{{ config(stored=true) }}

{{ label_terms(ref('clocks'), source('control', 'policies')) }}
