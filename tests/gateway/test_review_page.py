"""The page of reviewers in a real browser: keys, and input that would be markup."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from headrace.control import policies
from headrace.engine import Engine
from headrace.settings import Settings
from tests.gateway.reviewing import key, predict
from tests.support.chromium import PROGRAM, Chromium

with_browser = pytest.mark.skipif(not PROGRAM, reason="there is no Chromium")
MARKUP = (
    '<img src=x onerror="document.title=1"><b id=bold>bold</b><script>document.title=1</script>'
)


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Chromium]:
    with Chromium(tmp_path / "chromium") as opened:
        yield opened


def shown(browser: Chromium, request_id: str) -> None:
    browser.wait(f"document.getElementById('request').innerText.includes('{request_id}')")


@with_browser
def test_a_reviewer_needs_the_keyboard_only(
    engine: Engine, url: str, settings: Settings, browser: Chromium
) -> None:
    policies.write(engine, "m", {"review_overlap": 0})
    predict(engine, *[{"input": f"text {number}"} for number in range(4)])
    browser.open(f"{url}/review#key={key(settings)}&name=ann")
    shown(browser, "r0")
    assert key(settings) not in browser.value("location.href")
    browser.press("1")
    shown(browser, "r1")
    browser.press("s")
    shown(browser, "r2")
    browser.press("2")
    shown(browser, "r3")
    browser.press("u")
    shown(browser, "r2")
    browser.press("1")
    shown(browser, "r3")
    browser.press("/")
    browser.send("Input.insertText", text="scam")
    browser.press("Enter")
    browser.wait("!document.getElementById('empty').hidden")
    assert engine.rows("select request_id, label from headrace.labeled_examples order by 1") == [
        {"request_id": "r0", "label": "ham"}, {"request_id": "r2", "label": "ham"},
        {"request_id": "r3", "label": "scam"},
    ]  # fmt: skip
    assert browser.errors == []


@with_browser
def test_markup_stays_text(engine: Engine, url: str, settings: Settings, browser: Chromium) -> None:
    hostile = {
        "model_version": MARKUP, "request_id": MARKUP, "item_id": MARKUP, "user_id": MARKUP,
        "segment": MARKUP, "features": {MARKUP: MARKUP}, "input": {"text": MARKUP},
        "output": MARKUP, "prediction": MARKUP, "error": MARKUP, "probabilities": {MARKUP: 0.5},
    }  # fmt: skip
    shadow = {"variant": "shadow", "shadow_of": MARKUP, "item_id": MARKUP, "error": MARKUP}
    predict(engine, hostile, shadow)
    browser.open(f"{url}/review#key={key(settings)}&name=" + "%3Cb%20id%3Dbold%3Eann")
    browser.wait("document.getElementById('labels').children.length > 0")
    assert browser.value("document.body.innerText.split('onerror').length") > 8
    assert browser.value("document.querySelectorAll('#bold, img').length") == 0
    assert browser.value("document.title") == "Review · Headrace"
    assert browser.errors == []
    # If markup did get in, the policy would still stop it.
    browser.value("document.body.innerHTML = `<img src='/review' onerror='document.title=1'>`")
    browser.wait("true")
    assert browser.value("document.title") == "Review · Headrace"
    assert any("Content Security Policy" in error for error in browser.errors)


def test_the_page_holds_nothing_and_may_not_be_framed(engine: Engine, url: str) -> None:
    predict(engine, {"input": "secret"})
    page = httpx.get(f"{url}/review")
    assert page.status_code == 200 and "secret" not in page.text
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy and "frame-ancestors 'none'" in policy
    assert "http://" not in page.text and "https://" not in page.text
    assert httpx.get(f"{url}/review", headers={"Host": "evil.example"}).status_code == 421
