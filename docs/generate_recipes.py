"""Write the tables of docs/recipes.md from the settings of the recipes and their docstrings.

Run ``python docs/generate_recipes.py`` after changing a setting or a recipe; a test fails while the
page is stale. The text around the tables is written by hand.
"""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path
from typing import Any

import msgspec.inspect

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from headrace.declared import Declared, Gate, Online  # noqa: E402
from headrace.trainer.recipes import find, names  # noqa: E402

PAGE = ROOT / "docs" / "recipes.md"
BOUNDS = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}


def render(page: str) -> str:
    """Return the page with what is between its markers generated anew."""
    tables = {
        "keys": table(Declared, "key"),
        "gate": table(Gate, "key"),
        "online": table(Online, "key"),
        "recipes": "\n\n".join(section(name) for name in names()),
    }

    def made(match: re.Match[str]) -> str:
        return f"<!-- {match[1]} -->\n\n{tables[match[1]]}\n\n<!-- /{match[1]} -->"

    return re.sub(r"<!-- (\w+) -->.*?<!-- /\1 -->", made, page, flags=re.DOTALL)


def section(name: str) -> str:
    """What a recipe is for and its settings."""
    recipe = find(name)
    needs = ", ".join(f"`{package}`" for package in recipe.NEEDS)
    lines = [
        f"### {name}",
        "",
        " ".join((inspect.getdoc(recipe) or "").replace("``", "`").split()),
        "",
        f"For {', '.join(recipe.TASKS)}." + (f" Needs {needs}." if needs else ""),
    ]
    return "\n".join([*lines, "", table(recipe.Config, "setting")])


def table(settings: type[Any], what: str) -> str:
    """A row for each field: what it may be, its default and its meaning."""
    said = meanings(settings)
    lines = [f"| {what} | is | default | meaning |", "|---|---|---|---|"]
    for field in msgspec.inspect.type_info(settings).fields:  # type: ignore[attr-defined]
        if field.encode_name not in said:
            raise SystemExit(f"{settings.__module__}: no word about {field.encode_name}")
        default = "none, must be given" if field.required else _default(field.default)
        cells = (f"`{field.encode_name}`", _kind(field.type), default, said[field.encode_name])
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def meanings(settings: type[Any]) -> dict[str, str]:
    """The attributes that a docstring describes, several names on a line included."""
    _, _, text = (inspect.getdoc(settings) or "").partition("Attributes:\n")
    found: dict[str, str] = {}
    for entry in re.split(r"\n(?=    \S)", text.rstrip()):
        named, _, said = entry.strip().partition(": ")
        found |= dict.fromkeys(re.split(r",\s*", named), " ".join(said.split()))
    return found


def _default(value: Any) -> str:
    if value in (None, "", msgspec.NODEFAULT) or isinstance(value, msgspec.Struct):
        return ""
    return f"`{value}`"


def _kind(kind: Any) -> str:
    """What a value may be, in the words of TOML."""
    match kind:
        case msgspec.inspect.UnionType(types=types):
            said = [_kind(one) for one in types if not isinstance(one, msgspec.inspect.NoneType)]
            return " or ".join(said)
        case msgspec.inspect.LiteralType(values=values):
            return ", ".join(f"`{value}`" for value in values)
        case msgspec.inspect.IntType() | msgspec.inspect.FloatType():
            word = "whole number" if isinstance(kind, msgspec.inspect.IntType) else "number"
            limits = {sign: getattr(kind, name) for name, sign in BOUNDS.items()}
            bounds = [f"{sign} {value}" for sign, value in limits.items() if value is not None]
            return " ".join([word, ", ".join(bounds)]).strip()
        case msgspec.inspect.BoolType():
            return "true or false"
        case msgspec.inspect.StrType():
            return "text"
        case msgspec.inspect.DictType() | msgspec.inspect.StructType():
            return "table"
        case _:
            return "list"


if __name__ == "__main__":
    PAGE.write_text(render(PAGE.read_text()))
