"""The text of a label or a prediction, and the class that it names.

An event keeps what was said, as one text for one thing: `label_text`. Classes are compared without
upper and lower case: `class_of`. Both engines have the same rules: sql/risingwave and the macro
`class_of` of dbt_project/macros/pane/classes.sql.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from decimal import Decimal

# What is taken off both ends of a text: ASCII's white space, and two spaces of other scripts.
BLANK = " \t\n\v\f\r\u00a0\u3000"
# Significant digits that every double keeps.
MAX_DIGITS = 15
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(?:\.([0-9]+))?(?:[eE][-+]?[0-9]{1,2})?")
_BOOLEANS = {"true": "1", "false": "0"}
# The letters whose case counts for nothing; both engines fold exactly these.
UPPER = (
    "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    "ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÐÑÒÓÔÕÖØÙÚÛÜÝÞ"
    "ĀĂĄĆĈĊČĎĐĒĔĖĘĚĜĞĠĢĤĦĨĪĬĮĲĴĶĹĻĽĿŁŃŅŇŊŌŎŐŒŔŖŘŚŜŞŠŢŤŦŨŪŬŮŰŲŴŶŸŹŻŽȘȚ"
    "ΆΈΉΊΌΎΏΑΒΓΔΕΖΗΘΙΚΛΜΝΞΟΠΡΣΤΥΦΧΨΩΪΫ"
    "ЀЁЂЃЄЅІЇЈЉЊЋЌЍЎЏАБВГДЕЖЗИЙКЛМНОПРСТУФХЦЧШЩЪЫЬЭЮЯҐ"
)
_FOLDED = str.maketrans({letter: letter.lower() for letter in UPPER})


def label_text(value: str | int | float | bool) -> str:
    """Return the text of a label: ``3`` for 3, 3.0 and "3.0", ``1`` for True and "true", or itself.

    A text loses what is blank at its ends. One that is a number becomes the text of that number,
    unless it has leading zeros or more digits than a double keeps: an id stays as it is.

    Numbers have the same text on both engines: 64-bit integers their digits, others those of the
    nearest double, with an exponent from 1e16 up and below 0.00001 (``1e+19``, ``1e-06``).
    """
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, str):
        text = value.strip(BLANK)
        return _number_text(float(text)) if _is_number(text) else _boolean(text)
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return str(value)
    return _number_text(float(value))


def class_of(text: str) -> str:
    """Return the class that a label's text names: in lower case, ``1`` for ``true``."""
    return label_text(text).translate(_FOLDED)


def spellings(labels: Iterable[str]) -> dict[str, str]:
    """Return by class how it is written most often; `fraud` rather than `Fraud` in a tie."""
    counts = Counter(map(label_text, labels))
    commonest_last = sorted(counts, key=lambda text: (counts[text], text))
    return {class_of(text): text for text in commonest_last}


def _is_number(text: str) -> bool:
    found = _NUMBER.fullmatch(text)
    if found is None:
        return False
    return len(found[1]) + len((found[2] or "").rstrip("0")) <= MAX_DIGITS


def _boolean(text: str) -> str:
    return _BOOLEANS.get(text.lower(), text) if len(text) in (4, 5) else text


def _number_text(number: float) -> str:
    if number.is_integer() and abs(number) < 2**63:
        return str(int(number))
    text = repr(number)
    return f"{Decimal(text):f}" if 0.00001 <= abs(number) < 0.0001 else text
