-- Policies: thresholds of the views, and how feedback becomes a label. A row takes the place of the
-- one with its key.

-- grain: one policy that exists.  key: policy.
-- kind: number, a range of numbers (0..0.5), interval, text, windows, shares, or the words that it
-- may be (on|off).
create table if not exists control.policy_kinds (
    policy varchar primary key,
    kind varchar,
    default_value varchar,
    description varchar
);

-- grain: one threshold of one model.  key: (model, policy).
-- model '*' holds the default; a row with the model's own name overrides it.
create table if not exists control.policies (
    model varchar,
    policy varchar,
    value varchar,
    updated_at timestamptz default now(),
    primary key (model, policy)
);

-- grain: how one kind of feedback on one model becomes a label.  key: (model, kind).
-- model '*' holds the default; a row with the model's own name overrides it.
create table if not exists control.label_policies (
    model varchar,
    kind varchar,
    wins varchar,
    priority integer,
    weight double precision,
    primary key (model, kind)
);
