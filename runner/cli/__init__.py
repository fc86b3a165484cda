"""The command line: options -> values -> one call -> an exit code. What a command needs is imported when it runs."""

from __future__ import annotations

import gc
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, TextIO, cast

import click

from runner import __version__
from runner.cli.diff import diff
from runner.cli.emulate import emulate
from runner.cli.jobs import render, schema, validate
from runner.cli.report import report
from runner.cli.run import run
from runner.console import Patient, no_command, on_terminal, render_problems, say
from runner.errors import ExitCode, Problem, SignalledError, UsageError
from runner.words import nearest

if TYPE_CHECKING:
    from collections.abc import Sequence


class _RunByDefault(click.Group):
    """`bedrock-run JOB.yaml` is `bedrock-run run JOB.yaml`: the word `run` may be left out."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in {"--help", "-h", "--version"}:
            self._refuse_misspelt_command(args[0])
            args = ["run", *args]
        return super().parse_args(ctx, args)

    def _refuse_misspelt_command(self, word: str) -> None:
        if word.isalpha() and not Path(word).exists():
            meant = nearest(word, self.commands, likeness=0.7)
            hint = f"did you mean `{meant}`?" if meant else f"the commands are {', '.join(sorted(self.commands))}"
            raise UsageError(Problem(f"there is no command or job file `{word}`", hint=hint))


@click.group(
    cls=_RunByDefault,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 all passed; 1 an assertion or a threshold failed; 2 wrong usage, nothing sent; 3 some cases "
    "without a reply; 4 stopped early (credentials, access, budget, failures); 70 a bug; 129, 130, 143 stopped by a "
    "signal.",
)
@click.version_option(__version__, prog_name="bedrock-run")
def cli() -> None:
    """Run prompts declared in YAML against models on AWS Bedrock, and keep the replies as JSONL.

    The word `run` may be left out: bedrock-run prompts/*.yaml
    """


for _command in (run, validate, render, report, diff, emulate, schema):
    cli.add_command(_command)


def main() -> None:
    """The entry point: every way out of the program is an exit code of the design."""
    gc.set_threshold(100_000)  # a start leaves next to no garbage: to look for it takes a tenth of the time to a call
    code = _run_to_exit_code()
    for stream in (sys.stdout, sys.stderr):
        _let_go(stream)
    gc.freeze()  # all memory goes with the process: Python need not look through it for garbage, which takes 30 ms
    sys.exit(int(code or ExitCode.OK))


def _let_go(stream: TextIO | None) -> None:
    """Python flushes its streams at its end and changes the exit code if nobody reads them any more."""
    if stream is None:
        return
    try:
        stream.flush()
    except (OSError, ValueError):
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _run_to_exit_code() -> int | None:
    code: int | None
    try:
        code = cli.main(standalone_mode=False)
    except UsageError as error:
        code = _tell(error.problems)
    except click.ClickException as error:
        error.show(cast("IO[str]", Patient()))
        code = ExitCode.USAGE
    except SignalledError as error:
        say(error.message)
        code = error.exit_code
    except (KeyboardInterrupt, click.Abort):
        say("interrupted")
        code = ExitCode.INTERRUPTED
    except OSError as error:
        say(f"stopped: {error.strerror or error}" + (f": {error.filename}" if error.filename else ""))
        code = ExitCode.STOPPED
    except Exception:
        code = _tell_of_bug()
    return code


def _tell(problems: Sequence[Problem]) -> ExitCode:
    def style(text: str, kind: str) -> str:
        return click.style(text, bold=True, fg=None if kind == "bold" else kind)

    plain_text = os.environ.get("NO_COLOR") or not on_terminal()
    text = render_problems(problems) if plain_text else render_problems(problems, style=style)
    Patient().write(f"{no_command(text)}\n")
    if len(problems) > 1:
        say(f"\n{len(problems)} problems" + ("; nothing was sent" if _may_send() else ""))
    return ExitCode.USAGE


def _may_send() -> bool:
    """Whether the command is one that calls models, so that a person asks what it has sent."""
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    return cli.commands.get(word, run) is run  # which may be left out


def _tell_of_bug() -> ExitCode:
    import traceback

    say(traceback.format_exc())
    say("This is a bug in bedrock-run. Rows that were written are kept.")
    return ExitCode.BUG
