"""What rows say that was written beside inputs, found again by its path."""

from __future__ import annotations

import json
from pathlib import Path

from runner.results.sidecars import WrittenSidecars


def test_sidecars_are_found_in_all_files_and_under_former_names(tmp_path: Path) -> None:
    rows = tmp_path / "job.jsonl"
    former = [{"path": "a.old", "sha256": "2"}]
    lines = [{"sidecar": None}, {"sidecar": {"path": "a.txt", "sha256": "1", "former": former}}]
    rows.write_text("\ufeff" + "".join(json.dumps(line) + "\n" for line in lines))
    set_aside = tmp_path / "job.superseded.jsonl"
    set_aside.write_text("".join(f'{{"sidecar":{{"path":"a.txt","sha256":"{digest}"}}}}\n' for digest in (3, 4)))
    written = WrittenSidecars([rows, tmp_path / "missing.jsonl", set_aside])
    assert [*written.digests("a.txt")] == ["1", "4", "3"]
    assert [*written.digests("a.old")] == ["2"]
    assert ("a.old" in written, "b.txt" in written) == (True, False)


def test_lines_that_are_no_rows_tell_of_nothing(tmp_path: Path) -> None:
    rows = tmp_path / "job.jsonl"
    rows.write_text('torn\n[]\n{"sidecar": "x"}\n{"sidecar": {"path": []}}\n{"sidecar":null}\n{"sidecar": {}}')
    assert not WrittenSidecars([rows])
