"""The README is true: what it names exists, what it shows runs, what exists it names."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from runner import pytest_plugin
from runner.cli import cli
from runner.emulator import FAULTS
from runner.errors import ExitCode

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PLUGIN = Path(pytest_plugin.__file__).read_text()
PLUGIN_OPTIONS = set(re.findall(r'"(--bedrock-[a-z-]+)"', PLUGIN))
COMMANDS = sorted(cli.commands.items())


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


@pytest.mark.parametrize(("name", "command"), COMMANDS)
def test_every_command_is_in_the_readme_and_explains_itself(name: str, command: click.Command) -> None:
    assert f"bedrock-run {name}" in README
    assert command.help
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{name} {parameter.opts}"


def test_every_option_that_the_readme_names_exists() -> None:
    known = {option for _, command in COMMANDS for parameter in command.params for option in parameter.opts}
    own = re.sub(r"\n(aws|python3) (?!-m uv run --no-dev bedrock-run).*?(?=\n\n|```)", "", README, flags=re.DOTALL)
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", own)) - {"--help"}
    of_others = {"--message", "--messages", "--model-id", "--junitxml", "--lf"}
    assert named - known - PLUGIN_OPTIONS <= of_others, named - known


def test_every_option_of_the_pytest_plugin_is_in_the_readme() -> None:
    assert PLUGIN_OPTIONS
    for option in PLUGIN_OPTIONS | set(re.findall(r'addini\(\s*"(\w+)"', PLUGIN)):
        assert f"`{option}" in README or f"\n{option}" in README, option


def test_every_exit_code_is_in_the_readme() -> None:
    for code in ExitCode:
        assert re.search(rf"^\| [\d, ]*\b{int(code)}\b", README, flags=re.MULTILINE), code


def test_the_faults_it_shows_exist() -> None:
    shown = re.findall(r"--fault ([a-z-]+)|^ +fault: ([a-z-]+)", README, flags=re.MULTILINE)
    assert shown
    assert {name for pair in shown for name in pair if name} <= set(FAULTS)


def test_the_example_job_runs(bedrock_run: Any, rows: Any, tmp_path: Path) -> None:
    (example,) = (block for block in blocks("yaml") if "name: my-tutor" in block)
    (tmp_path / "my-tutor.yaml").write_text(example)
    shutil.copytree(ROOT / "prompts" / "images", tmp_path / "images")
    done = bedrock_run("--local", "my-tutor.yaml")
    assert done.returncode == 0, done.stderr
    assert rows("my-tutor")[0]["case"] == "squares"


def test_the_example_output_is_what_is_printed(bedrock_run: Any) -> None:
    (example,) = (block for block in blocks("text") if "rows: outputs/basic.jsonl" in block)
    told = bedrock_run("--local", *sorted((ROOT / "prompts").glob("*.yaml"))).stderr
    _, tokens, *files = example.removesuffix("...\n").splitlines()
    assert tokens in told
    assert all(line in told for line in files)


def test_the_example_replies_work(bedrock_run: Any, rows: Any, write_job: Any, tmp_path: Path) -> None:
    (example,) = (block for block in blocks("yaml") if "- match:" in block)
    (tmp_path / "replies.yaml").write_text(example)
    job = write_job("prompt: What is the capital of France?")
    assert bedrock_run("--local", "--replies", "replies.yaml", job).returncode == 0
    assert rows()[0]["output"] == "Paris"


def test_the_example_problem_is_what_is_printed(bedrock_run: Any, tmp_path: Path) -> None:
    (example,) = (block for block in blocks("text") if "unknown key" in block)
    (tmp_path / "prompts").mkdir()
    lines = ["#"] * 5 + ["model: m.n", "inference: {maxTokens: 1024}", "prompt: x"]
    (tmp_path / "prompts" / "tutor.yaml").write_text("\n".join(lines))
    assert bedrock_run("validate", "prompts/tutor.yaml").stderr == example


def test_the_commands_it_shows_parse() -> None:
    shown = re.findall(r"^(?:.* uv run --no-dev )?(bedrock-run .*)$", "\n".join(blocks("bash")), flags=re.MULTILINE)
    assert len(shown) >= 4
    for line in [*shown, *commands_of_the_workflow()]:
        _, *arguments = line.partition("#")[0].split()
        if arguments[0] not in cli.commands:
            arguments.insert(0, "run")
        cli.commands[arguments[0]].make_context(arguments[0], arguments[1:])


def commands_of_the_workflow() -> list[str]:
    (workflow,) = (yaml.safe_load(block) for block in blocks("yaml") if "runs-on:" in block)
    job = workflow["jobs"]["prompts"]
    script = "\n".join(step["run"] for step in job["steps"] if "run" in step).replace("$REPORTS", job["env"]["REPORTS"])
    found = [line.partition(" || ")[0] for line in script.splitlines() if line.startswith("bedrock-run")]
    assert len(found) == 3
    return found


def test_help_needs_nothing_heavy() -> None:
    script = "import sys; import runner.cli; print([m for m in sys.modules if m in set(sys.argv[1:])])"
    heavy = ["boto3", "botocore", "aiohttp", "rich", "PIL", "jinja2", "jsonschema", "yaml", "asyncio"]
    done = subprocess.run([sys.executable, "-c", script, *heavy], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_validating_needs_neither_aws_nor_images_nor_a_terminal() -> None:
    script = (
        "import sys; from pathlib import Path; from runner.cases import loading\n"
        "loading.load([Path('prompts/basic.yaml')]); print([m for m in sys.modules if m in set(sys.argv[1:])])"
    )
    heavy = ["boto3", "botocore", "aiohttp", "rich", "PIL"]
    done = subprocess.run([sys.executable, "-c", script, *heavy], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"
