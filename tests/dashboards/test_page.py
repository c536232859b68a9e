"""The page holds every panel, well-formed, with nothing fetched and nothing run."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from headrace.dashboards import load
from headrace.dashboards.fields import colour, show
from headrace.dashboards.page import render
from headrace.engine import Engine
from headrace.errors import ModelError
from tests.dashboards.life import MODEL

VOID = {"meta"}


class Page(HTMLParser):
    """Checks that tags are balanced, and keeps what the tests ask for."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def ids(self) -> set[str]:
        return {str(attributes["id"]) for _, attributes in self.tags if "id" in attributes}


def wanted_ids() -> set[str]:
    return {f"panel-{p['id']}" for p in load()["panels"] if p["type"] != "row"}


def test_page_of_a_life(filled: Engine, tmp_path: Path) -> None:
    path = render(filled, None, tmp_path / "deep" / "page.html")
    text = path.read_text("utf-8")
    page = Page(text)
    assert page.ids() == wanted_ids()
    words = "\n".join(page.text)
    for word in (MODEL, "v3", "superseded", "failed", "<script>", "2024-03-11"):
        assert word in words, word
    assert len(re.findall(r'<path d="M', text)) >= 3 * 4
    assert "train: 12.5 s" in text
    assert "416" in page.text and "1.3 min" in page.text  # of the run under way
    assert "NaN" not in text and "None" not in words


def test_page_is_self_contained(filled: Engine, tmp_path: Path) -> None:
    page = Page(render(filled, MODEL, tmp_path / "page.html").read_text("utf-8"))
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "link", "img", "iframe", "object"}
    for _, attributes in page.tags:
        assert not {"src", "href", "onclick", "onload"} & set(attributes)
    assert "url(" not in "".join(page.text)


def test_a_browser_loads_a_page_again_where_asked(embedded: Engine, tmp_path: Path) -> None:
    for every_s, said in (None, []), (7, ["7"]):
        page = Page(render(embedded, None, tmp_path / "page.html", every_s).read_text("utf-8"))
        again = [of["content"] for _, of in page.tags if of.get("http-equiv") == "refresh"]
        assert again == said


def test_page_without_events(embedded: Engine, tmp_path: Path) -> None:
    page = Page(render(embedded, None, tmp_path / "page.html").read_text("utf-8"))
    assert page.ids() == wanted_ids()
    assert "none yet" in page.text


def test_unknown_model(filled: Engine, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"nobody: no events.*o'brien"):
        render(filled, "nobody", tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


@pytest.mark.parametrize(
    ("value", "field", "text"),
    [
        (None, {"noValue": "none"}, "none"),
        (0.25, {"unit": "s"}, "250 ms"),
        (0, {"unit": "s"}, "0 s"),
        (11.24, {"unit": "s"}, "11.2 s"),
        (7200, {"unit": "s"}, "2.0 h"),
        (200_000, {"unit": "s"}, "2.3 days"),
        (2500, {"unit": "ms"}, "2.5 s"),
        (0.125, {"unit": "percentunit"}, "12.5 %"),
        (1234567, {"unit": "short"}, "1,234,567"),
        (0.81449, {"decimals": 3}, "0.814"),
        (True, {}, "True"),
        ("v3", {"unit": "s"}, "v3"),
    ],
)
def test_values_are_readable(value: object, field: dict[str, object], text: str) -> None:
    assert show(value, field) == text


def test_thresholds_colour_values() -> None:
    steps = [{"color": "green", "value": None}, {"color": "red", "value": 0.25}]
    field = {"color": {"mode": "thresholds"}, "thresholds": {"steps": steps}}
    assert [colour(value, field) for value in (0.1, 0.25, "x", None)] == [
        "green", "red", None, None,
    ]  # fmt: skip
