"""JUnit reports: what they say of real rows, and that they are valid whatever a model has said."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from junitparser import JUnitXml
from lxml import etree

from runner.errors import Place
from runner.records import Threshold
from runner.report import junit
from runner.report.rows import Rows
from runner.running import summary as summaries
from runner.running.summary import Summary

TONES = ("dry", "warm")  # the variants of the mixed job
SCHEMA = etree.XMLSchema(etree.parse(Path(__file__).parent / "junit.xsd"))


def report(*files: Path, change: Callable[[Summary], None] = lambda _: None) -> Any:
    """The report of these rows, checked against the schema, as an element. `change` may change the summary before."""
    rows = Rows(files)
    summary = summaries.of_rows(rows)
    change(summary)
    out = io.StringIO()
    junit.write(out, rows, summary)
    return checked(out.getvalue().encode())


def checked(xml: bytes) -> Any:
    root = etree.fromstring(xml, etree.XMLParser(huge_tree=True))
    SCHEMA.assertValid(root)
    return root


def case(root: Any, name: str) -> Any:
    (found,) = root.xpath("//testcase[@name=$name]", name=name)
    return found


@pytest.mark.usefixtures("at_the_job")
def test_each_job_is_a_suite_and_each_case_a_testcase_with_its_verdict(mixed_rows: Path) -> None:
    root = report(mixed_rows)
    (suite,) = root
    assert dict(suite.attrib).items() >= {"name": "mixed", "tests": "12", "failures": "5", "errors": "2"}.items()
    assert suite.get("file") == "job.yaml"
    verdicts = {found.get("name"): [child.tag for child in found] for found in root.iter("testcase")}
    expected = {"right": [], "wrong": ["failure"], "refused": ["error"], "flaky": [], "hostile": ["failure"]}
    assert verdicts == {
        "differs [tone=dry]": ["system-out"],
        "differs [tone=warm]": ["failure", "system-out"],
        **{f"{name} [tone={tone}]": [*tags, "system-out"] for name, tags in expected.items() for tone in TONES},
    }


def test_a_failure_lists_what_was_expected_and_found_and_where_it_is_asserted(mixed_rows: Path) -> None:
    failure = case(report(mixed_rows), "wrong [tone=dry]").find("failure")
    assert failure.get("type") == "contains"
    assert failure.get("message") == (
        "expected output to contain 'Paris': got 'London, not Rome.' (and 3 more)"  # 2 assertions, 2 repetitions
    )
    assert "job.yaml:16: contains failed (repetition 1 of 2)\n    expected: output to contain 'Paris'\n" in failure.text
    assert "job.yaml:17: not-contains failed (repetition 2 of 2)\n" in failure.text
    assert "    actual: got 'London, not Rome.'\n    request id: " in failure.text


@pytest.mark.usefixtures("at_the_job")
def test_an_error_tells_what_failed_with_its_request_id(mixed_rows: Path) -> None:
    error = case(report(mixed_rows), "refused [tone=warm]").find("error")
    assert error.get("type") == "invalid"
    assert error.get("message") == "ValidationException: too <b>bold</b>"
    lines = error.text.splitlines()
    assert lines[:3] == [
        "job.yaml:12: error (repetition 1 of 2): invalid",
        "    message: ValidationException: too <b>bold</b>",
        "    http status: 400",
    ]
    assert re.fullmatch(r"    request id: [0-9a-f-]{36}", lines[3])


def test_a_case_says_which_model_answered_at_what_cost_and_what(mixed_rows: Path) -> None:
    text = case(report(mixed_rows), "right [tone=warm]").findtext("system-out")
    for fact in ("model: amazon.nova-lite-v1:0", "matrix: tone=warm", "tags: smoke", "repetition: 2 of 2"):
        assert f"\n{fact}\n" in text
    assert re.search(r"\ncost_usd: 0\.0000\d+\n", text)
    assert text.endswith("\n\nIt is Paris.")


def test_the_suite_has_properties(mixed_rows: Path) -> None:
    root = report(mixed_rows)
    properties = {found.get("name"): found.get("value") for found in root.iter("property")}
    rows = list(Rows([mixed_rows]))
    assert properties["model"] == "amazon.nova-lite-v1:0"
    assert properties["endpoint"] == "local"
    assert int(properties["output_tokens"]) == sum(row["usage"]["output_tokens"] for row in rows if row["usage"])
    assert float(properties["cost_usd"]) == pytest.approx(sum(row["cost_usd"] or 0 for row in rows))
    seconds = sum(float(found.get("time")) for found in root.iter("testcase"))
    assert float(root[0].get("time")) == pytest.approx(seconds)


def test_junitparser_reads_it_back(mixed_rows: Path, tmp_path: Path) -> None:
    (tmp_path / "junit.xml").write_bytes(etree.tostring(report(mixed_rows)))
    (suite,) = JUnitXml.fromfile(str(tmp_path / "junit.xml"))
    assert (suite.tests, suite.failures, suite.errors) == (12, 5, 2)
    assert sum(not found.is_passed for found in suite) == 7


def test_a_long_reply_is_cut_and_says_so(edited: Any) -> None:
    file = edited(lambda row: {**row, "output": "x" * 10_500}, slice(1))
    text = next(report(file).iter("testcase")).findtext("system-out")
    assert text.count("x") == 10_000 + "max".count("x")
    assert text.endswith("… (500 more characters are in the row)")


def test_every_hostile_text_leaves_the_report_valid(hostile: str, edited_hostile: Path) -> None:
    root = report(edited_hostile)
    texts = [*root.itertext(), *(value for found in root.iter() for value in found.attrib.values())]
    assert not re.search(r"\[\[\s*attachment", "".join(texts), re.IGNORECASE)
    assert "\x1b" not in "".join(texts)


def test_what_xml_cannot_hold_is_spelled_out(edited: Any) -> None:
    file = edited(lambda row: {**row, "output": "a\x00b\x1bc\ud800d\ufffee]]>f::g##[h"}, slice(1))
    text = next(report(file).iter("testcase")).findtext("system-out")
    assert text.endswith(r"a\x00b\x1bc\ud800d\ufffee]]>f::g##[h")


def test_no_line_of_it_is_a_command_of_ci(edited: Any) -> None:
    rows = Rows([edited(lambda row: {**row, "output": "::error::x\n  ::y::z ##[error]a ##vso[b]c"})])
    out = io.StringIO()
    junit.write(out, rows, summaries.of_rows(rows))
    assert not re.search(r"^\s*::|##\w*\[", out.getvalue(), re.MULTILINE)


def test_a_stopped_run_is_an_error_that_says_how_much_is_missing(
    bedrock_run: Any, write_job: Any, tmp_path: Path
) -> None:
    cases = "\n".join(f"  - {{id: case-{number}}}" for number in range(5))
    job = write_job(f"prompt: x\ncases:\n{cases}\nassert: [{{type: contains, value: never}}]")
    done = bedrock_run("--local", "-j", "1", "--max-failures", "2", "--report-junit", "junit.xml", job)
    assert done.returncode == 4, done.stderr
    root = checked((tmp_path / "junit.xml").read_bytes())
    (suite,) = root
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("3", "2", "1")
    (error,) = case(root, "(run)")
    assert error.get("message").startswith("the run stopped: ")
    assert error.get("message").endswith("3 of 5 cases were not reached")


def test_a_run_that_got_nowhere_has_an_error_for_every_job(bedrock_run: Any, write_job: Any, tmp_path: Path) -> None:
    jobs = [write_job("prompt: x", "one.yaml"), write_job("prompt: y", "two.yaml")]
    done = bedrock_run(*jobs, "--report-junit", "junit.xml", "--report-markdown", "report.md")
    assert done.returncode == 4, "there are no credentials"
    root = checked((tmp_path / "junit.xml").read_bytes())
    assert [suite.get("errors") for suite in root] == ["1", "1"]
    (message, _) = root.xpath("//testcase[@name='(run)']/error/@message")
    assert message.startswith("the run stopped: credentials: ")
    assert "\nThe run stopped early: `credentials: " in (tmp_path / "report.md").read_text()


def test_a_case_whose_repetitions_are_missing_has_not_passed(edited: Any) -> None:
    file = edited(lambda row: {**row, "min_pass": 2}, slice(1))
    (error,) = report(file).iter("error")
    assert error.get("type") == "missing"
    assert error.get("message") == "1 repetition has no row"


def test_a_threshold_that_does_not_hold_is_a_failure(mixed_rows: Path) -> None:
    def break_one(summary: Summary) -> None:
        wanted = Threshold(
            name="pass_rate", comparison=">=", limit=0.95, wanted=">= 0.95", place=Place("job.yaml", 4, 1)
        )
        summary.jobs["mixed"].wanted = (wanted,)

    root = report(mixed_rows, change=break_one)
    (failure,) = case(root, "(thresholds)").iter("failure")
    assert failure.text == "job.yaml:4: pass_rate is 41.67% (5 of 12 cases), wanted >= 0.95"
    assert root[0].get("failures") == "6"


def test_rows_of_several_jobs_are_several_suites(mixed_rows: Path, edited: Any) -> None:
    other = edited(lambda row: {**row, "job": "other"}, slice(3))
    assert [(suite.get("name"), suite.get("tests")) for suite in report(mixed_rows, other)] == [
        ("mixed", "12"),
        ("other", "2"),
    ]


def test_a_failure_that_a_threshold_tolerates_is_skipped_as_an_expected_one_and_tells_what_failed(
    tolerant: Any,
) -> None:
    root = checked((tolerant.folder / "r.xml").read_bytes())
    assert [root[0].get(name) for name in ("tests", "failures", "errors", "skipped")] == ["2", "0", "0", "1"]
    skipped = case(root, "bad").find("skipped")
    assert skipped.get("message").startswith("failed, as pass_rate allows: expected output to contain 'one'")
    assert "job.yaml:5: contains failed\n    expected: output to contain 'one'\n" in skipped.text
    later = report(tolerant.folder / "outputs" / "job.jsonl")
    assert case(later, "bad").find("failure") is not None, "rows do not tell of thresholds"
