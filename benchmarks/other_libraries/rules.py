"""The rule behind each number of docs/other-libraries.md, computed again from the data.

A difference is explained where the other library's number follows from its rule and ours from ours.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import optimize, special, stats

from benchmarks.drift import buckets_of, psi_of

Z = 1.959963984540054
Floats = NDArray[np.float64]


class Check(NamedTuple):
    """Numbers that a library gave, by what they are of, and those that its rule gives."""

    library: str
    number: str
    rule: str
    given: dict[Any, float]
    again: dict[Any, float]
    tolerance: float = 1e-6

    @property
    def gap(self) -> float:
        """The greatest relative difference of the two."""
        assert self.given.keys() == self.again.keys()
        return max(
            abs(self.given[key] - self.again[key]) / max(abs(self.again[key]), 1e-300)
            for key in self.given
        )


def checks(sets: dict[str, Any], found: dict[str, Any]) -> list[Check]:
    """Return all of them; `found` has the results by library."""
    ours = found["Headrace"]
    return [*_numbers(sets, ours, found), *_categories(sets, ours, found), *_others(sets, found)]


def _numbers(sets: Any, ours: Any, found: Any) -> list[Check]:
    reference, current = (pd.DataFrame(sets["numbers"][side]) for side in ("reference", "current"))
    pairs = {
        str(name): (reference[name].to_numpy(), current[name].to_numpy()) for name in reference
    }
    rows, n = found["numbers"], len(reference)
    buckets = {str(name): buckets_of(reference[name], current[name]) for name in reference}
    return [
        Check("Headrace", "PSI", "deciles at bucket edges, frequent values apart, half a row a bin",
              _column(ours["numbers"], "psi"), psi_of(reference, current)),
        Check("Evidently", "PSI", "equal bins over both samples by Sturges' rule, or values up to "
              "20; an empty bin is 0.0001",
              _column(rows, "psi", "evidently"),
              {name: _psi(*_evidently_shares(*pair)) for name, pair in pairs.items()}),
        Check("Frouros", "PSI", "10 equal bins over both samples; an empty bin is 2.2e-308",
              _column(rows, "psi", "frouros"),
              {name: _psi(*(np.maximum(share, sys.float_info.min) for share in
                            _histograms(*pair, 10))) for name, pair in pairs.items()}),
        Check("Headrace", "KS", "D over the buckets",
              _column(ours["numbers"], "ks"),
              {name: stats.ks_2samp(*pair).statistic for name, pair in buckets.items()}),
        Check("Headrace", "KS, p-value", "Kolmogorov's limit distribution at D sqrt(nm / (n + m))",
              _column(ours["numbers"], "ks_p_value"),
              {name: special.kolmogorov(row["ks"] * np.sqrt(n / 2))
               for name, row in ours["numbers"].items()}),
        Check("Frouros, NannyML, alibi-detect", "KS", "D over the values (alibi-detect: 32 bits)",
              {f"{name} {library}": rows[name][library]["statistic"] for name in pairs
               for library in ("frouros", "nannyml", "alibi-detect")},
              {f"{name} {library}": stats.ks_2samp(*pair).statistic for name, pair in pairs.items()
               for library in ("frouros", "nannyml", "alibi-detect")}),
        Check("Evidently, Frouros", "KS, p-value", "the exact distribution of D",
              {f"{name} {library}": rows[name][library]["p_value"] for name in pairs
               for library in ("evidently", "frouros")},
              {f"{name} {library}": stats.ks_2samp(*pair, method="exact").pvalue
               for name, pair in pairs.items() for library in ("evidently", "frouros")}),
        Check("alibi-detect", "KS, p-value", "the distribution of one sample's D at "
              "nm / (n + m) rows; below 1e-38 it is 0 or imprecise in 32 bits",
              {name: rows[name]["alibi-detect"]["p_value"] for name in ("heavy", "counts")},
              {name: stats.ks_2samp(*pairs[name], method="asymp").pvalue
               for name in ("heavy", "counts")}),
        Check("Evidently", "Wasserstein, normed", "Headrace's `wasserstein_normed`, "
              "within a bucket",
              _column(rows, "default", "evidently"),
              _column(ours["numbers"], "wasserstein_normed"), 0.01),
        Check("NannyML", "KS, threshold", "mean and 3 standard deviations of the D of the "
              "reference's ten chunks",
              _column(rows, "threshold", "nannyml"),
              {name: _threshold(pair[0]) for name, pair in pairs.items()}),
    ]  # fmt: skip


def _categories(sets: Any, ours: Any, found: Any) -> list[Check]:
    rows, sides = found["categories"], sets["categories"]
    tables = {
        name: pd.crosstab(
            np.repeat([0, 1], [len(sides["reference"][name]), len(sides["current"][name])]),
            np.array([*sides["reference"][name], *sides["current"][name]]),
        ).to_numpy()
        for name in sides["reference"]
    }
    smoothed = {name: (table + 0.5) / (table + 0.5).sum(axis=1, keepdims=True)
                for name, table in tables.items()}  # fmt: skip
    return [
        Check("Headrace", "PSI", "half a row added to every category",
              _column(ours["categories"], "psi"),
              {name: _psi(*shares) for name, shares in smoothed.items()}),
        Check("Evidently", "PSI", "a category that one side lacks is 0.0001",
              _column(rows, "psi", "evidently"),
              {name: _psi(*(_filled(side / side.sum()) for side in table))
               for name, table in tables.items()}),
        Check("Headrace", "chi-square", "of the two rows, without a correction",
              _column(ours["categories"], "chi_square"),
              {name: stats.chi2_contingency(table, correction=False).statistic
               for name, table in tables.items()}),
        Check("Headrace", "chi-square, p-value", "the share of random splits of the rows "
              "with a greater one, fitted by three moments",
              {name: ours["categories"][name]["chi_square_p_value"] for name in ("two", "many")},
              {name: _split_p(tables[name]) for name in ("two", "many")}, 0.25),
        Check("Frouros, NannyML, alibi-detect", "chi-square", "of the two rows, by Yates for two "
              "categories (alibi-detect: 32 bits)",
              {f"{name} {library}": rows[name][library]["statistic"] for name in tables
               for library in ("frouros", "nannyml", "alibi-detect")},
              {f"{name} {library}": stats.chi2_contingency(table).statistic
               for name, table in tables.items()
               for library in ("frouros", "nannyml", "alibi-detect")}),
        Check("Evidently", "chi-square, p-value", "of the current rows against the reference's "
              "shares as if these were exact; 0 where a category is new",
              _column(rows, "p_value", "evidently"),
              {name: _one_sample(*table) for name, table in tables.items()}),
        Check("Evidently", "Z-test, p-value", "that of Headrace's chi-square",
              {"two": rows["two"]["evidently"]["z"]},
              {"two": ours["categories"]["two"]["chi_square_p_value"]}, 0.25),
    ]  # fmt: skip


def _others(sets: Any, found: Any) -> list[Check]:
    ours, errors = found["Headrace"], sets["errors"]
    hours = np.reshape(errors, (-1, 100)).mean(axis=1)
    return [
        Check("River", "Page-Hinkley", "each label; the sum decays by 0.9999; less its minimum",
              {"alarm": found["River"]["page_hinkley"]},
              {"alarm": _page_hinkley(errors, 50, alpha=0.9999)}),
        Check("Frouros", "Page-Hinkley", "the same sum, without taking off its minimum",
              {"alarm": found["Frouros"]["page_hinkley"]},
              {"alarm": _page_hinkley(errors, 50, alpha=0.9999, less_minimum=False)}),
        Check("River", "Page-Hinkley", "the mean of each hour of 100 labels, at 0.5; no decay",
              {"alarm": 100 * found["River"]["page_hinkley_hours"]},
              {"alarm": 100 * _page_hinkley(hours, 0.5)}),
        Check("Frouros", "ADWIN", "River's, with the last bucket of each row added up, too",
              {"alarm": found["Frouros"]["adwin_all_buckets"]},
              {"alarm": found["River"]["adwin"]}),
        *_arms(sets["arms"], ours["arms"], found["obp"]),
        *_strengths(sets["comparisons"], found["choix"]),
        Check("choix", "Bradley-Terry", "Headrace's, given half a win for either side of a pair",
              found["choix"]["ilsr_pairwise_dense, half a win each"], ours["comparisons"], 1e-5),
        Check("Headrace", "DDSketch", "ddsketch's buckets and values",
              dict(enumerate(ours["quantiles"])), dict(enumerate(found["ddsketch"]["quantiles"]))),
        *(
            Check(library, "DDSketch", rule, dict(enumerate(given)),
                  {place: _bucket_value(rank) for place, rank in enumerate(ranks)})
            for library, rule, given, ranks in [
                ("Headrace", "the first bucket with at least q n numbers up to it",
                 ours["one to ten"], (5, 10, 10)),
                ("ddsketch", "the first one with more than q (n - 1)",
                 found["ddsketch"]["one to ten"], (5, 9, 9)),
            ]
        ),
    ]  # fmt: skip


def _arms(log: Any, ours: Any, obp: Any) -> list[Check]:
    arm, reward = np.array(log["arm"]), np.array(log["reward"])
    held: dict[str, float] = {}
    delta: dict[str, float] = {}
    for name in obp:
        w = (arm == name) / np.array(log["propensity"])
        snips = (w * reward).sum() / w.sum()
        error = (w * reward).std() / w.mean() / np.sqrt(len(w))
        held |= {f"{name} low": snips - Z * error, f"{name} high": snips + Z * error}
        error = np.sqrt((w**2 * (reward - snips) ** 2).sum()) / w.sum()
        delta |= {f"{name} low": snips - Z * error, f"{name} high": snips + Z * error}
    sides = [(f"{name} {side}", name, side) for name in obp for side in ("low", "high")]
    return [
        Check("obp", "SNIPS", "Headrace's, but for weights rounded to six digits",
              _column(obp, "snips"), {name: ours[name]["snips"] for name in obp}),
        Check("obp", "SNIPS, interval", "of the mean of w r, as if the mean of w were known "
              "(bootstrap against a normal interval)",
              {key: obp[name][side] for key, name, side in sides}, held, 0.02),
        Check("Headrace", "SNIPS, interval", "of a ratio of two means, by the delta method",
              {key: ours[name][f"snips_{side}"] for key, name, side in sides}, delta),
    ]  # fmt: skip


def _strengths(pairs: Any, choix: dict[str, Any]) -> list[Check]:
    names = sorted(choix["opt_pairwise"])
    wins = np.zeros((len(names), len(names)))
    for won, lost in pairs:
        wins[names.index(won), names.index(lost)] += 1

    def loss(logs: Floats) -> float:
        odds = np.logaddexp(0, logs[None, :] - logs[:, None])
        return float((wins * odds).sum() + 1e-6 * (logs**2).sum())

    logs = optimize.minimize(loss, np.zeros(len(names)), options={"gtol": 1e-9}).x
    penalised = np.log([choix["opt_pairwise"][name] for name in names])
    fit = np.array([choix["ilsr_pairwise, alpha=0.01"][name] for name in names])
    fit *= len(names) / fit.sum()
    flows = fit[:, None] * (0.01 + wins.T / (fit[:, None] + fit[None, :]))
    return [
        Check("choix", "`opt_pairwise`", "the likeliest logs of strength, less 1e-6 of the sum of "
              "their squares: none are likeliest where a version never lost",
              dict(zip(names[1:], penalised[1:] - penalised[0], strict=True)),
              dict(zip(names[1:], logs[1:] - logs[0], strict=True)), 0.01),
        Check("choix", "`ilsr_pairwise`, alpha", "alpha added to both sides of every pair of "
              "versions, in the flows between them that are to be even",
              dict(zip(names, flows.sum(axis=0), strict=True)),
              dict(zip(names, flows.sum(axis=1), strict=True))),
    ]  # fmt: skip


def _column(rows: Any, column: str, library: str = "") -> dict[Any, float]:
    return {name: (row[library] if library else row)[column] for name, row in rows.items()}


def _psi(reference: Floats, current: Floats) -> float:
    return float(((current - reference) * np.log(current / reference)).sum())


def _filled(shares: Floats) -> Floats:
    least = shares[shares > 0].min()
    return np.where(shares == 0, least / 1e6 if least <= 0.0001 else 0.0001, shares)


def _histograms(reference: Floats, current: Floats, bins: Any) -> Sequence[Floats]:
    edges = np.histogram_bin_edges(np.concatenate([reference, current]), bins)
    return [np.histogram(side, edges)[0] / len(side) for side in (reference, current)]


def _evidently_shares(reference: Floats, current: Floats) -> Sequence[Floats]:
    if len(np.unique(reference)) > 20:
        shares = _histograms(reference, current, "sturges")
    else:
        values = np.unique(np.concatenate([reference, current]))
        shares = [(side == values[:, None]).mean(axis=1) for side in (reference, current)]
    return [_filled(share) for share in shares]


def _threshold(reference: Floats) -> float:
    distances = [
        stats.ks_2samp(reference, chunk).statistic for chunk in np.array_split(reference, 10)
    ]
    return float(np.mean(distances) + 3 * np.std(distances))


def _one_sample(reference: NDArray[np.int64], current: NDArray[np.int64]) -> float:
    expected = reference / reference.sum() * current.sum()
    with np.errstate(divide="ignore"):
        statistic = ((current - expected) ** 2 / expected).sum()
    return float(stats.chi2.sf(statistic, len(current) - 1))


def _split_p(table: NDArray[np.int64]) -> float:
    """The share of 20,000 random splits of the rows whose chi-square is as great."""
    statistic = stats.chi2_contingency(table, correction=False).statistic
    if table.shape[1] == 2:
        return float(stats.chi2.sf(statistic, 1))
    splits = np.random.default_rng(7).multivariate_hypergeometric(
        table.sum(axis=0), table[0].sum(), 20_000
    )
    share = table[0].sum() / table.sum()
    expected = table.sum(axis=0) * share
    drawn = ((splits - expected) ** 2 / expected).sum(axis=1) / (1 - share)
    return float((drawn >= statistic).mean())


def _page_hinkley(
    stream: Any, threshold: float, *, alpha: float = 1, less_minimum: bool = True
) -> int:
    """The first place at which the sum is above the threshold, from the 30th value on."""
    mean = total = lowest = 0.0
    for place, value in enumerate(stream, start=1):
        mean += (value - mean) / place
        total = alpha * total + value - mean - 0.005
        lowest = min(lowest, total)
        if total - less_minimum * lowest > threshold and place >= 30:
            return place
    return 0


def _bucket_value(number: float) -> float:
    gamma = 1.01 / 0.99
    return float(2 * gamma ** np.ceil(np.log(number) / np.log(gamma)) / (gamma + 1))
