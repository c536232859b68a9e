"""Rules of RisingWave over the tokens of a SELECT, for any SQL.

`WORDS` are the rules that need tokens alone. `PLAIN` are coarser versions of the rules of
risingwave_select.py, for SQL that sqlglot cannot parse. Functions and types are on lists, and
anything not on them is a violation. docs/engines.md says where the lists come from.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from itertools import pairwise

from sqlglot import Token, TokenType


def _names(text: str) -> set[str]:
    return set(text.split())


# Functions that return sets, and those that return JSON.
SET_RETURNING = _names(
    """
    generate_series jsonb_array_elements jsonb_array_elements_text jsonb_each jsonb_each_text
    jsonb_object_keys regexp_matches unnest
    """
)
JSONB_CALLS = _names(
    """
    jsonb_agg jsonb_build_array jsonb_build_object jsonb_extract_path jsonb_object jsonb_object_agg
    jsonb_path_query_array jsonb_set jsonb_strip_nulls to_jsonb
    """
)
# Functions that both engines have with the same meaning.
BOTH = _names(
    """
    abs acos asin atan atan2 cbrt ceil cos degrees exp floor greatest least ln log10 mod pi power
    radians round sign sin sqrt tan tanh trunc
    cast coalesce nullif version
    ascii btrim char_length chr concat concat_ws convert_from convert_to decode encode initcap left
    length lower lpad ltrim md5 octet_length overlay position regexp_count regexp_match
    regexp_replace repeat replace reverse right rpad rtrim sha256 split_part starts_with strpos
    substr substring to_char to_hex translate trim upper
    date_part date_trunc extract make_date make_timestamp make_timestamptz to_date to_timestamp
    array_append array_cat array_length array_position array_prepend array_remove array_replace
    array_to_string cardinality string_to_array
    jsonb_array_length jsonb_extract_path_text jsonb_typeof
    array_agg avg bit_and bit_or bool_and bool_or count grouping max min mode percentile_cont
    percentile_disc stddev_pop stddev_samp string_agg sum var_pop var_samp
    dense_rank first_value lag last_value lead rank row_number
    """
)
# Functions that only RisingWave has, for macros that are written for it.
ITS_OWN = _names(
    """
    approx_count_distinct approx_percentile array_distinct array_max array_min array_sort array_sum
    array_transform hop tumble
    """
)
FUNCTIONS = BOTH | ITS_OWN | SET_RETURNING | JSONB_CALLS
# Common functions that RisingWave lacks or computes differently, and what to write instead.
INSTEAD = {
    "corr": "sums of products",
    "date_bin": "the macro pane_start",
    "erf": "an approximation by exp",
    "jsonb_path_exists": "->, ->> and jsonb_typeof",
    "jsonb_path_query": "->, ->> and jsonb_typeof",
    "ntile": "row_number over count",
    "num_nonnulls": "sums of case",
    "regr_slope": "sums of products",
    "stddev": "stddev_samp",
    "variance": "var_samp",
    "width_bucket": "floor, or a join with edges by a key",
}
# A parenthesis after these words is not a call.
SYNTAX = _names(
    """
    all and any array as between by case cube distinct else except exists filter from group having
    ilike in intersect is join like limit not offset on or over rollup select sets some then union
    using values when where with
    """
)
# Words that RisingWave does not have, or not in a view.
ABSENT = {
    "lateral": "lateral: join by a key, or call the function in the select list",
    "on conflict": "on conflict: a table with a primary key deduplicates",
    "create or replace": "create or replace: drop and create",
    "temp": "temporary tables",
    "temporary": "temporary tables",
    "recursive": "recursive queries",
    "as materialized": "as materialized: the macro as_materialized",
    "not materialized": "not materialized: the macro as_inlined",
    "except all": "except all",
    "intersect all": "intersect all",
    "tablesample": "tablesample",
    "for update": "for update",
}
WALL_CLOCK = _names(
    """
    clock_timestamp current_date current_time current_timestamp localtime localtimestamp now
    proctime statement_timestamp timeofday transaction_timestamp
    """
)
TYPES = _names(
    """
    bigint boolean bytea date decimal double integer int interval jsonb numeric real smallint text
    time timestamp timestamptz varchar
    """
) | {"double precision"}
# Texts that it reads as intervals.
INTERVAL = re.compile(
    r"(?=.*\d) *([+-]?\d+ *(y|years?|yrs?|months?|mons?|d|days?|h|hours?|hrs?|m|minutes?|mins?"
    r"|s|seconds?|secs?)( +|(?=[+-])|$))*([+-]?\d+:[0-5]\d(:[0-5]\d(\.\d{1,6})?)?)?",
    re.IGNORECASE,
)
# Columns of the events that hold JSON; models keep their names.
JSONB = {
    "features", "feature_ages", "input", "output", "probabilities", "metadata", "metrics",
}  # fmt: skip


def functions(tokens: list[Token]) -> list[str]:
    """Every function that is called is on the list of those that RisingWave has."""
    found = []
    for token, following in pairwise(tokens):
        name = _text(token)
        is_call = following.token_type == TokenType.L_PAREN and re.fullmatch(r"[a-z_]\w*", name)
        if is_call and _is_word(token) and name not in FUNCTIONS | SYNTAX | WALL_CLOCK:
            advice = f"write {INSTEAD[name]}" if name in INSTEAD else "is it in RisingWave?"
            found.append(f"{name}(): {advice}")
    return found


def absent(tokens: list[Token]) -> list[str]:
    """No words that RisingWave lacks."""
    text = f" {' '.join(words(tokens))} "
    return [message for phrase, message in ABSENT.items() if f" {phrase} " in text]


def wall_clock(tokens: list[Token]) -> list[str]:
    """Views depend on the events alone: windows end at `model_clock`, never at the wall clock."""
    return [f"{word}: write event_clock" for word in words(tokens) if word in WALL_CLOCK]


def types(tokens: list[Token]) -> list[str]:
    """Casts go to types of both engines (a length or precision is a call to `functions`)."""
    return [
        f"::{_text(following)}"
        for token, following in pairwise(tokens)
        if token.token_type == TokenType.DCOLON and _text(following) not in TYPES
    ]


def intervals(tokens: list[Token]) -> list[str]:
    """An interval has whole numbers of its units, and a time of day for less than a day."""
    return [
        f"'{token.text}': write it as '1 day 00:00:00.5'"
        for token in _interval_texts(tokens)
        if not INTERVAL.fullmatch(token.text)
    ]


def _interval_texts(tokens: list[Token]) -> Iterator[Token]:
    for place, token in enumerate(tokens):
        if token.token_type == TokenType.STRING:
            before, after = tokens[max(place - 1, 0)], tokens[place + 1 : place + 3]
            cast = [each.text.lower() for each in after] == ["::", "interval"]
            if cast or before.token_type == TokenType.INTERVAL:
                yield token


def numbers(tokens: list[Token]) -> list[str]:
    """A number that does not fit into 28 digits is refused."""
    return [
        f"{token.text}: write '{token.text}'::double precision"
        for token in tokens
        if token.token_type == TokenType.NUMBER
        and (value := Decimal(token.text))
        and not (value.adjusted() < 28 and -int(value.normalize().as_tuple().exponent) <= 28)
    ]


def endless(tokens: list[Token]) -> list[str]:
    """Times and numbers are finite. An infinite interval of a user is sent, and refused there."""
    return [
        f"'{token.text}': there is none"
        for token, _, kind in zip(tokens, tokens[1:], tokens[2:], strict=False)
        if token.token_type == TokenType.STRING
        and re.fullmatch(r"\s*[+-]?inf(inity)?\s*", token.text, re.IGNORECASE)
        and _text(kind) != "interval"
    ]


def limits(tokens: list[Token]) -> list[str]:
    """LIMIT and OFFSET take a literal number: no parameter, text or expression."""
    return [
        f"{_text(token)} {following.text}: write a number"
        for token, following in pairwise(tokens)
        if _text(token) in ("limit", "offset")
        and _is_word(token)
        and following.token_type != TokenType.NUMBER
    ]


def arrays(tokens: list[Token]) -> list[str]:
    """No array as a text but the empty one: RisingWave parses it differently."""
    return [
        f"'{token.text}' as an array: write array[...]"
        for token, cast, _, bracket in zip(tokens, tokens[1:], tokens[2:], tokens[3:], strict=False)
        if token.token_type == TokenType.STRING
        and token.text != "{}"
        and cast.token_type == TokenType.DCOLON
        and bracket.text == "["
    ]


def _text(token: Token) -> str:
    return token.text.lower()


def _is_word(token: Token) -> bool:
    return token.token_type not in (TokenType.STRING, TokenType.IDENTIFIER, TokenType.NUMBER)


def words(tokens: list[Token]) -> list[str]:
    """All but strings and quoted names, in lower case."""
    return [word for token in tokens if _is_word(token) for word in _text(token).split()]


def plain_joins(tokens: list[Token]) -> list[str]:
    """As `joins`: after JOIN comes a.b = c.d or USING, after FROM no comma."""
    found = []
    for place, token in enumerate(tokens):
        words = _span(tokens, place + 1)
        text = " ".join(words)
        if token.token_type == TokenType.JOIN:
            keys = re.findall(r"(\w+) \. \w+ = (\w+) \. \w+", text)
            if _text(tokens[place - 1]) in ("cross", "natural"):
                found.append(f"{_text(tokens[place - 1])} join: {text}")
            elif "using" not in words and not any(left != right for left, right in keys):
                found.append(f"no column = column: {text}")
        elif token.token_type == TokenType.FROM and "," in words:
            found.append(f"comma join: {text}")
    return found


def plain_subqueries(tokens: list[Token]) -> list[str]:
    """As `subqueries`, and stricter: no EXISTS; a SELECT in parentheses follows FROM, AS, IN …"""
    before = {"from", "join", "as", "in", "(", "union", "all", "except", "intersect"}
    return [
        f"subquery after {_text(first)}"
        for first, second, third in zip(tokens, tokens[1:], tokens[2:], strict=False)
        if (second.text, _text(third)) == ("(", "select") and _text(first) not in before
    ]


def plain_windows(tokens: list[Token]) -> list[str]:
    """As `windows`: what is OVER, or named by WINDOW … AS, has PARTITION BY and a frame."""
    found = []
    for place, token in enumerate(tokens):
        texts = [_text(t) for t in tokens[place : place + 4]]
        starts = [texts[:2] == ["over", "("], texts[:1] + texts[2:] == ["window", "as", "("]]
        if any(starts):
            opened = place + (2 if starts[0] else 4)
            words = _span(tokens, opened, ends=())
            called = _called_before(tokens, place)
            if "partition by" not in words:
                found.append(f"no partition by: {' '.join(words)}")
            if not {"rows", "range", "session"} & set(words) and called not in RANKING:
                found.append(f"no frame: {called} over {' '.join(words)}")
            if called == "filter" and token.token_type == TokenType.OVER:
                found.append("filter on a window")
    return found


def plain_jsonb_keys(tokens: list[Token]) -> list[str]:
    """As `jsonb_keys`, by name: a JSON column is read by ->> where it is a key."""
    found = []
    for place, token in enumerate(tokens):
        if _text(token) in ("group by", "partition by", "distinct"):
            words = [*_span(tokens, place + 1, ends=(*ENDS, "rows", "range", "from")), ""]
            for word, following in pairwise(words):
                if word in JSONB and following not in ("->>", "."):
                    found.append(f"{_text(token)}: {word}")
    return found


def plain_ordering(tokens: list[Token]) -> list[str]:
    """As `ordering`, of the whole statement: an ORDER BY has a LIMIT or serves a DISTINCT ON."""
    words = _span(tokens, 0, ends=())
    sorts, limited = "order by" in words, "limit" in words or "on" in words[1:3]
    return ["order by without limit"] if sorts and not limited else []


def plain_division(tokens: list[Token]) -> list[str]:
    """As `division`: after / and % comes a number or nullif."""
    found = []
    for place, token in enumerate(tokens):
        if token.text in ("/", "%"):
            rest = [t for t in tokens[place + 1 : place + 4] if t.text != "("]
            is_number = rest[0].token_type == TokenType.NUMBER and float(rest[0].text) != 0
            if not is_number and _text(rest[0]) != "nullif":
                found.append(f"by what may be zero: {rest[0].text}")
    return found


RANKING = {"row_number", "rank", "dense_rank", "lag", "lead"}
ENDS = (
    *("join", "cross", "full", "inner", "left", "natural", "right", "union", "except", "intersect"),
    *("where", "group by", "having", "window", "order by", "limit", "emit"),
)


def _span(tokens: list[Token], start: int, ends: tuple[str, ...] = ENDS) -> list[str]:
    """The words of one clause: up to the next one, or to the parenthesis that closes it."""
    depth, words = 0, []
    for token in tokens[start:]:
        text = _text(token)
        depth += (text == "(") - (text == ")")
        if depth < 0 or (depth == 0 and text in ends):
            break
        if depth == 0:
            words.append(text)
    return words


def _called_before(tokens: list[Token], place: int) -> str:
    """The function whose arguments close right before a place."""
    depth = 0
    for back in range(place - 1, 0, -1):
        depth += (tokens[back].text == ")") - (tokens[back].text == "(")
        if depth == 0:
            return _text(tokens[back - 1])
    return ""


WORDS: dict[str, Callable[[list[Token]], list[str]]] = {
    "functions": functions,
    "absent": absent,
    "wall clock": wall_clock,
    "types": types,
    "intervals": intervals,
    "numbers": numbers,
}
PLAIN: dict[str, Callable[[list[Token]], list[str]]] = {
    "joins": plain_joins,
    "subqueries": plain_subqueries,
    "windows": plain_windows,
    "jsonb keys": plain_jsonb_keys,
    "ordering": plain_ordering,
    "division": plain_division,
}
