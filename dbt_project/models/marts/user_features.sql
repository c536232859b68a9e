-- What is known of every user now; Feast serves it online.
-- The row of user_feature_history that holds now, without the rows before it.
-- Shadow predictions, which no user saw, do not count.
-- grain: user of a model with a prediction or a label in the 30 days behind the model's clock.
-- key: (model, user_id).  lateness: as user_feature_history.
{{ request_features('user_id') }}
