"""The view model_performance against its recompute."""

from __future__ import annotations

from collections.abc import Mapping

from headrace.engine import Engine
from tests.support.closeness import MICRO, SCORE_BIN, SKETCH, close
from tests.support.oracle import WINDOWS, Oracle


def check_performance(
    engine: Engine, oracle: Oracle, windows: Mapping[str, tuple[int, int, int]] = WINDOWS
) -> None:
    rows = engine.rows("select * from headrace.model_performance")
    expected = oracle.performance(windows)
    names = ("window_name", "window_end", "model", "model_version", "variant")
    actual = {tuple(row[name] for name in names): row for row in rows}
    assert len(actual) == len(rows)
    assert actual.keys() == expected.keys()
    for key, row in actual.items():
        want = expected[key]
        for name in ("inferences", "errors", "labeled", "positives"):
            assert row[name] == want[name], (key, name)
        for name in ("accuracy", "precision", "recall", "f1", "macro_f1", "mean_reward"):
            assert close(row[name], want[name]), (key, name)
        for name in ("rmse", "mae"):
            assert close(row[name], want[name], rel=1e-9), (key, name)
        assert close(row["calibration_error"], want["calibration_error"], abs=SCORE_BIN), key
        for name in ("mean_score", "log_loss", "brier"):
            assert close(row[name], want[name], abs=2 * MICRO), (key, name)
        assert close(row["auc"], want["auc"]), key
        if want["exact_auc"] is not None:
            assert abs(row["auc"] - want["exact_auc"]) <= row["auc_error"] + 1e-12, key
        if "minute" in row["window_name"]:  # classes are kept by the hour
            want["macro_auc"] = want["exact_macro_auc"] = None
        assert close(row["macro_auc"], want["macro_auc"]), key
        assert (row["macro_auc"] is None) is bool(row["macro_auc_null_because"]), key
        if want["exact_macro_auc"] is not None:
            gap = abs(row["macro_auc"] - want["exact_macro_auc"])
            assert gap <= row["macro_auc_error"] + 1e-12, key
        for name in ("latency_p50_ms", "latency_p95_ms", "latency_p99_ms"):
            assert close(row[name], want[name], rel=SKETCH), (key, name)
