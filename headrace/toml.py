"""Tables of ``headrace.toml``: read, and refused in words where a key or a value is not allowed."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec

from headrace.errors import SettingError

# What msgspec calls a type, and what people do.
WORDS = {
    " | null": "", "int": "a whole number", "float": "a number", "str": "a text",
    "array": "a list", "object": "a table", "bool": "true or false",
}  # fmt: skip
TABLES = ("models", "alerts")


def read_table(path: Path, table: str) -> dict[str, Any]:
    """Return one of TABLES of the file; {} where there is no file.

    Raises:
        SettingError: the file cannot be read, holds something else, or `table` holds no tables.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingError(f"{path.name} cannot be read: {error}") from None
    known(path.name, document, TABLES)
    found = document.get(table, {})
    if not isinstance(found, dict):
        raise SettingError(f"{path.name}: {table}: must be tables [{table}.NAME], got {found!r}")
    return found


def known(where: str, given: object, keys: Iterable[str]) -> None:
    """Refuse keys that are none of `keys`.

    Raises:
        SettingError: names the key and the nearest one.
    """
    if not isinstance(given, Mapping):
        return
    allowed = list(keys)
    for key in given:
        if key not in allowed:
            near = get_close_matches(str(key), allowed, n=1, cutoff=0.0)
            meant = f"did you mean {near[0]!r}? " if near else ""
            raise SettingError(f"{where}: {key!r} is no key; {meant}there are {', '.join(allowed)}")


def converted(given: object, kind: type[Any], where: str) -> Any:
    """Return `given` as `kind`.

    Raises:
        SettingError: names the key, what is allowed and what came.
    """
    try:
        return msgspec.convert(given, kind)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$")
        keys = [key for key in path.strip("`").split(".") if key]
        came = given
        for key in keys:
            came = came.get(key.partition("[")[0]) if isinstance(came, Mapping) else came
        choices = _choices(kind, keys)
        expected = message.removeprefix("Expected ").partition(", got")[0].replace("`", "")
        for name, words in WORDS.items():
            expected = expected.replace(name, words)
        allowed = f"one of {', '.join(choices)}" if choices else expected
        raise SettingError(f"{'.'.join([where, *keys])}: must be {allowed}, got {came!r}") from None


def _choices(kind: Any, keys: Sequence[str]) -> list[str]:
    """Return the texts that are allowed at a key; none where it is no choice."""
    for key in keys:
        kind = get_type_hints(kind).get(key) if isinstance(kind, type) else None
    literals = [one for one in (kind, *get_args(kind)) if get_origin(one) is Literal]
    return [str(choice) for one in literals for choice in get_args(one)]
