"""`bedrock-run emulate`."""

from __future__ import annotations

from typing import Any

import click

from runner.cli import options
from runner.console import say
from runner.errors import ExitCode, Problem, UsageError


def _duration(_ctx: click.Context, _option: click.Parameter, value: str) -> float:
    from runner import times

    try:
        return times.seconds(value)
    except ValueError:
        raise click.BadParameter(f"{value} is not a duration such as 500ms, 2s or 1m") from None


def _shares(_ctx: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> dict[str, float]:
    """`throttle` or `throttle=0.1`: the name of a fault and the share of calls that meet it."""
    shares = {}
    for value in values:
        name, equals, share = value.partition("=")
        try:
            shares[name] = float(share) if equals else 1.0
        except ValueError:
            raise click.BadParameter(f"{value} is not NAME=SHARE, for example throttle=0.1") from None
    return shares


def _list_faults(ctx: click.Context, _option: click.Parameter, value: bool) -> None:  # noqa: FBT001 - click's signature
    if not value:
        return
    from runner.emulator import FAULTS

    width = max(map(len, FAULTS))
    for name, meaning in FAULTS.items():
        click.echo(f"{name:<{width}}  {meaning}")
    ctx.exit()


@click.command()
@click.option("--host", metavar="HOST", default="127.0.0.1", show_default=True, help="Address to serve on.")
@click.option(
    "--port", metavar="N", type=click.IntRange(0, 65535), default=4599, show_default=True, help="0 takes any free port."
)
@options.replies
@click.option(
    "--latency",
    metavar="TIME",
    callback=_duration,
    default="0s",
    show_default=True,
    help="Time to the first byte of a reply.",
)
@click.option(
    "--pace",
    metavar="TIME",
    callback=_duration,
    default="0s",
    show_default=True,
    help="Time between the events of a stream.",
)
@click.option(
    "--rpm", metavar="N", type=float, help="Requests per minute that are granted, per model and region.  [default: any]"
)
@click.option(
    "--tpm",
    metavar="N",
    type=float,
    help="Tokens per minute that are granted, reserved as Bedrock does.  [default: any]",
)
@click.option(
    "--burst",
    metavar="TIME",
    callback=_duration,
    default="1m",
    show_default=True,
    help="How much of a quota may be used at once: what it grants in this time.",
)
@click.option(
    "--fault",
    "faults",
    metavar="NAME=SHARE",
    callback=_shares,
    multiple=True,
    help="Make this share of the calls fail so, all of them without =SHARE; repeatable. --faults lists the names.",
)
@click.option(
    "--faults",
    "list_faults",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_list_faults,
    help="List the faults and exit.",
)
@click.option("--seed", metavar="N", type=int, default=0, show_default=True, help="Decides which calls meet a fault.")
@click.option("--access-key-id", metavar="ID", help="The only access key that is accepted.  [default: any]")
@click.option("--secret-access-key", metavar="KEY", help="Verify SigV4 signatures with it.  [default: not verified]")
@click.option("--bearer-token", metavar="TOKEN", help="The only bearer token that is accepted.  [default: any]")
@click.option("-v", "--verbose", is_flag=True, help="Print a line for each request.")
def emulate(*, faults: dict[str, float], rpm: float | None, tpm: float | None, **given: Any) -> int:
    """Serve the local Bedrock emulator until stopped.

    Point any client at it: AWS_ENDPOINT_URL_BEDROCK_RUNTIME and AWS_ENDPOINT_URL_BEDROCK, with any credentials.
    """
    from runner import emulator

    verbose = given.pop("verbose")
    try:
        settings = emulator.Settings(
            faults=faults,
            requests_per_minute=rpm,
            tokens_per_minute=tpm,
            log=say if verbose else None,
            **given,
        )
        emulator.serve(settings, ready=_tell_where)
    except emulator.SettingsError as error:
        raise UsageError(*(Problem(line) for line in str(error).splitlines())) from None
    return ExitCode.OK


def _tell_where(url: str) -> None:
    click.echo(f"Serving a local Bedrock emulator on {url} (Ctrl-C stops it). Point clients at it with:", err=True)
    click.echo(f"export AWS_ENDPOINT_URL_BEDROCK_RUNTIME={url} AWS_ENDPOINT_URL_BEDROCK={url}")
