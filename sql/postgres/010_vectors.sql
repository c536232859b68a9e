-- Vectors of recent inputs, which `headrace embedder` makes (headrace/vectors/embedder.py).

-- What a base makes of the text of a request, of unit length.
-- grain: input of a request.  key: (request_id, model, base).
-- retention: the policy vector_retention, counted back from the model's clock.
-- `base` names the encoder, its tokens and its content: vectors of one base compare, and no others.
-- A base has its own number of dimensions, so the column has none; what makes the first vector of a
-- number makes the HNSW index for it, input_vectors_384 of 384.
create table if not exists events.input_vectors (
    model text not null,
    request_id text not null,
    base text not null,
    event_time timestamptz not null,
    embedded_at timestamptz not null default clock_timestamp(),
    embedding halfvec not null,
    primary key (request_id, model, base)
);

create index if not exists input_vectors_time
on events.input_vectors (model, event_time);

-- Sums of vectors, from which embedding_drift has means and variances. Written in the transaction
-- that stores the vectors, of each dimension. They are doubles: pgvector's `sum` adds in single
-- precision.
-- grain: hour of a model and base.  key: (model, base, pane_start).  retention: 400 days.
create table if not exists events.input_vector_hours (
    model text not null,
    base text not null,
    pane_start timestamptz not null,
    vectors bigint not null,
    sums double precision[] not null,
    squares double precision[] not null,
    primary key (model, base, pane_start)
);

insert into control.retentions (pane, grain, time_column, keep)
values ('events.input_vector_hours', '', 'pane_start', '400 days')
on conflict do nothing;

-- Up to where inferences were looked at, by ingested_at.
-- grain: the one row.
create table if not exists control.embedding (
    one_row boolean primary key default true check (one_row),
    looked_up_to timestamptz not null
) with (fillfactor = 10);

insert into control.embedding (looked_up_to)
select complete_until from events.ingest_horizon
on conflict do nothing;

-- The sum of two arrays of one length, place by place.
create or replace function control.added(
    a double precision[], b double precision[]
)
returns double precision[]
language sql immutable strict as $$
    select array_agg(x + y order by place)
    from unnest(a, b) with ordinality as pairs (x, y, place)
$$;

-- Loads pgvector, so that its setting below is known to a role that is no superuser.
select '[1]'::halfvec;

-- The inputs of a model whose vectors are nearest to one, of its base, nearest first, with the
-- cosine distance (0 the same direction, 2 the opposite one). HNSW finds most of the nearest, not
-- always all (docs/vectors.md). Where it finds too few, all vectors of the model are compared: it does
-- not get past some hundred equal vectors.
create or replace function headrace.nearest_inputs(
    of_model text, of_base text, near halfvec, most integer default 10
)
returns table (request_id text, event_time timestamptz, distance double precision)
language plpgsql stable
-- else what other models and bases have counts among the candidates, and fewer come back
set "hnsw.iterative_scan" = 'strict_order' as $$
declare
    gap text := format(
        '(near.embedding::halfvec(%1$s) <=> $1::halfvec(%1$s))', vector_dims(near)
    );
    query text := format(
        'select near.request_id, near.event_time, %s as distance
        from headrace.input_vectors as near
        where vector_dims(near.embedding) = %s and near.model = $2 and near.base = $3 ',
        gap, vector_dims(near)
    );
    found text[];
begin
    execute format(
        'select array_agg(request_id) from (%s order by %s limit $4) as found', query, gap
    ) into found using near, of_model, of_base, most;
    if cardinality(found) = most then
        query := query || 'and near.request_id = any($5) ';
    end if;
    -- no index is of this sum
    return query execute format('%s order by %s + 0 limit $4', query, gap)
    using near, of_model, of_base, most, found;
end
$$;
