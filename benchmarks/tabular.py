"""The recipe `tabular` beside scikit-learn's models, on tables that scikit-learn ships or makes.

`latent` has what tables of events have: numbers of several scales, categories, missing values and
interactions.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn import datasets
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import log_loss
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from benchmarks.report import machine, say, table
from headrace.engine import Engine
from headrace.model.inputs import Example
from headrace.model.recipe import Task, TrainingExample, TrainingSet
from headrace.trainer.recipes import tabular

SIZES = (200, 1_000, 5_000)
TEST_ROWS = 2_000
REPEATS = 3  # draws of the training rows, of which the median is shown
Values = NDArray[Any]
Fitted = Callable[[pd.DataFrame, Values, pd.DataFrame], Values]


@dataclass(frozen=True)
class Table:
    """A table with its target: classes as texts, or numbers."""

    name: str
    task: Task
    rows: pd.DataFrame
    target: Values


def tables() -> list[Table]:
    """Return all tables to compare on."""
    found = []
    for name in ("breast_cancer", "digits", "diabetes"):
        data = getattr(datasets, f"load_{name}")(as_frame=True)
        task: Task = "regression" if name == "diabetes" else "classification"
        target = data.target.to_numpy()
        found.append(
            Table(name, task, data.data, target if task == "regression" else target.astype(str))
        )
    rows, value = latent(SIZES[-1] + TEST_ROWS, seed=1)
    rng = np.random.default_rng(2)
    bought = rng.random(len(value)) < 1 / (1 + np.exp(-1.5 * value))
    rare = rng.random(len(value)) < 1 / (1 + np.exp(6.2 - 1.5 * value))
    found.append(Table("latent, classes", "classification", rows, bought.astype(int).astype(str)))
    found.append(Table("latent, rare class", "classification", rows, rare.astype(int).astype(str)))
    found.append(
        Table("latent, numbers", "regression", rows, value + rng.normal(0, 0.5, len(value)))
    )
    x, y = datasets.make_friedman1(SIZES[-1] + TEST_ROWS, noise=1.0, random_state=3)
    found.append(Table("friedman1", "regression", pd.DataFrame(x).add_prefix("x"), y))
    return found


def latent(n: int, seed: int) -> tuple[pd.DataFrame, Values]:
    """Rows of a shop's visitors, and what draws each of them to buy."""
    rng = np.random.default_rng(seed)
    city = rng.integers(0, 40, n)
    plan = rng.choice(["free", "pro", "team"], n, p=[0.6, 0.3, 0.1])
    device = rng.choice(["phone", "desktop"], n)
    price = rng.lognormal(3, 1, n)
    age, visits, hour = rng.normal(40, 12, n), rng.poisson(4, n), rng.integers(0, 24, n)
    value = (
        rng.normal(0, 0.6, 40)[city]
        + np.where(plan == "pro", 0.8, -0.3) * np.log(price / 20)
        + np.where((device == "phone") & (hour >= 18), 1.0, 0.0)
        - np.abs(age - 40) / 12
        + 0.25 * np.minimum(visits, 6)
    )
    rows = pd.DataFrame(
        {"city": city.astype(str), "plan": plan, "device": device, "price": price, "age": age,
         "visits": visits.astype(float), "hour": hour.astype(float)}
    )  # fmt: skip
    for name in ("price", "age"):
        rows.loc[rng.random(n) < 0.1, name] = np.nan
    for name in ("city", "plan", "device"):
        rows[name] = rows[name].astype("category")
    return rows, value - value.mean()


def ours(task: Task) -> Fitted:
    """Our recipe, through its folder."""

    def fit(rows: pd.DataFrame, target: Values, asked: pd.DataFrame) -> Values:
        train = [
            TrainingExample(one, str(label))
            for one, label in zip(_examples(rows), target, strict=True)
        ]
        labels = tuple(sorted(set(target))) if task == "classification" else ()
        data = TrainingSet("bench", task, train, labels)
        with tempfile.TemporaryDirectory() as folder:
            tabular.fit(data, None, tabular.Config(), lambda *_: None, Path(folder))
            return tabular.load(Path(folder)).predict(_examples(asked))

    return fit


def _examples(rows: pd.DataFrame) -> list[Example]:
    records = rows.astype(object).where(rows.notna(), None).to_dict("records")
    return [Example(features={str(name): value for name, value in one.items()}) for one in records]


def trees(task: Task) -> Fitted:
    """Gradient boosted trees with scikit-learn's defaults."""
    kind = HistGradientBoostingRegressor if task == "regression" else HistGradientBoostingClassifier
    return _scikit(lambda: kind(categorical_features="from_dtype"), task)


def linear(task: Task) -> Fitted:
    """Logistic or ridge regression over standardised numbers and one column per category."""

    def make() -> Any:
        numbers = make_pipeline(SimpleImputer(add_indicator=True), StandardScaler())
        columns = make_column_transformer(
            (numbers, make_column_selector(dtype_include="number")),
            (
                OneHotEncoder(handle_unknown="ignore"),
                make_column_selector(dtype_include="category"),
            ),
        )
        model = (
            RidgeCV(np.logspace(-2, 3, 6))
            if task == "regression"
            else LogisticRegression(max_iter=2_000)
        )
        return make_pipeline(columns, model)

    return _scikit(make, task)


def _scikit(make: Callable[[], Any], task: Task) -> Fitted:
    def fit(rows: pd.DataFrame, target: Values, asked: pd.DataFrame) -> Values:
        model = make().fit(rows, target)
        return np.asarray(
            model.predict(asked) if task == "regression" else model.predict_proba(asked)
        )

    return fit


FITTED: Mapping[str, Callable[[Task], Fitted]] = {
    "tabular": ours,
    "boosted trees": trees,
    "linear": linear,
}


def error(task: Task, said: Values, actual: Values, labels: Sequence[str]) -> float:
    """Log loss of classes; the squared error of numbers as a share of their variance."""
    if task == "regression":
        return float(((said - actual) ** 2).mean() / actual.var())
    return float(log_loss(actual, np.clip(said, 1e-7, 1), labels=labels))


def run(engine: Engine, quick: bool = False) -> str:
    """Return the table as Markdown."""
    rows = []
    for one in tables():
        for size in SIZES[:1] if quick else SIZES:
            if size + 100 <= len(one.target):
                rows.append([one.name, f"{size:,}", *compared(one, size)])
                say(" ".join(rows[-1]))
    return (
        "# Tables\n\nLog loss of classes; of numbers the squared error as a share of their "
        f"variance. Median of {REPEATS} draws of the rows. {machine(engine)}\n\n"
        + table(["", "rows", *FITTED], rows)
    )


def compared(one: Table, size: int) -> list[str]:
    """The error of each model, trained on `size` rows."""
    found: dict[str, list[float]] = {name: [] for name in FITTED}
    for seed in range(REPEATS):
        order = np.random.default_rng(seed).permutation(len(one.target))
        train, test = order[:size], order[size : size + TEST_ROWS]
        labels = sorted(set(one.target[train]))
        test = test[np.isin(one.target[test], labels)] if one.task == "classification" else test
        for name, model in FITTED.items():
            said = model(one.task)(one.rows.iloc[train], one.target[train], one.rows.iloc[test])
            found[name].append(error(one.task, said, one.target[test], labels))
    return [f"{np.median(values):.3f}" for values in found.values()]
