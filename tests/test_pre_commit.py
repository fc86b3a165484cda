"""The hook that other repositories use with pre-commit runs a command that exists, on the files that are jobs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from runner.cli import cli

HOOKS = Path(__file__).parents[1] / ".pre-commit-hooks.yaml"


@pytest.mark.skipif(not HOOKS.exists(), reason="only in a checkout")
def test_the_hook_validates_the_jobs_of_a_repository() -> None:
    (hook,) = yaml.safe_load(HOOKS.read_text())
    program, name, *options = hook["entry"].split()
    assert program == "bedrock-run"
    cli.commands[name].make_context(name, [*options, "prompts/tutor.yaml", "prompts/basic.yaml"])
    chosen = [path for path in ("prompts/tutor.yaml", "prompts/a/b.yml", "docs/x.yaml", "prompts/rows.csv")
              if re.search(hook["files"], path)]  # fmt: skip
    assert chosen == ["prompts/tutor.yaml", "prompts/a/b.yml"]
