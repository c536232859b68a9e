"""What Evidently, NannyML, Frouros and alibi-detect say. Data in, results out: JSON."""

from __future__ import annotations

import inspect
import json
import sys
import textwrap
from typing import Any

import numpy as np
import pandas as pd
from alibi_detect.cd import ChiSquareDrift, KSDrift
from evidently import DataDefinition, Dataset, Report
from evidently.metrics import ValueDrift
from frouros.detectors.concept_drift import ADWIN, PageHinkley
from frouros.detectors.concept_drift.streaming.window_based import adwin
from frouros.detectors.data_drift import PSI, ChiSquareTest, KSTest
from nannyml import UnivariateDriftCalculator


def main() -> None:
    sets = json.load(sys.stdin)
    found: dict[str, Any] = {}
    for name, test in (("numbers", "ks"), ("categories", "chi2")):
        reference, current = (pd.DataFrame(sets[name][side]) for side in ("reference", "current"))
        found[name] = {
            column: {
                "evidently": evidently(reference, current, column, name),
                "nannyml": nannyml(reference, current, column, test),
                "frouros": frouros(reference[column].to_numpy(), current[column].to_numpy(), test),
                "alibi-detect": alibi(reference[column], current[column], test),
            }
            for column in map(str, reference)
        }
    detectors = {
        "page_hinkley": PageHinkley(),
        "adwin": ADWIN(),
        "adwin_all_buckets": with_all_buckets(),
    }
    found["Frouros"] = {
        name: first_alarm(detector, sets["errors"]) for name, detector in detectors.items()
    }
    found["Frouros"]["page_hinkley_fall"] = first_alarm(PageHinkley(), sets["errors"][::-1])
    found["Frouros"]["adwin_fall"] = first_alarm(ADWIN(), sets["errors"][::-1])
    json.dump(found, sys.stdout)


def evidently(reference: Any, current: Any, column: str, name: str) -> dict[str, Any]:
    is_number = name == "numbers"
    definition = DataDefinition(
        numerical_columns=[column] if is_number else [],
        categorical_columns=[] if is_number else [column],
    )
    methods = {"psi": "psi", "p_value": "ks" if is_number else "chisquare", "default": None}
    if reference[column].nunique() == 2:
        methods["z"] = "z"
    report = Report([ValueDrift(column=column, method=method) for method in methods.values()])
    data = [Dataset.from_pandas(frame[[column]], definition) for frame in (current, reference)]
    metrics = report.run(*data).dict()["metrics"]
    found = {key: float(each["value"]) for key, each in zip(methods, metrics, strict=True)}
    default = metrics[list(methods).index("default")]["config"]
    return {**found, "method": default["method"], "threshold": default["threshold"]}


def nannyml(reference: Any, current: Any, column: str, test: str) -> dict[str, Any]:
    method = "kolmogorov_smirnov" if test == "ks" else "chi2"
    found = {}
    for name, chunks in (("whole", {"chunk_number": 1}), ("chunks", {})):
        calculator = UnivariateDriftCalculator(
            column_names=[column],
            continuous_methods=[method] if test == "ks" else None,
            categorical_methods=[method] if test == "chi2" else None,
            treat_as_categorical=[column] if test == "chi2" else [],
            **chunks,
        )
        calculator.fit(reference)
        result = calculator.calculate(current).filter(period="analysis")
        found[name] = result.to_df()[column][method]
    chunks = found["chunks"]
    return {
        "statistic": float(found["whole"]["value"].iloc[0]),
        "threshold": float(chunks["upper_threshold"].iloc[0]) if test == "ks" else None,
        "chunks": len(chunks),
        "alerts": int(chunks["alert"].sum()),
    }


def frouros(reference: Any, current: Any, test: str) -> dict[str, Any]:
    found = {}
    if test == "ks":
        detector = PSI()
        detector.fit(X=reference)
        found["psi"] = float(detector.compare(X=current)[0].distance)
    tested = KSTest() if test == "ks" else ChiSquareTest()
    tested.fit(X=reference)
    result = tested.compare(X=current)[0]
    return {**found, "statistic": float(result.statistic), "p_value": float(result.p_value)}


def alibi(reference: Any, current: Any, test: str) -> dict[str, Any]:
    detector = KSDrift if test == "ks" else ChiSquareDrift
    x_ref, x = (np.asarray(each).reshape(-1, 1) for each in (reference, current))
    data = detector(x_ref, p_val=0.05).predict(x)["data"]
    return {
        "statistic": float(data["distance"][0]),
        "p_value": float(data["p_val"][0]),
        "is_drift": bool(data["is_drift"]),
    }


def first_alarm(detector: Any, stream: list[int]) -> int | None:
    for place, value in enumerate(stream, start=1):
        detector.update(value=value)
        if detector.drift:
            return place
    return None


def with_all_buckets() -> Any:
    """ADWIN that adds up every bucket of a row, where Frouros' own leaves the last one out."""
    source = textwrap.dedent(inspect.getsource(ADWIN._update))
    assert source.count("range(bucket.idx - 1)") == 1
    names = dict(vars(adwin))
    exec(source.replace("range(bucket.idx - 1)", "range(bucket.idx)"), names)
    return type("AllBuckets", (ADWIN,), {"_update": names["_update"]})()


if __name__ == "__main__":
    main()
