"""The tables of docs/other-libraries.md."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from benchmarks.other_libraries.rules import Check
from benchmarks.report import table

TESTING = ("Evidently", "NannyML", "Frouros", "alibi-detect")


def tables(found: dict[str, Any], explained: Iterable[Check]) -> dict[str, str]:
    """Return them by the name of their place in the page."""
    ours, rows = found["Headrace"], found["numbers"] | found["categories"]

    def alarms(own: str, name: str) -> list[str]:
        places = [ours["page_hinkley"].get(own), found["River"][name], found["Frouros"][name]]
        return [f"{place:,}" if place else "none" for place in places]

    drift = ours["numbers"] | ours["categories"]
    of = {name: row | {"Headrace": drift[name]} for name, row in rows.items()}
    return {
        "psi": table(
            ["", "Headrace", "less chance (`psi_excess`)", "bins", "Evidently", "Frouros"],
            [
                [
                    f"`{name}`", show(drift[name]["psi"]), show(drift[name]["psi_excess"]),
                    drift[name]["bins"], show(row["evidently"]["psi"]),
                    show(row["frouros"].get("psi")),
                ]
                for name, row in rows.items()
            ],
        ),
        "ks": table(
            ["D; p", "Headrace", *TESTING],
            [
                [f"`{name}`", pair(drift[name]["ks"], drift[name]["ks_p_value"]),
                 *(tested(of[name][library.lower()]) for library in TESTING)]
                for name in found["numbers"]
            ],
        ),
        "chi_square": table(
            ["chi-square; p", "Headrace", *TESTING],
            [
                [f"`{name}`", pair(drift[name]["chi_square"], drift[name]["chi_square_p_value"]),
                 *(tested(of[name][library.lower()]) for library in TESTING)]
                for name in found["categories"]
            ],
        ),
        "verdicts": words(
            ["", "Headrace", "Evidently", "NannyML", "alibi-detect"],
            [
                [f"`{name}`", drift[name]["status"], default(row["evidently"]),
                 f"{row['nannyml']['alerts']} of {row['nannyml']['chunks']} chunks alert",
                 "drift" if row["alibi-detect"]["is_drift"] else "no drift"]
                for name, row in rows.items()
            ],
        ),
        "alarms": table(
            ["alarm after label", "Headrace", "River", "Frouros"],
            [
                ["Page-Hinkley, the error rises", *alarms("rise", "page_hinkley")],
                ["Page-Hinkley, it falls", *alarms("fall", "page_hinkley_fall")],
                ["ADWIN, it rises", "", *alarms("", "adwin")[1:]],
                ["ADWIN, it falls", "", *alarms("", "adwin_fall")[1:]],
            ],
        ),
        "arms": table(
            ["always", "Headrace", "95 %", "obp", "95 %"],
            [
                [f"`{arm}`", show(ours["arms"][arm]["snips"]),
                 f"{ours['arms'][arm]['snips_low']:.3f} to {ours['arms'][arm]['snips_high']:.3f}",
                 show(row["snips"]), f"{row['low']:.3f} to {row['high']:.3f}"]
                for arm, row in found["obp"].items()
            ],
        ),
        "strengths": table(
            ["times the strength of `v1`", "`v2`", "`v3`", "`v4`"],
            [
                [name if name == "Headrace" else f"choix, `{name}`", *relative(fit)]
                for name, fit in [("Headrace", ours["comparisons"]), *found["choix"].items()]
            ],
        ),
        "quantiles": table(
            ["", "p50", "p95", "p99"],
            [
                [f"{numbers}, {name}", *map(show, result[key])]
                for numbers, key in (("`heavy`", "quantiles"), ("1 to 10", "one to ten"))
                for name, result in (("Headrace", ours), ("ddsketch", found["ddsketch"]))
            ],
        ),
        "rules": words(
            ["library", "number", "follows from", "greatest difference"],
            [
                [each.library, each.number, each.rule, f"{each.gap:.0e}" if each.gap else "0"]
                for each in explained
            ],
        ),
    }  # fmt: skip


def words(head: list[str], rows: list[list[str]]) -> str:
    return table(head, rows).replace("---:", "---")


def show(number: float | None) -> str:
    """Four digits; the least ones as a power of ten."""
    if number is None:
        return ""
    if number == 0 or number >= 1e-4:
        return f"{number:,.4g}" if number < 1_000 else f"{number:,.0f}"
    return f"{number:.1e}"


def pair(statistic: float | None, p_value: float | None) -> str:
    return "; ".join(show(each) for each in (statistic, p_value) if each is not None)


def tested(row: dict[str, Any]) -> str:
    shown = pair(row.get("statistic"), row.get("p_value"))
    return shown if "z" not in row else f"{shown} (Z-test {show(row['z'])})"


def default(row: dict[str, Any]) -> str:
    verdict = "drift" if row["default"] >= row["threshold"] else "no drift"
    return f"{verdict}: {row['method']} {show(row['default'])}"


def relative(fit: dict[str, float] | str) -> list[str]:
    if isinstance(fit, str):
        return [fit, "", ""]
    first, *others = fit.values()
    return [show(each / first) for each in others]
