"""The result of the demo: the loop compared with the frozen first model, on the same reports.

All predictions were made before the label of the report was known. The baseline is TF-IDF with
logistic regression, once frozen and once refitted on the training set of each version.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, log_loss, roc_auc_score
from sklearn.pipeline import make_pipeline

from headrace.demo.stream import MODEL, POSITIVE
from headrace.demo.summary import CONTESTANTS, Score, Summary
from headrace.engine import Engine
from headrace.events.contract import input_text
from headrace.features.reader import FeatureReader
from headrace.model.artifact import artifact_path
from headrace.model.examples import LabeledExample
from headrace.model.inputs import Example
from headrace.trainer.recipes import load
from headrace.trainer.recorded import rebuild_dataset


def summarize(engine: Engine, began: float) -> Summary:
    """Compare the live predictions with those of the frozen model and the baselines.

    `began` is the start of the demo, by `time.monotonic()`.
    """
    frame = live_predictions(engine)
    versions = engine.rows(
        """
        select model_version, status, event_clock, reason, dataset_id, artifact_uri,
            (metrics ->> 'examples')::bigint as examples, known_at
        from headrace.model_versions
        inner join control.claims using (run_id)
        where model_versions.model = %s
        order by known_at
        """,
        [MODEL],
    )
    published = [row for row in versions if row["artifact_uri"]]
    first = published[0]
    path = artifact_path(first["artifact_uri"], engine.settings.artifacts_path)
    frame["frozen"] = _frozen(frame, path)
    frame["tfidf_frozen"], frame["tfidf_loop"] = _tfidf(engine, frame, published)
    truth = (frame["label"] == POSITIVE).to_numpy()
    return Summary(
        reports=engine.rows("select count(*) as n from events.inference")[0]["n"],
        evaluated=len(frame),
        first_version=first["model_version"],
        scores={name: score(truth, frame[name].to_numpy()) for name in CONTESTANTS},
        monthly=_monthly(frame, truth),
        versions=[
            {
                key: row[key]
                for key in ("model_version", "status", "event_clock", "examples", "reason")
            }
            for row in versions
        ],
        latency_s=_latency(engine),
        seconds=round(time.monotonic() - began, 1),
    )


def live_predictions(engine: Engine) -> pd.DataFrame:
    """Return all live predictions with a label: one row per report, oldest first."""
    rows = engine.rows(
        """
        select request_id, event_time, model_version, segment, features, input, label,
            score as loop
        from headrace.labeled_examples
        where model = %s and score is not null
        order by event_time, request_id
        """,
        [MODEL],
    )
    return pd.DataFrame(rows)


def score(truth: np.ndarray[Any, Any], probability: np.ndarray[Any, Any]) -> Score:
    """Return AUC, F1 of the positive label at 0.5, and log loss in nats."""
    return Score(
        auc=float(roc_auc_score(truth, probability)),
        f1=float(f1_score(truth, probability >= 0.5)),
        log_loss=float(log_loss(truth, probability)),
    )


def _frozen(frame: pd.DataFrame, path: Path) -> np.ndarray[Any, Any]:
    """Return the first version's probability for each report, with the features served then."""
    _, predictor = load(path)
    examples = [
        Example(input_text(row["input"]), row["segment"], row["features"])
        for row in frame.to_dict("records")
    ]
    probabilities = predictor.predict(examples)
    return np.asarray(probabilities[:, predictor.labels.index(POSITIVE)], dtype=np.float64)


def _tfidf(
    engine: Engine, frame: pd.DataFrame, published: Sequence[dict[str, Any]]
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return the baseline's probabilities: fitted once, and refitted for each version."""
    reader = FeatureReader(engine)
    texts = [
        tfidf_words(input_text(row["input"]), row["segment"]) for row in frame.to_dict("records")
    ]
    frozen = np.zeros(len(frame))
    loop = np.zeros(len(frame))
    for number, version in enumerate(published):
        rows = rebuild_dataset(engine, version["dataset_id"], reader).rows
        model = fit_tfidf(rows)
        if number == 0:
            frozen = model.predict_proba(texts)[:, 1]
        mine = (frame["model_version"] == version["model_version"]).to_numpy()
        if mine.any():
            chosen = [text for text, take in zip(texts, mine, strict=True) if take]
            loop[mine] = model.predict_proba(chosen)[:, 1]
    return frozen, loop


def fit_tfidf(rows: Sequence[LabeledExample]) -> Any:
    """Return the baseline, fitted; column 1 of its answers is the positive label."""
    model = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True, max_features=50_000),
        LogisticRegression(C=10, max_iter=300),
    )
    texts = [tfidf_words(row.example.text, row.example.segment) for row in rows]
    return model.fit(texts, [row.label == POSITIVE for row in rows])


def tfidf_words(text: str, segment: str | None) -> str:
    """Return what the baseline reads of a report."""
    return f"segment_{segment} {text}"


def _monthly(frame: pd.DataFrame, truth: np.ndarray[Any, Any]) -> dict[str, dict[str, float]]:
    """Return the AUC of each contestant by month, for months with both labels."""
    months = frame["event_time"].dt.strftime("%Y-%m").to_numpy()
    return {
        month: {
            name: float(roc_auc_score(truth[months == month], frame[name][months == month]))
            for name in CONTESTANTS
        }
        for month in sorted(set(months))
        if len(set(truth[months == month])) == 2
    }


def _latency(engine: Engine) -> dict[str, float]:
    """Return the median seconds of each stage over all versions, in order of the stages."""
    rows = engine.rows(
        """
        select stage, percentile_cont(0.5) within group (order by seconds) as seconds
        from headrace.feedback_loop_latency
        where model = %s
        group by place, stage
        order by place
        """,
        [MODEL],
    )
    return {row["stage"]: round(row["seconds"], 3) for row in rows}


def draw(summary: Summary, path: Path) -> None:
    """Draw AUC by month, one line per contestant."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    styles = {
        "loop": ("#0b6e4f", "-", 2.6), "frozen": ("#b23a48", "-", 2.2),
        "tfidf_loop": ("#0b6e4f", ":", 1.6), "tfidf_frozen": ("#b23a48", ":", 1.6),
    }  # fmt: skip
    months = list(summary.monthly)
    figure, axes = pyplot.subplots(figsize=(10, 5.6), layout="constrained")
    for name, title in CONTESTANTS.items():
        color, line, width = styles[name]
        values = [summary.monthly[month][name] for month in months]
        label = f"{title}  (AUC {summary.scores[name].auc:.3f} overall)"
        axes.plot(months, values, line, color=color, linewidth=width, marker="o", label=label)
    axes.set_title(
        f"{MODEL}: predictions made before the label was known, {summary.evaluated:,} reports",
        loc="left",
    )
    axes.set_ylabel("AUC, by month of publication")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.25)
    figure.legend(frameon=False, loc="outside lower left", ncols=2)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
