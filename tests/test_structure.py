"""How the package hangs together: its parts depend on each other in one direction, and the emulator on none of them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import runner

ROOT = Path(runner.__file__).parent
README = Path(__file__).parents[1] / "README.md"


def part(module: str) -> str:
    """The package or module of `runner` that a module belongs to: `runner.report.html` is in `report`."""
    return module.split(".")[1] if "." in module else module


def imports(file: Path) -> Iterator[str]:
    """The modules of `runner` that a file imports when it runs, at once or later."""
    waiting: list[ast.AST] = [ast.parse(file.read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.ImportFrom) and node.module == "runner":
            yield from (f"runner.{alias.name}" for alias in node.names if alias.name != "__version__")
        elif isinstance(node, ast.ImportFrom) and str(node.module).startswith("runner."):
            yield str(node.module)
        waiting += ast.iter_child_nodes(node)


def dependencies() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for file in ROOT.rglob("*.py"):
        mine = file.relative_to(ROOT).parts[0].removesuffix(".py")
        found.setdefault(mine, set()).update(part(module) for module in imports(file) if part(module) != mine)
    return found


def test_parts_depend_on_each_other_in_one_direction() -> None:
    order = list(TopologicalSorter(dependencies()).static_order())  # raises CycleError, which names the parts
    assert order.index("errors") < order.index("records") < order.index("running") < order.index("cli")


def test_the_emulator_shares_no_code_with_what_calls_it() -> None:
    assert not dependencies()["emulator"]


def test_the_readme_tells_of_each_package() -> None:
    table = README.read_text(encoding="utf-8").split("| in `runner/` | |")[1].split("\n\n")[0]
    assert {path.parent.name for path in ROOT.glob("*/__init__.py")} <= set(re.findall(r"`(\w+)`", table))
