"""The summary of a run for programs: the object that `--json` prints, described by schemas/summary.schema.json."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from runner import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runner.records.figures import Distribution, Figures
    from runner.running.summary import JobSummary, NotPassed, Summary, Tally
    from runner.thresholds import ThresholdVerdict

SCHEMA: Final = "bedrock-run/summary/1"


def describe(summary: Summary) -> dict[str, Any]:
    """The object as JSON data."""
    return {
        "schema": SCHEMA,
        "version": __version__,
        "exit_code": int(summary.exit_code),
        "complete": summary.complete,
        "local": summary.endpoint_is_local,
        "stopped": None
        if summary.stopped is None
        else {"message": summary.stopped.message, "hint": summary.stopped.hint},
        "elapsed_s": round(summary.elapsed, 3),
        "lost_calls": summary.lost_calls,
        "set_aside": summary.set_aside,
        "unwritten_sidecars": summary.unwritten_sidecars,
        "total": {**_cases(summary), **_tally(summary.total, replay=summary.replay)},
        "jobs": [_job(job, replay=summary.replay) for job in summary.jobs.values()],
    }


def _job(job: JobSummary, *, replay: bool) -> dict[str, Any]:
    figures = job.figures
    return {
        "name": job.name,
        "path": job.path,
        "output": job.output,
        "repeat": job.repeat,
        "min_pass": job.min_pass,
        **_cases(job),
        "failed_case_ids": _ids(job.failed),
        "error_case_ids": _ids(job.in_error),
        **_tally(job.tally, replay=replay),
        **_latencies(figures),
        "thresholds": [_threshold(verdict) for verdict in job.thresholds] if job.settled else None,
        "variants": [{"variant": label, **_variant(of_variant)} for label, of_variant in job.variants.items()],
    }


def _cases(run: Summary | JobSummary) -> dict[str, int]:
    """Of cases, each counted once however often it is repeated."""
    figures = run.figures
    return {
        "passed_cases": figures.passed,
        "failed_cases": figures.failed,
        "error_cases": figures.errors,
        "cut_cases": run.cut_cases,
        "unreached_cases": run.pending_cases,
    }


def _ids(cases: Mapping[str, NotPassed]) -> list[str]:
    return [case.case for case in sorted(cases.values(), key=lambda case: case.index)]


def _threshold(verdict: ThresholdVerdict) -> dict[str, Any]:
    return {
        "name": verdict.name,
        "wanted": verdict.wanted,
        "found": verdict.found,
        "held": verdict.held,
        "path": verdict.path,
        "line": verdict.line,
    }


def _variant(figures: Figures) -> dict[str, Any]:
    return {
        "cases": figures.cases,
        "passed": figures.passed,
        "failed": figures.failed,
        "errors": figures.errors,
        "input_tokens": figures.usage.input_tokens,
        "output_tokens": figures.usage.output_tokens,
        "cost_usd": _rounded(figures.cost_usd),
        "unpriced_rows": figures.unpriced,
        **_latencies(figures),
    }


def _latencies(figures: Figures) -> dict[str, Any]:
    return {"latency_ms": _percentiles(figures.latencies), "first_token_ms": _percentiles(figures.first_tokens)}


def _percentiles(latencies: Distribution) -> dict[str, float | None]:
    return {f"p{percent}": latencies.percentile(percent) for percent in (50, 95, 99)}


def _tally(tally: Tally, *, replay: bool) -> dict[str, Any]:
    return {
        "cases": tally.cases,
        "kept": tally.kept,
        "called": 0 if replay else tally.called,
        "continued": tally.continued,
        "not_asked": 0 if replay else tally.unasked,
        "without_row": tally.not_kept if replay else 0,
        "passed": tally.passed,
        "failed": tally.failed,
        "errors": tally.errors,
        "pending": tally.pending,
        "calls": tally.calls,
        "retries": tally.retries,
        "sufficient_max_tokens": tally.sufficient_max_tokens,
        "possibly_billed_attempts": tally.possibly_billed,
        "input_tokens": tally.usage.input_tokens,
        "output_tokens": tally.usage.output_tokens,
        "cache_read_tokens": tally.usage.cache_read_tokens,
        "cache_write_tokens": tally.usage.cache_write_tokens,
        "cost_usd": _rounded(tally.cost_usd),
        "unpriced_rows": tally.unpriced,
    }


def _rounded(usd: float | None) -> float | None:
    return None if usd is None else round(usd, 9)
