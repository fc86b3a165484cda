"""The HTML report, looked at in a real Chromium. No page may load, run or report anything: each test ends with that."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
from hostile import HOSTILE
from playwright.sync_api import Page, expect
from report_pages import MODELS, Open, data_of, image, in_error, picture, row, rows_of, showing, write

from runner.console import plain
from runner.errors import ExitCode, Place
from runner.records import Threshold
from runner.report import html
from runner.report.charts import Histogram, Spread, drawings
from runner.report.page_data import LONGEST_TEXT
from runner.running import summary
from runner.running.summary import JobSummary, Summary, Tally
from runner.stop import StopReason

ASSETS = Path(html.__file__).parent / "assets"

# --- the page --------------------------------------------------------------------------------------------------------


def test_a_run_is_shown_with_everything_that_its_rows_say(
    bedrock_run: Any, write_job: Any, tmp_path: Path, opened: Open
) -> None:
    PIL.Image.new("RGB", (800, 400), "red").save(tmp_path / "red.png")
    write_job(
        """\
        name: talk
        tags: [smoke]
        system: Be brief.
        turns:
          - user: {text: "What is {{ topic }}?", images: [red.png]}
          - assistant: I shall tell.
          - user: Go on.
          - user: And then?
        cases:
          - {id: good, vars: {topic: good}}
          - {id: bad, vars: {topic: bad}, tags: [odd]}
          - {id: broken, vars: {topic: broken}}
        assert:
          - {type: contains, value: well}
        """
    )
    (tmp_path / "replies.yaml").write_text(
        "- {match: 'And then', times: 1, fault: throttle}\n"
        "- {match: Go on, reply: [It goes on., It goes on., It goes on.]}\n"
        "- {match: And then, reply: ['all is well'], times: 1}\n"
        "- {match: And then, reply: ['all is lost'], times: 1}\n"
        "- {match: And then, status: 400, error: ValidationException, message: too long}\n"
    )
    done = bedrock_run("--local", "--replies", "replies.yaml", "-j", "1", "job.yaml")
    assert done.returncode == ExitCode.INCOMPLETE, done.stderr
    files = [tmp_path / "outputs" / "talk.jsonl"]
    # Source paths are as seen from the folder of the run.
    rows = [json.loads(line) for line in files[0].read_text().splitlines()]
    for each in rows:
        each["source"]["path"] = str(tmp_path / each["source"]["path"])
    page = opened(write(rows, tmp_path)).page

    expect(page.locator("h1")).to_contain_text("Incomplete: talk")
    expect(page.locator(".tile-cases")).to_contain_text("1 passed, 1 failed, 1 error")
    expect(page.locator(".tiles")).to_contain_text("the local emulator bills nothing")
    assert page.locator("#pictures .status").all_text_contents() == ["error", "failed", "passed"]
    page.get_by_role("button", name="List").click()
    assert page.locator("#table .status").all_text_contents() == ["error", "failed", "passed"]
    page.get_by_role("link", name="bad").click()
    pane = page.locator("#pane")
    roles = pane.locator(".turn-head strong").all_text_contents()
    assert roles == ["system", "user", "assistant", "user", "assistant", "user", "assistant"]
    texts = pane.locator(".turn pre").all_text_contents()
    assert texts[1:] == ["What is bad?", "I shall tell.", "Go on.", "It goes on.", "And then?", "all is lost"]
    expect(pane.locator("img")).to_have_js_property("naturalWidth", 240)
    expect(pane.locator(".verdict-card")).to_contain_text("contains")
    expect(pane.locator(".verdict-card")).to_contain_text("job.yaml:15")
    assert pane.locator(".compared dt").all_text_contents() == ["Expected", "Actual"]
    expect(pane.locator(".compared")).to_contain_text("all is lost")
    expect(pane.locator(".vars")).to_contain_text("topic")
    expect(pane.locator(".tag")).to_have_text(["odd", "smoke"])
    expect(pane.get_by_role("region", name="Attempts").locator("tbody tr")).to_have_count(2)
    expect(pane.locator(".facts").last).to_contain_text("tokens out")
    page.keyboard.press("k")
    expect(pane.locator(".alert-error")).to_contain_text("ValidationException: too long")
    expect(pane.locator(".alert-error")).to_contain_text("request id")
    expect(pane.locator(".alert-error")).to_contain_text("What to do")


def test_cases_are_filtered_by_status_model_job_and_tag(tmp_path: Path, opened: Open) -> None:
    found = [
        row(0, tags=["slow"]),
        row(1, model=MODELS[1], reason="expected more"),
        in_error(2, tags=["slow", "odd"]),
        row(0, job="other", case="elsewhere"),
    ]
    report = opened(write(found, tmp_path))
    page = report.page
    assert report.cases() == ["case-2", "case-1", "case-0", "elsewhere"]  # what needs a look comes first
    assert page.locator("#statuses button").all_text_contents() == ["all4", "passed2", "failed1", "error1"]
    page.get_by_role("button", name="failed").click()
    assert report.cases() == ["case-1"]
    assert report.shown() == "1 of 4"
    page.get_by_role("button", name="all 4").click()
    page.select_option("#model", MODELS[1])
    assert report.cases() == ["case-1"]
    page.select_option("#model", "")
    page.select_option("#tag", "slow")
    assert report.cases() == ["case-2", "case-0"]
    page.select_option("#job", "other")
    expect(page.locator(".empty")).to_contain_text("No case passes the filters.")
    page.get_by_role("button", name="Show all cases").click()
    assert len(report.cases()) == 4


def test_search_looks_through_ids_variables_replies_reasons_and_errors(tmp_path: Path, opened: Open) -> None:
    found = [
        row(0, case="needle-in-id"),
        row(1, vars={"hay": {"deep": ["a NEEDLE in a list"]}}),
        row(2, output="x" * 5000 + " a Needle far on"),
        row(3, reason="expected a needle"),
        in_error(4, "no needle found"),
        row(5, output="needles and pins"),
        row(6),
    ]
    report = opened(write(found, tmp_path))
    page = report.page
    page.keyboard.press("/")
    page.keyboard.type("needle")
    expect(page.locator("#shown")).to_have_text("6 of 7")
    page.fill("#search", "pins needle")
    expect(page.locator("#shown")).to_have_text("1 of 7")
    page.fill("#search", '"pins needle"')
    expect(page.locator(".empty")).to_be_visible()
    page.fill("#search", "")
    expect(page.locator("#shown")).to_have_text("7")


def test_every_column_sorts_up_down_and_not_at_all(tmp_path: Path, opened: Open) -> None:
    found = [
        row(0, case="b", job="y", model="m1", output="one", cost_usd=0.3, latency_ms=5, reason="zzz"),
        row(1, case="a10", job="x", model="m2", output="three", cost_usd=0.1, latency_ms=9),
        row(2, case="a9", job="x", model="m3", output="two", cost_usd=0.2, latency_ms=7),
        in_error(3, case="z", job="z", model="m4"),
    ]
    for number, each in enumerate(found[:3]):
        each["usage"] = {**each["usage"], "input_tokens": 30 - number, "output_tokens": number}
    report = opened(write(found, tmp_path), viewport={"width": 1440, "height": 800})
    expected = {
        "status": ["z", "b", "a10", "a9"],
        "position": ["b", "a10", "a9", "z"],
        "case": ["a9", "a10", "b", "z"],
        "job": ["a10", "a9", "b", "z"],
        "model": ["b", "a10", "a9", "z"],
        "result": ["a10", "z", "a9", "b"],
        "latency": ["b", "a9", "a10", "z"],
        "input": ["a9", "a10", "b", "z"],
        "output": ["b", "a10", "a9", "z"],
        "cost": ["a10", "a9", "b", "z"],
    }
    assert set(expected) == set(re.findall(r"col-(\w+)", report.page.locator("#table thead").inner_html()))
    start = report.cases()
    for column, order in expected.items():
        once, twice, thrice = clicked_thrice(report.page, f"#table .col-{column} button")
        unknown = ["z"] if column in {"latency", "input", "output", "cost"} else []  # at the end either way
        tied = column in {"status", "job"}
        back = [*reversed([each for each in order if each not in unknown]), *unknown]
        assert (column, once) == (column, ["ascending", order])
        assert (column, twice) == (column, ["descending", twice[1] if tied else back])
        assert (column, thrice) == (column, ["none", start])


def clicked_thrice(page: Page, button: str) -> list[list[Any]]:
    """What the head of a column says after each of three clicks, and the order of the cases."""
    told: list[list[Any]] = page.evaluate(
        """(button) => [1, 2, 3].map(() => {
            document.querySelector(button).click();
            const cases = [...document.querySelectorAll('#table .case-id')].map((one) => one.textContent);
            return [document.querySelector(button).closest('th').getAttribute('aria-sort'), cases];
        })""",
        button,
    )
    return told


def test_a_case_is_opened_by_click_and_closed_by_the_ways_that_people_try(tmp_path: Path, opened: Open) -> None:
    page = opened(write([row(number) for number in range(5)], tmp_path)).page
    pane = page.locator("#pane")
    page.locator("#table tbody tr").nth(3).click()
    expect(page.locator("#pane-title")).to_have_text("case-2")
    page.keyboard.press("Escape")
    expect(pane).to_be_hidden()
    page.get_by_role("link", name="case-4").click()
    expect(page.locator("#pane-title")).to_have_text("case-4")
    pane.get_by_role("button", name="Previous case").click()
    expect(page.locator("#pane-title")).to_have_text("case-3")
    pane.get_by_role("button", name="Close").click()
    expect(pane).to_be_hidden()
    page.get_by_role("link", name="case-1").click()
    expect(pane).to_be_visible()
    page.go_back()
    expect(pane).to_be_hidden()


def test_the_keyboard_is_enough(tmp_path: Path, opened: Open) -> None:
    page = opened(write([row(number) for number in range(200)], tmp_path)).page
    title, active = page.locator("#pane-title"), page.locator("#table tr.active .case-id")
    page.keyboard.press("j")
    expect(active).to_have_text("case-0")
    expect(page.locator("#table")).to_be_focused()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("j")
    page.keyboard.press("ArrowUp")
    expect(active).to_have_text("case-1")
    page.keyboard.press("Enter")
    expect(title).to_have_text("case-1")
    expect(page.locator("#pane")).to_be_focused()
    page.keyboard.press("j")
    expect(title).to_have_text("case-2")
    page.keyboard.press("Escape")
    expect(page.locator("#pane")).to_be_hidden()
    expect(page.locator("#table")).to_be_focused()
    page.keyboard.press("End")
    expect(active).to_have_text("case-199")
    expect(active).to_be_in_viewport()
    page.keyboard.press("Home")
    expect(active).to_be_in_viewport()
    page.keyboard.press("?")
    expect(page.locator("#help")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#help")).to_be_hidden()
    page.keyboard.press("/")
    expect(page.locator("#search")).to_be_focused()
    page.keyboard.type("case-19?j")  # letters are letters there
    expect(page.locator("#search")).to_have_value("case-19?j")
    page.fill("#search", "case-19")
    expect(page.locator("#shown")).to_have_text("11 of 200")
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    expect(title).to_have_text("case-19")


def test_a_link_leads_to_its_case_whatever_it_is_called(tmp_path: Path, opened: Open) -> None:
    found = [row(number) for number in range(300)]
    found[250]["case"] = "photos/ä 1%#?.jpg [model=a]"
    path = write(found, tmp_path)
    first = opened(path)
    first.page.fill("#search", "photos")
    first.page.get_by_role("link", name="photos").click()
    expect(first.page.locator("#pane")).to_be_visible()
    link = "#" + first.page.url.partition("#")[2]
    assert link.startswith("#quiz/photos%2F")
    page = opened(path, link).page
    expect(page.locator("#pane-title")).to_have_text(found[250]["case"])
    expect(page.locator("#table tr.active .case-id")).to_be_in_viewport()
    for nowhere in ("#quiz/nowhere", "#%E0%A4%A", "#constructor"):
        page.goto(path.as_uri() + nowhere)
        expect(page.locator("#pane")).to_be_hidden()


def test_dark_and_light_follow_the_system_until_one_is_chosen(tmp_path: Path, opened: Open) -> None:
    path = write([row()], tmp_path)

    def brightness(page: Page) -> int:
        return int(page.evaluate("parseInt(getComputedStyle(document.body).backgroundColor.slice(4))"))

    assert brightness(opened(path).page) > 200
    page = opened(path, color_scheme="dark").page
    assert brightness(page) < 50
    page.get_by_role("button", name="Use the light theme").click()
    assert brightness(page) > 200
    assert page.evaluate("localStorage.getItem('bedrock-run-theme')") == "light"
    page.add_init_script("localStorage.setItem('bedrock-run-theme', 'light')")  # the browser writes it in its own time
    page.reload()
    assert brightness(page) > 200
    page.keyboard.press("t")
    assert brightness(page) < 50


def test_a_phone_needs_no_sideways_scrolling(tmp_path: Path, opened: Open) -> None:
    long = "a" * 3000
    found = [
        row(number, case=f"{number}-{long}", job=f"job-{number}-{long}", output=long, vars={long: long}, tags=[long])
        for number in range(3)
    ]
    found += [in_error(4, long), *variants(3, job="grid")]
    page = opened(write(found, tmp_path), viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True).page

    def width() -> int:
        return int(page.evaluate("document.documentElement.scrollWidth"))

    assert width() == 390
    page.get_by_role("button", name="Side by side").click()
    assert width() == 390
    page.get_by_role("button", name="List").click()
    page.locator("#table tbody tr").nth(2).tap()
    pane = page.locator("#pane")
    expect(pane).to_be_visible()
    box = pane.bounding_box()
    assert box is not None
    assert (box["x"], box["width"]) == (0, 390)
    assert pane.evaluate("(element) => element.scrollWidth <= element.clientWidth")
    pane.get_by_role("button", name="Close").tap()
    expect(pane).to_be_hidden()


def variants(count: int, **changes: Any) -> Iterator[dict[str, Any]]:
    """Cases of a matrix of two models, of which the second fails the last one."""
    for number in range(count):
        for position, model in enumerate(MODELS):
            reason = "expected better" if position and number == count - 1 else None
            yield row(
                number * 2 + position,
                case=f"base-{number} [model={model}, tone=dry]",
                matrix={"model": model, "tone": "dry"},
                model=model,
                reason=reason,
                output=f"reply {number} of {position}",
                **changes,
            )


def test_variants_stand_side_by_side(tmp_path: Path, opened: Open) -> None:
    page = opened(write(list(variants(3)), tmp_path)).page
    page.get_by_role("button", name="Side by side").click()
    grid = page.locator("table.matrix")
    heads = grid.locator("thead th").all_text_contents()
    assert heads[0] == "quiz"
    assert [head.partition(",")[0] for head in heads[1:]] == [f"model={model}" for model in MODELS]
    assert [re.findall(r"\d of 3 passed", head) for head in heads[1:]] == [["3 of 3 passed"], ["2 of 3 passed"]]
    last = grid.locator("tbody tr").nth(3)
    assert last.locator("th").text_content() == "base-2"
    assert last.locator(".status").all_text_contents() == ["passed", "failed"]
    expect(last.locator("td").nth(0)).to_contain_text("reply 2 of 0")
    expect(last.locator("td").nth(1)).to_contain_text("expected better")
    last.locator("a").nth(1).click()
    expect(page.locator("#pane-title")).to_have_text("base-2")
    expect(page.locator("#pane .verdict-card")).to_contain_text("failed")
    page.keyboard.press("Escape")
    page.select_option("#model", MODELS[0])
    expect(grid.locator("tbody a")).to_have_count(3)


def test_repetitions_are_one_case_that_lists_them(tmp_path: Path, opened: Open) -> None:
    found = [
        row(0, repeat=number, repeats=3, min_pass=2, output=f"throw {number}", reason=reason)
        for number, reason in enumerate((None, "expected a six", None))
    ]
    report = opened(write(found, tmp_path))
    page = report.page
    assert report.cases() == ["case-0"]
    expect(page.locator("#table .flaky")).to_have_text("flaky, 2 of 3")
    expect(page.locator("#table .status")).to_have_text("passed")
    page.get_by_role("link", name="case-0").click()
    page.get_by_role("button", name="#2 failed").click()
    expect(page.locator("#pane .turn-assistant")).to_contain_text("throw 1")
    expect(page.locator("#pane .verdict-card")).to_contain_text("failed")


def test_the_reason_and_the_variant_are_seen_whole_in_the_list_and_once(tmp_path: Path, opened: Open) -> None:
    reason = "expected output to contain 'a friendly greeting': got 'Good day. What may I do for you, dear customer?'"
    found = [row(0, model=model, matrix={"model": model}, case=f"case-0 [model={model}]") for model in MODELS]
    found.append(row(1, reason=reason))
    path = write(found, tmp_path)
    for width, seen in ((1280, ".col-model .clamp"), (390, ".case-model")):
        page = opened(path, viewport={"width": width, "height": 900}).page
        for model in MODELS:
            told = page.locator("#table tbody").get_by_text(model, exact=True).locator("visible=true")
            expect(told.first).to_be_visible()
            shown = page.locator(f"#table {seen}").filter(has_text=model)
            assert told.count() == shown.count()
        texts = page.locator("#table .col-result .clamp, #table .col-model .clamp").locator("visible=true")
        assert texts.evaluate_all("found => found.every((one) => one.scrollHeight <= one.clientHeight + 1)")


def test_the_jobs_fit_on_a_phone(tmp_path: Path, opened: Open) -> None:
    page = opened(
        write([row(0, job="extract"), row(0, job="a-job-with-a-rather-long-name-that-says-what-it-is-for")], tmp_path),
        viewport={"width": 390, "height": 844},
    ).page
    cells = page.locator(".jobs th, .jobs td").locator("visible=true")
    assert cells.evaluate_all("found => found.every((one) => one.getBoundingClientRect().right <= 390)")
    expect(page.locator(".jobs tbody tr").first).to_contain_text("$0.1000")
    assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_parts_of_a_set_and_their_judges_are_shown_also_where_they_passed(
    bedrock_run: Any, write_job: Any, tmp_path: Path, opened: Open
) -> None:
    judge = {"reason": "It <b>is</b> kind.", "pass": True, "score": 2 / 3}
    replies = [{"match": "<rubric-", "reply": json.dumps(judge)}, {"match": ".*", "reply": "Dear friend"}]
    (tmp_path / "replies.yaml").write_text(json.dumps(replies))
    job = write_job(
        """
        model: amazon.nova-lite-v1:0
        prompt: hello
        assert:
          - type: assert-set
            threshold: 0.5
            assert: [{type: contains, value: foe}, {type: llm-rubric, value: is kind, model: amazon.nova-pro-v1:0}]
          - {type: llm-rubric, value: is kind, model: amazon.nova-pro-v1:0}
        """
    )
    done = bedrock_run("--local", "--replies", "replies.yaml", "--report-html", "report.html", job)
    assert done.returncode == 0, done.stderr
    page = opened(tmp_path / "report.html").page
    page.get_by_role("link", name="1", exact=True).click()
    parts = page.locator("#pane .parts .verdict-card")
    expect(parts).to_have_count(2)
    expect(parts.first).to_contain_text("failedcontains")
    for card in (parts.nth(1), page.locator("#pane section > .verdict-card").nth(1)):
        expect(card).to_contain_text("passedllm-rubric")
        expect(card).to_contain_text("It <b>is</b> kind.")
        expect(card).to_contain_text("judged byamazon.nova-pro-v1:0")
        expect(card).to_contain_text("its score0.667")
        expect(card).to_contain_text(re.compile(r"tokens\d+ in, \d+ outcost\$0\.\d+"))


def test_a_judge_that_gave_no_verdict_is_shown(bedrock_run: Any, write_job: Any, tmp_path: Path, opened: Open) -> None:
    (tmp_path / "replies.yaml").write_text('[{"match": "<rubric-", "reply": "I would rather not"}]')
    job = write_job("model: amazon.nova-pro-v1:0\nprompt: hello\nassert: [{type: llm-rubric, value: is kind}]")
    assert bedrock_run("--local", "--replies", "replies.yaml", "--report-html", "report.html", job).returncode == 3
    page = opened(tmp_path / "report.html").page
    page.get_by_role("link", name="1", exact=True).click()
    judged = page.locator("#pane section").filter(has_text="Judged without a verdict")
    expect(judged).to_contain_text("I would rather not")
    expect(judged).to_contain_text("judged byamazon.nova-pro-v1:0")


def test_ten_thousand_cases_open_filter_and_scroll(tmp_path: Path, opened: Open) -> None:
    (tmp_path / "photo.png").write_bytes(picture("RGB", (64, 64)))
    photo = image("photo.png", (tmp_path / "photo.png").read_bytes())
    found = [row(number, reason="expected more" if number % 100 == 7 else None) for number in range(10_000)]
    for each in found:
        showing(each, tmp_path, photo)
    report = opened(write(found, tmp_path))
    page = report.page

    def elements() -> int:
        return int(page.evaluate("document.querySelectorAll('*').length"))

    assert report.shown() == "10,000"
    page.select_option("#sort", "position")
    for view in ("Pictures", "List"):
        page.get_by_role("button", name=view).click()
        assert elements() < 2000
        page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
        expect(page.get_by_role("link", name="case-9999")).to_be_in_viewport()
        if view == "Pictures":
            expect(page.locator("#case-9999 img")).to_have_js_property("naturalWidth", 64)
    page.get_by_role("button", name="failed").click()
    assert report.shown() == "100 of 10,000"
    page.get_by_role("button", name="all").click()
    page.fill("#search", '"question 4321" OR "answer 4321"')
    expect(page.locator(".empty")).to_be_visible()
    page.fill("#search", '"answer 4321"')
    expect(page.locator("#shown")).to_have_text("1 of 10,000")
    assert elements() < 2000


def test_on_paper_stand_the_cases_or_the_one_that_is_open(tmp_path: Path, opened: Open) -> None:
    page = opened(write([row(number) for number in range(300)], tmp_path)).page
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    expect(page.locator("#table .case-id")).to_have_count(300)
    expect(page.locator(".controls")).to_be_hidden()
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    page.emulate_media(media="screen")
    page.evaluate("location.hash = '#quiz/case-3'")  # a link in the list may be drawn anew just while it is clicked
    expect(page.locator("#pane")).to_be_visible()
    page.emulate_media(media="print")
    expect(page.locator("main")).to_be_hidden()
    expect(page.locator("#pane")).to_contain_text("Question 3")


def test_the_summary_says_why_a_run_stopped_and_which_thresholds_broke(tmp_path: Path, opened: Open) -> None:
    slow = Threshold(name="p95_latency", comparison="<", limit=0.001, wanted="< 1ms", place=Place("quiz.yaml", 12, 1))

    def told(found: Summary) -> None:
        found.stopped = StopReason(exit_code=ExitCode.STOPPED, message="no <b>money</b>", hint="raise max_cost")
        found.elapsed = 75.0
        found.total.cases = 5
        found.jobs["late"] = JobSummary(name="late", path="late.yaml", output="-", tally=Tally(cases=3))
        found.jobs["quiz"].wanted = (slow,)

    page = opened(write([row(0), row(1, reason="no")], tmp_path, told)).page
    expect(page.locator("h1")).to_have_text("Stopped early; 1 of 2 jobs incomplete: late; 1 of 2 jobs failed: quiz")
    expect(page.locator(".summary")).to_contain_text("no <b>money</b>")
    expect(page.locator(".summary")).to_contain_text("raise max_cost")
    expect(page.locator(".alert-failed")).to_contain_text("p95_latency of quiz: wanted < 1ms, found 101ms quiz.yaml:12")
    expect(page.locator(".tile-cases")).to_contain_text("1 passed, 1 failed, 3 not run")
    expect(page.locator(".tiles")).to_contain_text("1m 15s")
    expect(page.locator(".tiles")).to_contain_text("100ms p50")


def test_the_title_names_the_jobs_that_failed(tmp_path: Path, opened: Open) -> None:
    found = [row(0, job="extract"), row(0, job="tickets", reason="no"), row(0, job="tone")]
    page = opened(write(found, tmp_path)).page
    expect(page.locator("h1")).to_have_text("1 of 3 jobs failed: tickets")
    assert page.title() == "1 of 3 jobs failed: tickets - bedrock-run"
    expect(page.locator(".verdict")).to_contain_text("1 of 3 cases failed.")
    many = [row(0, job=f"job-{number}", reason="no") for number in range(5)]
    page = opened(write(many, tmp_path)).page
    expect(page.locator("h1")).to_have_text("5 of 5 jobs failed: job-0, job-1, job-2 and 2 more")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, "1 call could not be completed"),
        ({"attempts": []}, "1 case could not be asked"),
        ({"output": "a reply"}, "1 reply could not be judged by an assertion or its judge"),
        ({"output": "[]", "attempts": [{**row(0)["attempts"][0], "code": "invalid"}]}, "1 reply could not be repaired"),
    ],
)
def test_an_incomplete_run_says_whether_a_call_or_a_verdict_is_missing(
    changes: dict[str, Any], why: str, tmp_path: Path, opened: Open
) -> None:
    page = opened(write([row(0), in_error(1, **changes)], tmp_path)).page
    expect(page.locator("h1")).to_have_text("Incomplete: quiz")
    expect(page.locator(".verdict")).to_contain_text(f"1 of 2 cases has no verdict: {why}.")


def test_repetitions_that_have_no_row_leave_a_case_without_a_verdict(tmp_path: Path, opened: Open) -> None:
    page = opened(write([row(0, repeats=3, min_pass=3), row(1)], tmp_path)).page
    expect(page.locator(".verdict")).to_contain_text("1 of 2 cases has no verdict: 2 repetitions were not run.")
    expect(page.locator(".tile-cases")).to_contain_text("2 with repetitions")


def test_what_rows_alone_do_not_tell_is_not_said(tmp_path: Path, opened: Open) -> None:
    page = opened(write([row(0)], tmp_path)).page
    expect(page.locator(".verdict")).to_contain_text("All of 1 case passed.")
    expect(page.locator(".summary")).not_to_contain_text("Exit code")


def test_the_figures_are_those_of_the_rows_whichever_run_called_them(
    bedrock_run: Any, write_job: Any, tmp_path: Path, opened: Open
) -> None:
    jobs = [write_job("prompt: one", name=name) for name in ("a.yaml", "b.yaml")]
    for _ in range(2):
        assert bedrock_run("--local", *jobs, "--report-html", "report.html").returncode == 0
    page = opened(tmp_path / "report.html").page
    expect(page.locator(".tiles")).to_contain_text("0 of them by this run, which kept 2 rows of earlier ones")
    figures = page.locator(".jobs td.number").all_text_contents()
    assert len(figures) == 6
    assert not {"", "0"} & set(figures)
    expect(page.locator(".tiles")).to_contain_text("would be billed by Bedrock at the prices of")


def test_a_failure_that_a_threshold_tolerates_is_marked(tolerant: Any, tmp_path: Path, opened: Open) -> None:
    (tmp_path / "report.html").write_bytes((tolerant.folder / "r.html").read_bytes())
    page = opened(tmp_path / "report.html").page
    expect(page.locator("h1")).to_have_text("Passed: job")
    expect(page.locator(".verdict")).to_contain_text("1 case failed, no more than pass_rate allows.")
    expect(page.locator("#table tbody tr").nth(1).locator(".col-status")).to_have_text("failedtolerated")


@pytest.mark.parametrize(("cost", "told"), [(None, "not known"), (0.5, "$0.5000")])
def test_a_cost_is_told_only_where_it_is_known(cost: float | None, told: str, tmp_path: Path) -> None:
    page = write([row(0, cost_usd=cost)], tmp_path).read_text("utf-8")
    assert re.findall(r"<dt>Cost</dt>\s*<dd><strong>(.*?)</strong>", page) == [told]


def test_a_report_of_no_rows_says_so(tmp_path: Path, opened: Open) -> None:
    page = opened(write([], tmp_path)).page
    expect(page.locator("#list")).to_contain_text("There are no rows.")


# --- what rows must not do -------------------------------------------------------------------------------------------


def test_hostile_replies_are_text(tmp_path: Path, opened: Open) -> None:
    found = row()
    # All of them are of one case, since each case that is opened takes its time.
    found["replies"] = [{**found["replies"][0], "text": text} for text in HOSTILE]
    page = opened(write([found], tmp_path), "#quiz/case-0").page
    shown = page.evaluate(
        """() => [...document.querySelectorAll('#pane .turn-assistant')].map((turn) => {
            turn.querySelector('button.more')?.click();
            return (turn.querySelector('pre') ?? turn.lastElementChild).textContent;
        })"""
    )
    assert shown == [plain(text[:LONGEST_TEXT]) or "an empty reply" for text in HOSTILE]


def test_no_other_field_is_markup_either(tmp_path: Path, opened: Open) -> None:
    def spoilt(number: int, whole: str) -> dict[str, Any]:
        text = whole[:1000] or "empty"
        name = f"{text}{number}"
        bad = row(number, reason=text, output=text)
        bad["assertions"][0] |= {"type": text, "expected": text, "actual": text, "value": text}
        bad["attempts"][0] |= {"message": text, "request_id": text}
        bad["replies"][0] |= {"stop_reason": text, "request_id": text}
        error = in_error(number)["error"] | {"message": text, "hint": text, "request_id": text}
        file = {"path": text, "sha256": "0" * 64, "bytes": 1}
        sent = {"media_type": "image/png", "width": 1, "height": 1, "changes": [text, text]}
        message = {
            "role": "user",
            "text": text,
            "images": [{**file, "media_type": "image/png", "sent": sent}],
            "documents": [{**file, "media_type": "application/pdf", "name": "Document 1"}],
            "video": {**file, "media_type": "video/mp4"},
        }
        return bad | {
            "status": "error",
            "error": error,
            "job": text,
            "case": name,
            "model": text,
            "region": text,
            "endpoint": text,
            "stop_reason": text,
            "tags": [text, name],
            "matrix": {text: text, "number": number % 2},
            "vars": {text: text, "nested": {text: [text]}},
            "parsed": {text: text, "nested": {text: [text]}},
            "request": {
                "system": text,
                "messages": [message],
                "inference": bad["request"]["inference"] | {"stop": [text]},
                "extra": {text: text},
            },
            "source": {"path": text, "line": 1, "row": text},
        }

    path = write([spoilt(number, text) for number, text in enumerate(HOSTILE)], tmp_path)
    page = opened(path, viewport={"width": 1000, "height": 150}).page  # to paint more of it takes longest
    for view in ("Side by side", "Pictures", "List"):
        page.get_by_role("button", name=view).click()
    names = page.evaluate(  # opened one by one as the keyboard does
        """async (count) => {
            const names = [];
            const table = document.getElementById('table');
            const press = (key) => table.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true}));
            for (let number = 0; number < count; number++) {
                const arrived = new Promise((resolve) => addEventListener('hashchange', resolve, {once: true}));
                press('j');
                if (number === 0) press('Enter');
                await arrived;
                names.push(document.querySelector('#pane .turn-system').textContent);
            }
            return names;
        }""",
        len(HOSTILE),
    )
    assert len(names) == len(HOSTILE)
    for name in ("iframe", "object", "base", "form", "#pane img", "meta[http-equiv=refresh]", "link[rel=stylesheet]"):
        expect(page.locator(name)).to_have_count(0)
    assert page.locator("script").count() == 2
    shown = page.locator("body").inner_text()
    assert not set(shown) & set("\x1b\x00\u202e\u2066\u2028\ufeff")


def test_markup_that_is_made_by_a_script_could_not_act_either(tmp_path: Path, opened: Open) -> None:
    """The policy holds even where the script had a fault: none of these gets through."""
    report = opened(write([row()], tmp_path))
    tried = report.page.evaluate(
        """() => {
            const failed = [];
            const attempt = (name, act) => { try { act(); } catch { failed.push(name); } };
            attempt('markup', () => { document.body.innerHTML = '<b>x</b>'; });
            attempt('eval', () => { setTimeout('window.__pwned=1'); });
            const script = document.createElement('script');
            attempt('script', () => { script.textContent = 'window.__pwned=1'; document.body.append(script); });
            const image = document.createElement('img');
            image.src = 'https://example.com/x.png';
            document.body.append(image);
            return failed;
        }"""
    )
    assert tried == ["markup", "eval", "script"]
    expect(report.page.locator("h1")).to_be_visible()
    assert report.noise  # all that was refused is told, and nothing got through
    assert not [line for line in report.noise if line.startswith("sent")]
    report.noise.clear()


def test_the_script_never_parses_text_as_markup() -> None:
    script = (ASSETS / "report.js").read_text()
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|\beval\b|Function\(", script
    )


def test_a_page_is_utf8_and_holds_one_script_and_its_data_whatever_rows_say(tmp_path: Path) -> None:
    found = [row(number, output=text, case=f"{number}{text}", job=text or "job") for number, text in enumerate(HOSTILE)]
    page = write(found, tmp_path).read_bytes().decode("utf-8")
    scripts = re.findall(r"<script[^>]*>(.*?)</script", page, re.DOTALL)
    assert len(scripts) == 2
    assert len(re.findall("<script|<!--", page)) == 2
    data = json.loads(scripts[0])
    texts = [each["runs"][0]["replies"][0]["text"] for each in data["cases"]]
    assert sorted(text for text in texts if isinstance(text, str)) == sorted(
        plain(text) for text in HOSTILE if len(text) <= LONGEST_TEXT
    )


# --- what the data holds ---------------------------------------------------------------------------------------------


def test_a_long_text_is_cut_and_says_where_it_is_whole(tmp_path: Path, opened: Open) -> None:
    path = write([row(0, output="y" * 1_000_000, vars={"long": "z" * 50_000})], tmp_path)
    assert path.stat().st_size < 200_000
    page = opened(path, "#quiz/case-0").page
    reply = page.locator("#pane .turn-assistant")
    expect(reply).to_contain_text(f"The whole text has 1,000,000 characters and is in {tmp_path}/rows.jsonl.")
    reply.get_by_role("button", name=f"Show all {LONGEST_TEXT:,} characters").click()
    assert reply.locator("pre").text_content() == "y" * LONGEST_TEXT
    expect(page.locator("#pane .vars")).to_contain_text("50,000 characters")


def test_a_long_prompt_that_cases_share_is_in_the_file_once(tmp_path: Path, opened: Open) -> None:
    prompts = ["A" * 1000, "B" * 1000]
    found = [row(number) for number in range(100)]
    for number, each in enumerate(found):
        each["request"]["system"] = prompts[number % 2]
    path = write(found, tmp_path)
    text = path.read_text("utf-8")
    assert [text.count(prompt) for prompt in prompts] == [1, 1]
    page = opened(path, "#quiz/case-98").page
    assert page.locator("#pane .turn-system pre").text_content() == prompts[0]
    page.keyboard.press("j")
    expect(page.locator("#pane .turn-system pre")).to_have_text(prompts[1])


def test_integers_of_any_length_are_shown_as_they_are(tmp_path: Path) -> None:
    path = write([row(0, vars={"id": 12345678901234567890123})], tmp_path)
    assert data_of(path)["cases"][0]["vars"] == [["id", "12345678901234567890123"]]


# --- charts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "latencies", [[0], [0, 0, 0], [1], [5, 5, 5], [1, 100_000], [*range(1, 2000), 900_000], [3_600_000, 1], [999, 1001]]
)
def test_a_histogram_counts_every_value_within_its_frame(latencies: list[int], tmp_path: Path) -> None:
    found = [row(number, latency_ms=value) for number, value in enumerate(latencies)]
    chart = next(drawings(summary.of_rows(rows_of(found, tmp_path)), Spread()))
    assert isinstance(chart, Histogram)
    assert sum(int(bar.told.split(": ")[1].split()[0].replace(",", "")) for bar in chart.bars) == len(latencies)
    for bar in chart.bars:
        assert chart.left <= bar.x < bar.x + bar.width <= chart.right + 1
        assert chart.top - 0.01 <= bar.y <= bar.y + bar.height <= chart.base + 0.01
    assert all(chart.left <= mark.at <= chart.right for mark in chart.marks)
    assert 2 <= len(chart.x_ticks) <= 12


def test_charts_compare_jobs_and_variants(tmp_path: Path, opened: Open) -> None:
    page = opened(write([*variants(5), row(0, job="cheap", cost_usd=0.0001)], tmp_path)).page
    titles = ["Latency", "Latency by job and variant", "Cost by job and variant", "Tokens by job and variant"]
    assert page.locator(".charts figcaption").all_text_contents() == titles
    cost = page.get_by_role("img", name=re.compile(r"cheap: \$"))
    assert cost.locator(".bar-label").last.text_content() == "cheapcheap"  # and its title
    expect(page.get_by_role("img", name=re.compile("11 answers, half of them up to"))).to_be_visible()


# --- how it looks ----------------------------------------------------------------------------------------------------


def test_text_has_the_contrast_that_wcag_aa_asks_for() -> None:
    css = (ASSETS / "report.css").read_text()
    colours = dict(re.findall(r"--([\w-]+): light-dark\((#\w{6}, #\w{6})\)", css))
    on = {
        "text": ["page", "surface", "raised", "accent-soft", "failed-soft", "error-soft"],
        "dim": ["page", "surface", "raised", "accent-soft", "failed-soft", "error-soft"],
        "accent": ["page", "surface"],
        "passed": ["surface", "raised", "accent-soft"],
        "failed": ["surface", "raised", "accent-soft", "failed-soft"],
        "error": ["page", "surface", "raised", "accent-soft", "error-soft"],
    }
    for theme in (0, 1):
        for text, grounds in on.items():
            for ground in grounds:
                pair = [colours[name].split(", ")[theme] for name in (text, ground)]
                assert (text, ground, contrast(*pair)) >= (text, ground, 4.5)


def contrast(one: str, other: str) -> float:
    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


# --- cases that are found by more than their name --------------------------------------------------------------------


def test_the_address_of_a_case_with_variants_opens_the_first_of_them(tmp_path: Path, opened: Open) -> None:
    tones = [
        row(number, case=f"joke [tone={tone}]", matrix={"tone": tone}) for number, tone in enumerate(("dry", "warm"))
    ]
    page = opened(write(tones, tmp_path), "#quiz/joke").page
    expect(page.locator("#pane")).to_contain_text("tone=dry")


def test_failures_that_are_tolerated_stand_behind_those_that_are_not(tmp_path: Path, opened: Open) -> None:
    found = [row(0, reason="x"), row(1), row(2, reason="x", job="strict"), in_error(3, job="strict")]

    def tolerate(summary: Summary) -> None:
        summary.jobs["quiz"].wanted = (
            Threshold(name="pass_rate", comparison=">=", limit=0.5, wanted=">= 50%", place=Place("quiz.yaml", 1, 1)),
        )

    page = opened(write(found, tmp_path, tolerate))
    assert page.cases() == ["case-3", "case-2", "case-0", "case-1"]
    expect(page.page.locator("#table tbody tr", has_text="case-0")).to_contain_text("tolerated")


def test_a_repair_is_shown_with_what_was_asked_for_it(tmp_path: Path, opened: Open) -> None:
    repaired = row(0, output='{"a": 1}')
    repaired["request"]["response_schema"] = {"schema": {"type": "object", "required": ["a"]}, "sent": "native"}
    (reply,) = repaired["replies"]
    repaired["replies"] = [{**reply, "text": "{}"}, reply]
    page = opened(write([repaired], tmp_path), "#quiz/case-0").page
    *_, question, answer, repair, last = page.locator("#pane .turn").all_text_contents()
    assert (question, "{}" in answer) == ("userQuestion 0", True)
    assert repair.startswith("userasked to repair the replyYour reply does not hold to the JSON Schema")
    assert "'a'" in repair
    assert '{"a": 1}' in last
