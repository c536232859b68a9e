"""Seconds to compile a training set, by how many labels history holds."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from benchmarks.load import loading, maintain
from benchmarks.report import machine, say, short, table
from headrace.control.claims import Claim
from headrace.deploy import dbt
from headrace.engine import Engine
from headrace.features.reader import FeatureReader
from headrace.trainer.dataset import compile_dataset

MODEL = "m"
# One label each two hours after its prediction, 5,000 a day, so more labels are a longer history.
PREDICTIONS = """
insert into events.inference (
    request_id, event_time, ingested_at, model, model_version, variant, segment, prediction, score,
    features
)
select
    md5(n::text), at, at + interval '1 second', 'm', 'v1', 'champion', 's' || n %% 10,
    case when n %% 3 = 0 then 'yes' else 'no' end, n %% 100 / 100.0,
    '{"segment_features__labels_30d": 1, "segment_features__positives_30d": 1,
    "segment_features__positive_rate_30d": 1}'
from (
    select n, '2025-01-01'::timestamptz + n * interval '17.28 seconds' as at
    from generate_series(1, %(count)s) as n
) as made
"""
FEEDBACK = """
insert into events.feedback (
    feedback_id, request_id, event_time, ingested_at, kind, label, source
)
select
    'f' || n, md5(n::text), at + interval '2 hours', at + interval '2 hours 1 second', 'label',
    case when n %% 7 < 3 then 'yes' else 'no' end, 'explicit'
from (
    select n, '2025-01-01'::timestamptz + n * interval '17.28 seconds' as at
    from generate_series(1, %(count)s) as n
) as made
"""
READ = ("+labels", "+positive_labels", "+segment_feature_history")  # the views that are asked


def run(engine: Engine, quick: bool) -> str:
    """Return the table as Markdown."""
    rows = []
    for count in (5_000, 20_000) if quick else (50_000, 200_000, 800_000):
        _load(engine, count)
        served = _compiled(engine)
        with engine.connect() as connection:
            connection.execute("update events.inference set features = '{}'")
            connection.execute("vacuum (analyze) events.inference")
        looked_up = _compiled(engine)
        times = [min(served[1]), *looked_up[1]]
        say(f"{short(count)} labels: {served[0]} rows in {', '.join(f'{s:.1f}' for s in times)} s")
        rows.append((short(count), f"{served[0]:,}", *(f"{seconds:.2f}" for seconds in times)))
    return (
        "# Training sets\n\n"
        "Seconds to compile the set of a run, of 5,000 labels a day in ten segments. Where features"
        "\nare looked up, the first set reads all labels, and a later one what came in since.\n"
        f"{machine(engine)}\n\n"
        + table(("labels", "rows", "served", "looked up, first set", "looked up, later"), rows)
    )


def _compiled(engine: Engine) -> tuple[int, list[float]]:
    """The number of rows, and the seconds that two sets took."""
    (clock,) = engine.rows("select event_clock from headrace.model_clock where model = %s", [MODEL])
    times = []
    with FeatureReader(engine) as reader:
        for _ in range(2):
            now = datetime.now(UTC)
            claim = Claim("m/1", MODEL, "w", f"run {now}", 1, now, now, clock["event_clock"])
            began = time.perf_counter()
            rows = compile_dataset(engine, claim, reader).rows
            times.append(time.perf_counter() - began)
    return len(rows), times


def _load(engine: Engine, count: int) -> None:
    with loading(engine) as connection:
        connection.execute(PREDICTIONS, {"count": count})
        connection.execute(FEEDBACK, {"count": count})
    maintain(engine, "events.inference", "events.feedback")
    say(f"making the views of {short(count)} labels")
    dbt(engine, "run", "--full-refresh", "--quiet", "--select", *READ)
    maintain(engine)
