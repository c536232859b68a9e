"""SQL that breaks each of the rules of RisingWave, and SQL like it that keeps them."""

from __future__ import annotations

from tests.support.risingwave_words import INSTEAD

JOINED = "select a.x from t as a inner join u as b on "
OVER = (
    "select sum(x) over (partition by k order by t rows between 1 preceding and current row) from t"
)
# By rule: SQL that breaks it, and SQL beside it that does not.
PLANTED: dict[str, tuple[list[str], list[str]]] = {
    "functions": (
        [
            *(f"select {name}(x) from t" for name in INSTEAD),
            "select pg_advisory_xact_lock(1) from t",
            "select pg_notify('c', x) from t",
            "select regr_r2(y, x) from t",
            "select x::numeric(8, 3) from t",
            "select cast(x as varchar(3)) from t",
        ],
        [
            "select count(*) filter (where x in (1, 2)) from t group by grouping sets ((x), ())",
            "with w as (select x from t) select 'ntile(4)' as a, \"corr\" from w",
            "select array[count(*) filter (where b = 0)] from t",
        ],
    ),
    "absent": (
        [
            "select a.x from a inner join lateral (select 1 as y) as b on a.x = b.y",
            "insert into t select 1 on conflict do nothing",
            "create or replace view v as select 1",
            "create temp table v as select 1",
            "create temporary table v as select 1",
            "with recursive w as (select 1) select * from w",
            "with w as materialized (select 1) select * from w",
            "with w as not materialized (select 1) select * from w",
            "select x from t except all select x from u",
        ],
        ["with w as (select 'on conflict' as a) select a from w except select a from u"],
    ),
    "wall clock": (
        [
            "select now() as x from t",
            "select x from t where t.at > current_timestamp - interval '1 day'",
            "select clock_timestamp() from t",
        ],
        ["select 'now()' as x from t where t.at > t.event_clock - interval '1 day'"],
    ),
    "types": (
        ["select x::uuid from t", "select x::vector from t", "select x::json from t"],
        ["select x::bigint[], y::double precision, z::timestamptz, j::jsonb from t"],
    ),
    "intervals": (
        [
            f"select x + interval '{text}' from t"
            for text in (
                "1 microsecond", "5 milliseconds", "0.5 seconds", "1.5 days", "1 week", "P1D",
                "1 day, 2 hours", "1 day ago", "1", "1 day 12", "",
            )
        ]
        + ["select '1 week'::interval from t"],
        [
            f"select x + interval '{text}' from t"
            for text in (
                "00:00:00.000001", "1 day", "-3 hours", "2 days 03:00", "1 year 2 mons -3 days",
                "30min",
            )
        ]
        + ["select '7 days'::interval, 'a week', 'interval', x as interval from t"],
    ),
    "numbers": (
        [
            "select x * 1e30 from t",
            "select x from t where x > 0.5e-28",
            f"select {'9' * 29} from t",
        ],
        ["select '1e30'::double precision, 1e15, 0.00000000000000000001, 1e-28 from t"],
    ),
    "joins": (
        [
            "select 1 from a cross join b",
            "select 1 from a, b where a.x = b.x",
            "select 1 from a natural join b",
            "select 1 from a inner join b on true",
            JOINED + "a.t >= b.t",
            JOINED + "a.x = b.x or a.y = b.y",
            JOINED + "b.x = 'constant'",
            JOINED + "b.x = b.y",
            JOINED + "x = y",
            "select 1 from a inner join b on a.x = b.x inner join c on a.x = b.x",
        ],
        [
            JOINED + "(a.x = b.x and a.t >= b.t)",
            "select 1 from a left join b using (x)",
            "select extract(epoch from a.t), left(b.x, 2) from a full join b on a.x = b.x",
        ],
    ),
    "subqueries": (
        [
            "select (select max(x) from u) as m from t",
            "select x from t where x > (select max(x) from u)",
            "select x from t where exists (select 1 from u)",
            "select x from t where exists (select 1 from u where u.y > t.y)",
            "select x from t where x in (select u.x from u where u.y > t.y)",
        ],
        [
            "select x from t where exists (select 1 from u where u.x = t.x and u.y > t.y)",
            "select x from t where x in (select u.x from u)",
            "select x from t where x in (select u.x from u where u.k = t.k and u.y > t.y)",
            "select x from (select x from t union all (select x from u)) as both_of_them",
        ],
    ),
    "windows": (
        [
            OVER.replace("partition by k ", ""),
            OVER.replace("rows between 1 preceding and current row", ""),
            OVER.replace("rows between", "groups between"),
            OVER.replace("rows between 1", "range between interval '1 day'"),
            OVER.replace("rows between 1", "range between '2 months'::interval"),
            OVER.replace("rows between", "range between").replace("by t", "by t, u"),
            OVER.replace("over", "filter (where y) over"),
            "select row_number() over (partition by k) from t",
            "select row_number() over (order by x) from t",
            "select sum(x) over w from t window w as (partition by k order by t)",
            "select lag(x) ignore nulls over (partition by k order by t) from t",
        ],
        [
            OVER,
            OVER.replace("rows between", "range between"),
            OVER.replace("rows between 1", "range between interval '720 hours'"),
            "select lag(x) over (partition by k order by t) from t",
            "select rank() over w, sum(x) over w from t "
            "window w as (partition by k order by t rows unbounded preceding)",
        ],
    ),
    "aggregates": (
        [
            "select percentile_cont(0.5) within group (order by x) from t",
            "select k, percentile_cont(k) within group (order by x) from t group by k",
            "select count(*) filter (where x in (select y from u)) from t",
            "select round(x, 2) from t",
            "select 'psi ' || round(x::numeric, 2) from t",
            "select sum(n) * sum(x) - sum(y) * sum(y) from t",
            "select sum(n) filter (where z) * sum(x) filter (where z) - 1 from t",
            "select concat_ws(', ', round(x::numeric, 2)) from t",
            "select sum(x::numeric) from t",
            "select sum(x::numeric) over (partition by k order by t rows 1 preceding) from t",
            "with w as (select (x)::numeric as y from t) select sum(y * y) from w",
            "with w as (select case when x ~ '^[0-9]+$' then x::numeric end as y from t) "
            "select sum(abs(y)) from w",
            "select jsonb_object_agg(x, y) from t where y is not null",
        ],
        [
            "select k, percentile_cont(0.5) within group (order by x) from t group by k",
            "select count(*) filter (where x > 1), round(sum(x)::numeric, 2), round(x) from t",
            "with w as (select case when abs(x) <= 1e9 then x::numeric end as y from t) "
            "select sum(y), sum(y * y), sum((case when b then 1 else 0 end)::numeric) from w",
            "select jsonb_object_agg(x, y) from t where x is not null and y > 0",
        ],
    ),
    "set returning": (
        [
            "select case when x > 0 then generate_series(0, 2) end from t",
            "select coalesce(unnest(x), 1) from t",
            "select sum(jsonb_array_elements_text(j)) from t",
            "select x from t where jsonb_object_keys(j) = 'a'",
            "select a.x from a inner join generate_series(0, 2) as g on a.x = g.g",
            "select 50 + generate_series(0, 2) as x, unnest(y) as z from t",
            "select unnest(y) * weight as x from t",
            "select generate_series(0, 2)::bigint as x from t",
            "select unnest(string_to_array(jsonb_object_keys(j), ',')) as x from t",
        ],
        [
            "select 5 + n as x from (select generate_series(0, 2) as n, unnest(y) from t) as s",
            "select unnest(case when x > 0 then array[x] else array[y, z] end) as z from t",
            "select x from generate_series(0, 2) as x",
        ],
    ),
    "jsonb keys": (
        [
            "select features from t group by features",
            "select input, k from t group by grouping sets ((k, input), (k))",
            "select input, k from t group by rollup (k, input)",
            "select input as i, count(*) as n from t group by 1",
            "select features -> 'a' as part, count(*) as n from t group by part",
            "select distinct metrics from t",
            "select distinct on (output) x from t order by output",
            "select count(distinct metadata) from t",
            "select row_number() over (partition by features order by x) from t",
            "select a.x from a inner join b on a.metrics = b.metrics",
            "select a.x from a inner join b using (metrics)",
            "select features from t union select features from u",
            "with w as (select x::jsonb as y from t) select distinct y from (select * from w)",
            "select jsonb_build_object('a', x) as y from t group by y",
            "select coalesce(features, input) as y from t group by y",
            "select case when x > 0 then features end as y from t group by y",
        ],
        [
            "select features ->> 'a' as x from t group by features ->> 'a'",
            "select features, input from t union all select features, input from u",
            "with w as (select count(*) as metrics from t) select metrics from w group by metrics",
            "select jsonb_typeof(features) as y, max(x) from t group by jsonb_typeof(features)",
        ],
    ),
    "ordering": (
        [
            "select x from t order by x",
            "select distinct on (k) k, x from t",
            "select distinct on (k) k, x from t order by x, k",
        ],
        [
            "select x from t order by x limit 3",
            "select distinct on (k) k, x from t order by k asc, x desc",
            "select array_agg(x order by y) from t",
        ],
    ),
    "division": (
        [
            "select x / y from t",
            "select x % y from t",
            "select x / 0 from t",
            "select x / (1 - 1) from t",
            "select x / nullif(y, 1) from t",
            "select x / count(y) from t group by x",
            "select 1 / count(*) from t",
            "select 1 / count(*) from t group by grouping sets ((k), ())",
            "select x / greatest(y, 0) from t",
            "select x / (abs(y) - 1) from t",
            "select x / sum(y) from t group by x",
            "select case when y > 0 then 1 else x / y end from t",
            "select case when y > -1 then x / y end from t",
            "select x / y from t where y >= 0 or x > 0",
            "select k, x / count(*) filter (where y) from t group by k",
            "with w as (select x, nullif(y, 0) as y from t union all select x, y from u) "
            "select x / y from w",
            "select x / count(*) over (partition by k order by t rows between 2 preceding "
            "and 1 preceding) from t",
        ],
        [
            "select x / nullif(y, 0), x / (2 * nullif(y::numeric, 0)), x / 1000000 from t",
            "select x / ln(1.02::double precision), x / (1.02 + 1), x / greatest(y, 1) from t",
            "select k, sum(x) / count(*) from t group by k",
            "select x / (1 + exp(least(greatest(y, -9), 9))), x / (0.5 + 2 * abs(y)) from t",
            "select x / (y * y + 1) from t",
            "select case when y > 0 and x > 0 then x / y end, x / z from t where z between 1 and 9",
            "with w as (select k, count(*) as n from t group by k) select 1 / sum(n) from w",
            "select x / coalesce(nullif(y, 0), 1) from t where y > 0",
            "with w as (select nullif(y, 0) as z, x from t) select v.x / v.z from w as v",
            "with w as (select x, count(*) over (partition by k order by t rows between unbounded "
            "preceding and unbounded following) as n from t) select x / n from w",
        ],
    ),
    "exponents": (
        [
            "select exp(x) from t",
            "select exp(-least(x, 700)) from t",
            "select exp(least(greatest(x, -800), 700)) from t",
            "select exp(least(greatest(x, y), 700)) from t",
            "select exp(1000) from t",
            "select power(x, 2) from t",
            "select power(1.02::double precision, n - 50000) from t",
            "select x ^ -0.5 from t",
            "select sqrt((sum(x) / nullif(count(x), 0))::double precision) from t",
            "with w as (select * from (select x, y from t) as u), v as (select sum(x) as s from w) "
            "select sqrt(s / 2) from v",
        ],
        [
            "select exp(least(greatest(x, -700), 700)), exp(1), power(x, 1 / 6.0), x * x from t",
            "select power(x, 0.5) from t",
            "select sqrt(greatest(sum(x), 0) / 2), sqrt(y) from t",
            "with w as (select x * x as y from t) select sqrt(sum(y)) from w",
        ],
    ),
}  # fmt: skip
# SQL that breaks the plain rules, once sqlglot cannot parse it.
PLAIN_BAD = {
    "joins": [
        "select 1 from a cross join b",
        "select 1 from a, b where a.x = b.x",
        "select 1 from a natural join b",
        JOINED + "a.t >= b.t",
        JOINED + "b.x = 'constant'",
        JOINED + "b.x = b.y",
        "select 1 from a inner join b on true left join c on a.x = c.x",
    ],
    "subqueries": [
        "select (select max(x) from u) as m from t",
        "select x from t where exists (select 1 from u)",
    ],
    "windows": [
        OVER.replace("partition by k ", ""),
        OVER.replace("rows between 1 preceding and current row", ""),
        OVER.replace("over", "filter (where y) over"),
        "select sum(x) over w from t window w as (partition by k order by t)",
    ],
    "jsonb keys": [
        "select features from t group by x, features",
        "select distinct metrics from t",
        "select row_number() over (partition by features order by x) from t",
    ],
    "ordering": ["select x from t order by x", "with w as (select 1) select x from t order by x"],
    "division": ["select x / y from t", "select x % y from t", "select x / 0 from t"],
}
