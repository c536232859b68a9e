"""Rules of RisingWave on the statements of sql/risingwave, checked over their text.

A rule takes a `Statement` and returns readable violations. The SELECT of a view or a sink is looked
at by the rules of risingwave.py and risingwave_words.py. docs/engines.md says where they come from.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tests.support.risingwave_select import Model, raw_violations, read
from tests.support.risingwave_words import TYPES

HEAD = re.compile(
    r"create (schema|source|table|view|materialized view|sink|subscription)"
    r"( if not exists)? ([\w.]+)\s*"
)
GRANT = re.compile(
    r"grant (usage on schema|select on all (materialized )?views in schema) \w+ to headrace_reader"
)
# Functions of RisingWave that only these statements call.
MORE = {
    "convert_from", "jsonb_path_exists", "jsonb_path_query_array", "jsonb_path_query_first",
    "proctime", "now",
}  # fmt: skip
COLUMN_TYPES = (TYPES - {"text"}) | {"varchar[]"}
INCLUDED = {"partition", "offset", "timestamp", "key", "header"}
INSTEAD_OF = {
    "not null": "a null would fail the message: refuse it in the contract",
    "references": "there are no foreign keys",
    "check (": "there are no checks",
    "unique": "a primary key is all there is",
    "generated always": "write `name type as (…)`",
    "comment on": "it takes tables for what they are not: write a comment into the file",
    "cascade": "it is refused where allow_drop_cascade is off",
}


@dataclass(frozen=True)
class Statement:
    """One statement; `tables` has the columns of the tables that were made before it."""

    text: str
    tables: Mapping[str, list[str]] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        head = HEAD.match(self.text)
        return head[1] if head else ""

    @property
    def name(self) -> str:
        head = HEAD.match(self.text)
        return head[3] if head else ""

    @property
    def select(self) -> str:
        """The query of a view or a sink, empty where there is none."""
        if self.kind not in ("view", "materialized view", "sink"):
            return ""
        _, _, query = self.text.partition(" as\n")
        return re.split(r"\nwith \(\s*(?:type|connector)", query)[0]

    @property
    def columns(self) -> list[tuple[str, str]]:
        """Name and definition of each column of a table or a source; the key has an empty name."""
        if self.kind not in ("table", "source"):
            return []
        found = []
        for part in _parts(self.text[HEAD.match(self.text).end() :]):  # type: ignore[union-attr]
            name, _, definition = part.partition(" ")
            found.append(("", part) if name == "primary" else (name, definition.strip()))
        return found


def column_names(statement: Statement) -> list[str]:
    return [name for name, _ in statement.columns if name]


def _parts(text: str) -> list[str]:
    """The contents of the first parentheses of a text, split at commas."""
    depth, parts, quoted = 0, [""], False
    for char in text:
        quoted ^= char == "'"
        if not quoted:
            depth += (char == "(") - (char == ")")
        if depth == 0:
            break
        if (char, depth, quoted) == (",", 1, False):
            parts.append("")
        elif not (char == "(" and depth == 1 and parts == [""]):
            parts[-1] += char
    return [" ".join(part.split()) for part in parts]


# --- rules -------------------------------------------------------------------------------------


def repeatable(statement: Statement) -> list[str]:
    """A second run changes nothing: statements create with IF NOT EXISTS, or grant."""
    head = HEAD.match(statement.text)
    if statement.text == "set sink_decouple = false" or GRANT.fullmatch(statement.text):
        return []
    if head is None:
        return [f"not known: {statement.text.splitlines()[0]}"]
    return [] if head[2] else [f"if not exists: {statement.name}"]


def words(statement: Statement) -> list[str]:
    """No words that RisingWave lacks or reads differently."""
    text = " ".join(re.sub(r"'[^']*'", "''", statement.text).lower().split())
    return [
        f"{phrase}: {why}"
        for phrase, why in INSTEAD_OF.items()
        if re.search(rf"(?<!is )\b{re.escape(phrase)}", text)
    ]


def types(statement: Statement) -> list[str]:
    """Columns have types of RisingWave under its own names, without lengths."""
    return [
        f"{name}: {definition}"
        for name, definition in statement.columns
        if name and not _type(definition)
    ]


def _type(definition: str) -> str:
    for kind in sorted(COLUMN_TYPES, key=len, reverse=True):
        if re.match(rf"{re.escape(kind)}(?= |$)", definition):
            return kind
    return ""


def keys(statement: Statement) -> list[str]:
    """A table has a primary key; an append-only one leaves the first row of a key as it is."""
    if statement.kind != "table":
        return []
    found = []
    if "primary key" not in statement.text:
        found.append("no primary key")
    _, _, after = statement.text.rpartition(")")
    if after.strip() not in ("", "append only on conflict do nothing"):
        found.append(f"after the columns: {after.strip()}")
    for name, definition in statement.columns:
        if "default" in definition and not definition.endswith("default now()"):
            found.append(f"default of {name}: {definition}")
        if name and "primary key" in definition and "jsonb" in definition:
            found.append(f"a key of JSON: {name}")
    return found


def sources(statement: Statement) -> list[str]:
    """A source of bytes has one column, and others that are computed from it directly."""
    if statement.kind != "source":
        return []
    found = []
    computed = {name for name, definition in statement.columns if re.search(r"\bas\b", definition)}
    given = [name for name, _ in statement.columns if name not in computed]
    if "encode bytes" in statement.text and (
        len(given) != 1 or dict(statement.columns)[given[0]] != "bytea"
    ):
        found.append(f"bytes are one column of bytea: {', '.join(given)}")
    for name, definition in statement.columns:
        said = set(re.findall(r"\w+", re.sub(r"'[^']*'", "", definition)))
        if name in computed and said & computed:
            found.append(f"{name} is computed from {', '.join(sorted(said & computed))}")
    included = re.findall(r"^include (\w+)( as \w+)?$", statement.text, flags=re.MULTILINE)
    found += [f"include {what}" for what, named in included if what not in INCLUDED or not named]
    if "'earliest'" not in statement.text:
        found.append("scan.startup.mode: what was sent before is not read")
    return found


def sinks(statement: Statement) -> list[str]:
    """A sink into a table names its columns and is append-only; one to a topic names its source."""
    if statement.kind != "sink":
        return []
    into = re.search(r"\binto ([\w.]+)\s*(\([^)]*\))?", statement.text)
    if into is None:
        forced = "force_append_only = 'true'" in statement.text
        upsert = "format upsert" in statement.text and "primary_key" in statement.text
        return [] if forced or upsert else ["changes of a view: force_append_only, or upsert"]
    found = []
    names = re.findall(r"\w+", into[2] or "")
    tree = read(statement.name, statement.select).tree
    selected = [column.alias_or_name for column in tree.selects] if tree is not None else []
    if names != selected:
        found.append(f"columns {names} are given {selected}")
    if set(statement.tables.get(into[1], [])) != set(names):
        found.append(f"{into[1]} has {statement.tables.get(into[1])}")
    if "type = 'append-only'" not in statement.text or "format " in statement.text:
        found.append("with (type = 'append-only'), and no format")
    return found


def subscriptions(statement: Statement) -> list[str]:
    """A subscription is in the schema of its source and has a retention."""
    if statement.kind != "subscription":
        return []
    follows = re.search(r"\bfrom (\w+)\.\w+", statement.text)
    found = []
    if follows is None or follows[1] != statement.name.split(".")[0]:
        found.append("not in the schema of what it follows")
    if not re.search(r"with \(retention = '[^']+'\)", statement.text):
        found.append("no retention")
    return found


def patterns(statement: Statement) -> list[str]:
    """Regular expressions have no look-around or back-references; JSON paths are strict."""
    found = []
    for text in re.findall(r"'((?:[^']|'')*)'", statement.text):
        if re.search(r"\(\?(=|!|<)|\\[1-9]", text):
            found.append(f"looks around or back: {text}")
        if re.match(r"(strict |lax )?\$[.*\[]", text):
            if not text.startswith("strict "):
                found.append(f"not strict: {text}")
            if re.search(r"[<>=] *-?[0-9.]+e[0-9]|[0-9]{16}", text):
                found.append(f"a great number, of which it takes 64 bits: {text}")
            if ".**" in text:
                found.append(f"does not go into arrays: {text}")
    return found


def queries(statement: Statement) -> list[str]:
    """The SELECT keeps the rules of models, but for the functions of `MORE`."""
    if not statement.select:
        return []
    model: Model = read(statement.name, statement.select)
    if model.tree is None:
        return ["parsing: sqlglot cannot"]
    return [
        text
        for text in raw_violations(model)
        if not any(text.startswith(f"functions: {name}()") for name in MORE - {"proctime", "now"})
    ]


RULES: dict[str, Callable[[Statement], list[str]]] = {
    "repeatable": repeatable,
    "words": words,
    "types": types,
    "keys": keys,
    "sources": sources,
    "sinks": sinks,
    "subscriptions": subscriptions,
    "patterns": patterns,
    "queries": queries,
}


def violations(statement: Statement) -> list[str]:
    """Return what RisingWave would refuse in a statement, as "rule: what"."""
    return [f"{name}: {text}" for name, rule in RULES.items() for text in rule(statement)]
