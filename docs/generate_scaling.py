"""Write the tables of docs/scaling.md from benchmark results, loads and assumed prices.

Run ``python docs/generate_scaling.py`` after changing a benchmark result or an assumption; a test
fails while the page is stale. The text around the tables is written by hand.
"""

from __future__ import annotations

import math
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.stream import LABELED, SHARES  # noqa: E402

PAGE = ROOT / "docs" / "scaling.md"
RESULTS = ROOT / "benchmarks" / "results"
MODELS = ROOT / "dbt_project" / "models"

DAY = 86_400
SECONDS = {"10 seconds": 10, "1 minute": 60, "1 hour": 3_600, "1 day": DAY}
# Feedback events per inference in the benchmarks' stream; shadows get none.
FEEDBACK = LABELED * (1 - SHARES["shadow"][1])
# Share of the feedback that has a label; the rest are reports and preferences.
LABELS = 0.98
BILLION = 1e9 / DAY * (1 + FEEDBACK)
# Events per second of each load.
LOADS = {
    "a pilot": 1_000.0,
    "a billion predictions a day, on average": BILLION,
    "the same at its peak": 100_000.0,
}
KAFKA_DAYS, COPIES = 14, 3

# Assumptions; the page names each of them.
STREAM_OPERATOR = 7_500  # rows per second that a core of a stream engine joins or aggregates
CORES = 64  # of RisingWave's compute nodes, for 100,000 events per second
CORE_HOUR = 0.05  # $ per hour for a core with 4 GiB of memory
DISK_MONTH, BUCKET_MONTH = 0.08, 0.023  # $ per GB and 30 days
BETWEEN_ZONES = 0.02  # $ per GB between zones
# Cores of everything but RisingWave's compute nodes, for 100,000 events per second.
OTHER_CORES = {"compactors": 16, "meta and frontends": 5, "Kafka": 12, "gateways": 16, "trainer": 4,
               "PostgreSQL": 3}  # fmt: skip


def cells(name: str) -> list[list[str]]:
    """Return the rows of all tables of a benchmark's results, without backticks and commas."""
    lines = (RESULTS / f"{name}.md").read_text().splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")]
    return [[cell.strip("`* ").replace(",", "") for cell in row] for row in rows]


STORAGE = cells("storage")
# Bytes per row with its indexes, by table.
BYTES = {
    row[0]: (float(row[2]) + float(row[3])) * 1e6 / float(row[1])
    for row in STORAGE
    if row[0].startswith(("events.", "panes.")) and len(row) == 5 and row[1] != "0"
}
EVENT_BYTES = next(float(row[4]) for row in STORAGE if row[0] == "all events")
# Rows of a model per time step of a pane, by pane and grain.
KEYS = {
    (row[0], row[1]): float(row[2])
    for row in STORAGE
    if len(row) == 3 and (MODELS / "panes" / f"{row[0]}.sql").exists()
}
MESSAGE = {row[0]: float(row[2]) for row in STORAGE if row[0] in ("inference", "feedback")}
# Bytes of JSON per event, inferences and feedback mixed.
MIXED = (MESSAGE["inference"] + FEEDBACK * MESSAGE["feedback"]) / (1 + FEEDBACK)
# Events per second through all views on the benchmarks' two cores.
INGEST = next(float(row[3]) for row in cells("ingest") if row[0] == "10000" and len(row) == 7)
# Inferences stored, events/s in batches of 1,000, seconds to rebuild all views, longest pane.
GROWING = [row for row in cells("views") if len(row) == 4 and row[0] in ("100k", "1M", "5M")]
SENT = next(float(row[1]) for row in cells("kafka") if row[0] == "sent")


def load() -> str:
    """Kafka under each load."""
    return table(
        ["load", "events/s", "into Kafka, MB/s", "written by the brokers, MB/s",
         f"kept {KAFKA_DAYS} days, TB", "producers in Python"],
        [
            [name, f"{rate:,.0f}", f"{rate * MIXED / 1e6:.1f}",
             f"{COPIES * rate * MIXED / 1e6:.1f}",
             f"{COPIES * rate * MIXED * KAFKA_DAYS * DAY / 1e12:.1f}",
             f"{math.ceil(rate / SENT)}"]
            for name, rate in LOADS.items()
        ],
    )  # fmt: skip


def machine() -> str:
    """One PostgreSQL while its tables grow."""
    return table(
        ["inferences in the tables", "ingest, events/s", "rebuilding all views, s",
         "events on disk, GB"],
        [
            [size, f"{float(rate):,.0f}", f"{float(rebuild):,.0f}",
             f"{inferences_of(size) * (1 + FEEDBACK) * EVENT_BYTES / 1e9:,.1f}"]
            for size, rate, rebuild, _ in GROWING
        ],
    )  # fmt: skip


def inferences_of(size: str) -> float:
    """Return the number of a benchmark size such as 100k or 5M."""
    return float(size[:-1]) * {"k": 1e3, "M": 1e6}[size[-1]]


def cores() -> str:
    """Lower and upper bound of RisingWave's cores."""
    return table(
        ["load", "events/s", "lower bound", "upper bound"],
        [
            [name, f"{rate:,.0f}", f"{2 * rate / INGEST:.0f}",
             f"{rate * len(readers()) / STREAM_OPERATOR:.0f}"]
            for name, rate in LOADS.items()
        ],
    )  # fmt: skip


def readers() -> list[str]:
    """Return the panes whose SELECT reads single events; marts run only when queried."""
    reads = re.compile(
        r"ref\('(stg_inference|stg_feedback|stg_attributed_feedback)'\)"
        r"|source\('events', '(inference|feedback)'\)"
    )
    files = (MODELS / "panes").glob("*.sql")
    return sorted(file.stem for file in files if reads.search(file.read_text()))


def panes() -> str:
    """State of one model that grows with time and keys, not with load."""
    rows, total_rows, total = [], 0.0, 0.0
    for (pane, grain), keys in KEYS.items():
        kept = retention(pane).get(grain)
        length = SECONDS.get(grain) or grain_of(pane)
        if kept is None or length is None:
            continue
        count = keys * kept * DAY / length
        size = BYTES.get(f"panes.{pane}", SMALL)
        total_rows, total = total_rows + count, total + count * size
        rows.append([
            f"`{pane}`", spoken(length), f"{keys:,.0f}", f"{kept} days", f"{count:,.0f}",
            f"{size:,.0f}", f"{count * size / 1e6:,.0f}",
        ])  # fmt: skip
    rows.append(["**one model**", "", "", "", f"{total_rows:,.0f}", "", f"{total / 1e6:,.0f}"])
    return table(["pane", "grain", "keys", "kept", "rows", "bytes per row", "MB"], rows)


# Bytes per row of panes that are too small for the benchmark to list.
SMALL = 300


def retention(pane: str) -> dict[str, int]:
    """Return the retention of a pane in days, by grain; '' where it has no grains."""
    text = (MODELS / "panes" / f"{pane}.sql").read_text()
    match = re.search(r"retention=(\{.*?\}|'.*?')", text, re.DOTALL)
    if match is None:
        return {}
    if match[1].startswith("'"):
        return {"": int(match[1].strip("'").split()[0])}
    return {grain: int(days) for grain, days in re.findall(r"'([^']+)': '(\d+) days'", match[1])}


def grain_of(pane: str) -> int | None:
    text = (MODELS / "panes" / f"{pane}.sql").read_text()
    match = re.search(r"pane_start\('([^']+)'", text)
    return SECONDS[match[1]] if match else None


def spoken(seconds: int) -> str:
    return next(name for name, length in SECONDS.items() if length == seconds)


def unbounded() -> str:
    """Rows that a billion predictions a day add, which no key bounds."""
    a_day = {
        "events.inference": 1e9,
        "events.feedback": FEEDBACK * 1e9,
        "panes.labels": FEEDBACK * LABELS * 1e9,
        "panes.shadow_pairs": SHARES["shadow"][1] * 1e9,
    }
    rows = []
    for name, count in a_day.items():
        size = BYTES[name]
        rows.append([
            f"`{name}`", f"{count / 1e6:,.0f}", f"{size:,.0f}", f"{count * size / 1e9:,.0f}",
            f"{14 * count * size / 1e12:,.1f}", f"{400 * count * size / 1e12:,.1f}",
        ])  # fmt: skip
    sums = [sum(float(row[place].replace(",", "")) for row in rows) for place in (3, 4, 5)]
    rows.append(["**together**", "", "", *(f"{value:,.0f}" for value in sums)])
    return table(
        ["", "million rows per day", "bytes per row", "GB per day", "14 days, TB", "400 days, TB"],
        rows,
    )


def cost() -> str:
    """Cost of a month at a billion predictions a day, with nodes for the peak."""
    month = 30 * DAY * BILLION / 1e6  # million events
    hours = 30 * 24
    state = 14 * (1e9 * BYTES["events.inference"] + FEEDBACK * 1e9 * BYTES["events.feedback"])
    flow = BILLION * MIXED * DAY * 30 / 1e9  # GB a month into Kafka
    parts = {
        f"RisingWave's compute nodes: {CORES} cores": CORES * CORE_HOUR * hours,
        "all other nodes: " + ", ".join(f"{what} {n}" for what, n in OTHER_CORES.items()): (
            sum(OTHER_CORES.values()) * CORE_HOUR * hours
        ),
        f"Kafka's disks: {KAFKA_DAYS} days, {COPIES} replicas": (
            COPIES * BILLION * MIXED * KAFKA_DAYS * DAY / 1e9 * DISK_MONTH
        ),
        "RisingWave's bucket: 14 days of events, three times for joins": (
            3 * state / 1e9 * BUCKET_MONTH
        ),
        "between zones: two replicas, two thirds of writing and reading": (
            flow * (COPIES - 1 + 4 / 3) * BETWEEN_ZONES
        ),
    }
    rows = [[what, f"{dollars:,.0f}", f"{dollars / month:.3f}"] for what, dollars in parts.items()]
    total = sum(parts.values())
    rows.append(["**together**", f"**{total:,.0f}**", f"**{total / month:.2f}**"])
    return table(["", "$ per month", "$ per million events"], rows)


def facts() -> str:
    """The measurements behind all other tables."""
    return table(
        ["", "", "measured by"],
        [
            ["inference message, bytes", f"{MESSAGE['inference']:.0f}", "`storage`"],
            ["feedback message, bytes", f"{MESSAGE['feedback']:.0f}", "`storage`"],
            ["feedback per inference", f"{FEEDBACK:.3f}", "`benchmarks/stream.py`, by design"],
            ["average message, bytes", f"{MIXED:.0f}", "the three above"],
            ["event in its table with indexes, bytes", f"{EVENT_BYTES:.0f}", "`storage`"],
            ["events/s into all views, 2 cores", f"{INGEST:,.0f}", "`ingest`, batches of 10,000"],
            ["panes that read single events", f"{len(readers())}", "their `.sql`"],
            ["events/s that one process sends to Kafka", f"{SENT:,.0f}", "`kafka`"],
        ],
    )  # fmt: skip


def table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


TABLES = {each.__name__: each for each in (facts, load, machine, cores, panes, unbounded, cost)}


def render(page: str) -> str:
    """Return the page with each table between its markers generated anew."""

    def made(match: re.Match[str]) -> str:
        return f"<!-- {match[1]} -->\n\n{TABLES[match[1]]()}\n\n<!-- /{match[1]} -->"

    return re.sub(r"<!-- (\w+) -->.*?<!-- /\1 -->", made, page, flags=re.DOTALL)


if __name__ == "__main__":
    PAGE.write_text(render(PAGE.read_text()))
