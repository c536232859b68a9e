-- What was deployed.

-- grain: one part of the deployment (the SQL files, the dbt project).  key: name; the last row stays.
create table if not exists control.deployed (
    name varchar primary key,
    sha256 varchar,
    deployed_at timestamptz default now()
);
