-- Up to when everything is in: no event whose ingested_at is before complete_until can still appear.
-- A job that reads what is new asks for ingested_at from its last complete_until on and before this
-- one, in one query or snapshot with it. While a batch is open it stays where that batch began.
-- grain: the one row.  key: complete_until.  lateness: none; it never goes back.
select complete_until
from {{ source('events', 'ingest_horizon') }}
where complete_until is not null
