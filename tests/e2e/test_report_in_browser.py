"""The page about a search in headless Chromium: touched, printed, read without scripts."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect, sync_playwright

from imdbtune.config.hyperparameters import TrialParams
from imdbtune.report import comparison_page, page
from imdbtune.report.comparison import compare_searches
from tests.unit.report import test_comparison_page as of_searches
from tests.unit.report.test_page import EVIL, FEW, made_trial, make_data, with_linear

CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
SERVER = "http://box:5000"

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: install Debian's package chromium"),
    pytest.mark.xdist_group("chromium"),
]
Open = Callable[..., Any]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    unsandboxed = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=unsandboxed)
        yield started
        started.close()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    data = with_linear(FEW, 0.8)
    evil = [made_trial(n, 0.8 + n / 100, TrialParams(units=n), name=EVIL) for n in (1, 2)]
    attacked = make_data(evil)
    named = replace(of_searches.made_search("</script><b>"), tags=of_searches.TAGS)
    compared = compare_searches(
        [(named, [of_searches.made_trial("a", 1, 0.8)]), (of_searches.LONG[0], of_searches.LONG[1])]
    )
    pages = {
        "search": page.render(data, page.draw_figures(data), SERVER),
        "evil": page.render(attacked, page.draw_figures(attacked), SERVER),
        "searches": comparison_page.render(compared, SERVER),
    }
    folder = tmp_path_factory.mktemp("pages")
    for name, html in pages.items():
        (folder / f"{name}.html").write_text(html, encoding="utf-8")
    return {name: folder / f"{name}.html" for name in pages}


@pytest.fixture
def open_page(browser: Any, files: dict[str, Path]) -> Iterator[Open]:
    """Open a page, with the options of a context; fail at its end if a script has failed."""
    contexts, problems = [], []

    def open_one(name: str = "search", **options: Any) -> Any:
        context = browser.new_context(viewport={"width": 1280, "height": 900}, **options)
        contexts.append(context)
        shown = context.new_page()
        shown.set_default_timeout(20_000)
        shown.on("console", lambda message: problems.append(message.text))
        shown.on("pageerror", lambda error: problems.append(str(error)))
        shown.on("dialog", lambda dialog: problems.append(dialog.message))
        shown.goto(files[name].as_uri())
        if options.get("java_script_enabled", True):
            shown.locator("figure[data-figure=progress] svg").wait_for()
        return shown

    yield open_one
    for context in contexts:
        context.close()
    assert problems == []


def shown_rows(shown: Any) -> list[str]:
    """The ranks of the rows in the table of all trials that a reader sees."""
    shown.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
    cells = shown.locator("#trials tbody tr:visible td:first-child")
    return [text.strip() for text in cells.all_inner_texts()]


def test_a_brush_selects_trials_and_a_click_undoes_it(open_page: Open) -> None:
    shown = open_page()
    figure = shown.locator("figure[data-figure=parallel]")
    figure.scroll_into_view_if_needed()
    box = figure.locator(".axis_3 path").bounding_box()  # accuracy
    middle = box["x"] + box["width"] / 2
    shown.mouse.move(middle, box["y"])
    shown.mouse.down()
    shown.mouse.move(middle, box["y"] + 6 + 0.2 * 280, steps=4)
    shown.mouse.up()
    accuracies = sorted((t.metrics["best_val_accuracy"] for t in FEW), reverse=True)
    low = accuracies[0] - 0.2 * (accuracies[0] - accuracies[-1])
    expected = sum(accuracy >= low for accuracy in accuracies)
    status = figure.get_by_role("status")
    expect(status).to_have_text(f"{expected} of 12 trials shown.")
    assert shown_rows(shown) == [str(rank) for rank in range(1, expected + 1)]
    figure.scroll_into_view_if_needed()
    box = figure.locator(".axis_3 path").bounding_box()
    shown.mouse.click(box["x"] + box["width"] / 2, box["y"] + 200)
    expect(status).to_have_text("12 of 12 trials shown.")
    assert len(shown_rows(shown)) == 12


def test_the_tip_names_a_trial_and_links_to_its_run(open_page: Open) -> None:
    shown = open_page()
    best = max(FEW, key=lambda trial: trial.metrics["best_val_accuracy"])
    dot = shown.locator("figure[data-figure=train_seconds] .role-mark.mark-symbol path").first
    dot.hover()
    link = shown.locator("#tip a")
    assert link.inner_text() == best.name
    assert f"/runs/{best.run_id}?" in link.get_attribute("href")
    assert "validation" in shown.locator("#tip").inner_text()
    dot.click()
    shown.mouse.move(5, 5)
    assert shown.locator("#tip").is_visible()  # pinned
    shown.keyboard.press("Escape")
    assert not shown.locator("#tip").is_visible()
    dot.click()
    shown.get_by_role("button", name="Show in the table").click()
    assert shown.evaluate("document.activeElement.cells[0].textContent") == "1"


def test_curves_are_switched_on_and_off(open_page: Open) -> None:
    shown = open_page()
    figure = shown.locator("figure[data-figure=curves]")
    symbols = figure.locator(".role-mark.mark-symbol path")
    expect(symbols).to_have_count(2 * 12)  # epochs
    figure.get_by_role("checkbox").first.uncheck()
    expect(symbols).to_have_count(2 * 11)
    figure.get_by_role("button", name="Best five").click()
    expect(symbols).to_have_count(2 * 5)
    assert figure.get_by_role("checkbox", checked=True).count() == 5


def test_the_table_is_sorted_and_filtered_by_keyboard(open_page: Open) -> None:
    shown = open_page()
    shown_rows(shown)
    heading = shown.locator("#trials th", has_text="seconds")
    heading.get_by_role("button").press("Enter")
    assert heading.get_attribute("aria-sort") == "ascending"
    column = [*shown.locator("#trials th").all_inner_texts()].index("seconds") + 1
    seconds = shown.locator(f"#trials tbody td:nth-child({column})").all_inner_texts()
    assert seconds == sorted(seconds, key=float)
    heading.get_by_role("button").press("Enter")
    assert heading.get_attribute("aria-sort") == "descending"
    by_cell = shown.get_by_label("Filter by rnn")
    for typed, cells in {"gru, lstm": ("gru", "lstm"), "simple": ("simple_rnn",)}.items():
        by_cell.fill(typed)
        assert len(shown_rows(shown)) == sum(trial.params.rnn in cells for trial in FEW)
    by_cell.fill("")
    shown.get_by_label("Filter by units").fill(">=9")
    assert len(shown_rows(shown)) == sum(trial.params.units >= 9 for trial in FEW)
    shown.get_by_label("Filter by units").fill("1..8")
    assert len(shown_rows(shown)) == sum(trial.params.units <= 8 for trial in FEW)
    shown.get_by_role("button", name="Show all").first.click()
    assert len(shown_rows(shown)) == 12


def test_the_slider_sets_all_intervals_but_prints_show_the_written_ones(
    open_page: Open, tmp_path: Path
) -> None:
    shown = open_page()
    said = shown.locator(".answer [data-error]")
    before = said.inner_text()
    slider = shown.get_by_label("Confidence of the intervals")
    slider.press("End")
    assert slider.get_attribute("aria-valuetext") == "99.9 %"
    assert float(said.inner_text()) > 1.5 * float(before)
    assert shown.locator(".answer [data-level]").inner_text() == "99.9"
    shown.get_by_label("Filter by rnn").evaluate("each => { each.value = 'gru'; each.oninput() }")
    shown.emulate_media(media="print")
    assert shown.locator("figure[data-figure=parallel] img").is_visible()
    assert not shown.locator(".chart:visible, .controls:visible, .filters:visible").count()
    assert len(shown_rows(shown)) == 12
    shown.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert said.inner_text() == before
    assert len(shown.pdf()) > 100_000


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["search", "searches"])
def test_axe_finds_nothing(name: str, scheme: str, open_page: Open) -> None:
    shown = open_page(name, color_scheme=scheme)
    shown.set_viewport_size({"width": 390 if scheme == "light" else 1280, "height": 844})
    shown_rows(shown)
    found = Axe().run(shown).response["violations"]
    assert [(each["id"], each["nodes"][0]["html"][:200]) for each in found] == []
    assert shown.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    background = shown.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") == (scheme == "light")


def test_without_scripts_the_page_shows_its_figures(open_page: Open) -> None:
    shown = open_page(java_script_enabled=False)
    figures = shown.locator("figure")
    assert figures.count() == shown.locator("figure img:visible").count()
    assert not shown.locator("button, input").count()


@pytest.mark.parametrize("name", ["evil", "searches"])
def test_names_run_nothing(name: str, open_page: Open) -> None:
    shown = open_page(name)
    dot = shown.locator("figure[data-figure=progress] .role-mark.mark-symbol path").first
    dot.click()
    assert shown.locator("#tip").is_visible()
    assert not shown.locator("img[src=x], main b b, #tip b img").count()
    assert shown.locator("script").count() == 3
