-- Ingest: each message of Kafka goes into the table of its topic, or into events.rejected.
-- grain: one message.  key: that of the table, so a message that is read twice counts once.
-- lateness: any.

-- Rows reach the table with the checkpoint in which they were read, not later, so the rows up to
-- some `ingested_at` never change. This is RisingWave's default; a cluster may have another one.
set sink_decouple = false;

create sink if not exists events.inference_accepted
into events.inference (
    request_id, event_time, ingested_at, model, model_version, variant, endpoint, segment,
    user_id, session_id, item_id, item_key, features, feature_ages, input, output, prediction,
    score, probabilities, propensity, target_propensity, position, latency_ms, error, shadow_of
) as
select
    request_id, event_time, ingested_at, model, model_version, variant, endpoint, segment,
    user_id, session_id, item_id, coalesce('=' || item_id, '') as item_key, features,
    feature_ages, input, output, prediction, score, probabilities, propensity,
    target_propensity, inference_read.position, latency_ms, error, shadow_of
from events.inference_read as inference_read
where problem is null
with (type = 'append-only');

create sink if not exists events.feedback_accepted
into events.feedback (
    feedback_id, request_id, model, item_id, event_time, ingested_at, kind, value, label,
    rejected_request_id, retracts, source, user_id, metadata
) as
select
    feedback_id, request_id, model, item_id, event_time, ingested_at, kind, value, label,
    rejected_request_id, retracts, source, user_id, metadata
from events.feedback_read
where problem is null
with (type = 'append-only');

create sink if not exists events.model_events_accepted
into events.model_events (
    event_id, event_time, ingested_at, model, model_version, event, traffic, run_id,
    trigger_id, dataset_id, parent_version, artifact_uri, metrics, reason
) as
select
    event_id, event_time, ingested_at, model, model_version, event, traffic, run_id,
    trigger_id, dataset_id, parent_version, artifact_uri, metrics, reason
from events.model_events_read
where problem is null
with (type = 'append-only');

create sink if not exists events.inference_refused
into events.rejected (rejected_id, ingested_at, topic, field, reason, payload, origin) as
select
    rejected_id,
    ingested_at,
    'inference' as topic,
    problem[1] as field,
    coalesce(nullif(problem[1], ''), 'event') || ': must be ' || problem[2] || ', got ' || got
        as reason,
    message as payload,
    origin
from events.inference_read
where problem is not null
with (type = 'append-only');

create sink if not exists events.feedback_refused
into events.rejected (rejected_id, ingested_at, topic, field, reason, payload, origin) as
select
    rejected_id,
    ingested_at,
    'feedback' as topic,
    problem[1] as field,
    coalesce(nullif(problem[1], ''), 'event') || ': must be ' || problem[2] || ', got ' || got
        as reason,
    message as payload,
    origin
from events.feedback_read
where problem is not null
with (type = 'append-only');

create sink if not exists events.model_events_refused
into events.rejected (rejected_id, ingested_at, topic, field, reason, payload, origin) as
select
    rejected_id,
    ingested_at,
    'model_events' as topic,
    problem[1] as field,
    coalesce(nullif(problem[1], ''), 'event') || ': must be ' || problem[2] || ', got ' || got
        as reason,
    message as payload,
    origin
from events.model_events_read
where problem is not null
with (type = 'append-only');

create sink if not exists events.dead_letters
into events.rejected (rejected_id, ingested_at, topic, field, reason, payload, origin) as
select rejected_id, ingested_at, topic, field, reason, payload, origin
from events.rejected_read
with (type = 'append-only');
