-- What is known of every session now; Feast serves it online.
-- The row of session_feature_history that holds now, without the rows before it.
-- Shadow predictions, which nobody saw, do not count.
-- grain: session of a model with a prediction or a label in the 30 days behind the model's clock.
-- key: (model, session_id).  lateness: as session_feature_history.
{{ request_features('session_id') }}
