"""The findings of the doctor that are not ok."""

from __future__ import annotations

from collections.abc import Iterable

from headrace.operate.doctor.findings import Finding


def problems(findings: Iterable[Finding]) -> list[tuple[str, str]]:
    """Return (check, says) of the findings that are not ok; each of them has a remedy."""
    wrong = [found for found in findings if found.level != "ok"]
    assert all(found.do for found in wrong)
    return [(found.check, found.says) for found in wrong]
