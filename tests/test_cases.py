"""Which cases a job has, in which order and by which names; what they are asked, and its key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runner.cases.loading import load
from runner.cases.plan import CaseList, Selection
from runner.cases.rendering import Renderer
from runner.console import full_name
from runner.errors import UsageError
from runner.jobs.job import Overrides
from runner.records import Case


def listed(path: Path, **choices: Any) -> list[Case]:
    (cases,) = load([path], **choices)
    made = [Renderer(cases.job).case(chosen) for chosen in cases]
    assert cases.count() == len(made)
    return made


def names(path: Path, **choices: Any) -> list[str]:
    return [case.id for case in listed(path, **choices)]


@pytest.fixture
def table(tmp_path: Path, write_job: Any) -> Path:
    (tmp_path / "rows.csv").write_text("id,word\na,one\nb,two\nc,three\n")
    path: Path = write_job("prompt: 'Say {{ word }}'\ncases: rows.csv")
    return path


def test_a_job_without_cases_is_one(write_job: Any) -> None:
    assert names(write_job("prompt: x")) == ["1"]


def test_rows_of_a_file_are_cases(table: Path) -> None:
    cases = listed(table)
    assert [(case.id, case.index, case.request.messages[0].text) for case in cases] == [
        ("a", 0, "Say one"),
        ("b", 1, "Say two"),
        ("c", 2, "Say three"),
    ]
    assert cases[0].vars == {"id": "a", "word": "one"}


def test_without_an_id_the_position_is_the_name(tmp_path: Path, table: Path) -> None:
    (tmp_path / "rows.csv").write_text("word\none\n\ntwo\n")
    assert names(table) == ["1", "2"]


def test_matrix_and_repetitions_go_with_each_row(tmp_path: Path, write_job: Any) -> None:
    (tmp_path / "rows.csv").write_text("id\na\nb\n")
    path = write_job(
        "prompt: '{{ id }} {{ n }}'\nmatrix: {n: [1, 2], temperature: [0, 0.5]}\nrepeat: 2\ncases: rows.csv"
    )
    cases = listed(path)
    assert len(cases) == len({case.key for case in cases}) == 16
    assert [(case.id, case.index, case.repeat) for case in cases[:5]] == [
        ("a [n=1, temperature=0]", 0, 0),
        ("a [n=1, temperature=0]", 0, 1),
        ("a [n=1, temperature=0.5]", 1, 0),
        ("a [n=1, temperature=0.5]", 1, 1),
        ("a [n=2, temperature=0]", 2, 0),
    ]
    assert cases[2].matrix == {"n": 1, "temperature": 0.5}
    assert cases[2].request.inference.temperature == 0.5


def test_a_matrix_without_cases_names_its_combinations(write_job: Any) -> None:
    assert names(write_job("prompt: '{{ n }}'\nmatrix: {n: [1, x]}")) == ["n=1", "n=x"]


@pytest.mark.parametrize(
    ("selection", "chosen"),
    [
        (Selection(), "abc"),
        (Selection(limit=2), "ab"),
        (Selection(ids=frozenset({"c", "a"})), "ac"),
        (Selection(filters=("[bc]",)), "bc"),
        (Selection(filters=("b", "a"), limit=1), "a"),
        (Selection(tags=frozenset({"smoke"})), "abc"),
        (Selection(tags=frozenset({"smoke"}), limit=1), "a"),
    ],
)
def test_choosing(selection: Selection, chosen: str, table: Path) -> None:
    table.write_text(table.read_text() + "\ntags: [smoke]\n")
    assert names(table, selection=selection) == list(chosen)


def test_a_filter_may_name_the_row_or_one_of_its_combinations(table: Path) -> None:
    table.write_text(table.read_text() + "\nmatrix: {temperature: [0, 1]}\n")
    assert names(table, selection=Selection(filters=("b",))) == ["b [temperature=0]", "b [temperature=1]"]
    told = full_name(load([table])[0].job.name, "b [temperature=0]")
    assert names(table, selection=Selection(filters=(told,))) == ["b [temperature=0]"], "as a run calls it"
    assert names(table, selection=Selection(filters=("*temperature=1]",), limit=2)) == [
        "a [temperature=1]",
        "b [temperature=1]",
    ]


def test_nothing_chosen_names_what_there_is(table: Path) -> None:
    with pytest.raises(UsageError) as caught:
        load([table], selection=Selection(filters=("z*",)))
    assert caught.value.problems[0].hint == "the cases are: a, b, c; the tags are: none"


def test_values_of_the_command_line_win_over_those_of_a_row(table: Path) -> None:
    cases = listed(table, overrides=Overrides(vars={"word": "nine"}))
    assert {case.request.messages[0].text for case in cases} == {"Say nine"}


def test_files_that_match_a_glob_are_cases_named_by_their_path(tmp_path: Path, write_job: Any) -> None:
    for name in ("b.txt", "a.txt", "sub/c.txt", ".hidden.txt", "d.md"):
        (tmp_path / "texts" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "texts" / name).write_text("x")
    cases = listed(write_job("prompt: '{{ file.stem }} {{ file.suffix }}'\ncases: {glob: 'texts/**/*.txt'}"))
    assert [(case.id, case.request.messages[0].text) for case in cases] == [
        ("texts/a.txt", "a .txt"),
        ("texts/b.txt", "b .txt"),
        ("texts/sub/c.txt", "c .txt"),
    ]


@pytest.mark.parametrize(
    ("job", "told"),
    [
        ("prompt: '{{ word }}'\ncases: nowhere.csv", "there is no file"),
        ("prompt: '{{ word }}'\ncases: rows.docx", "`.docx` is no format of data files"),
        ("prompt: x\ncases: {glob: '*.jpg'}", "no file matches `*.jpg`"),
        ("prompt: '{{ wrod }}'\ncases: rows.csv", "undefined variable: `wrod`"),
        ("prompt: '{{ fiel.path }}'\ncases: {glob: '*.csv'}", "undefined variable: `fiel`"),
        ("prompt: x\nmatrix: {tone: [a, b]}", "no template uses `tone`"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_sent(job: str, told: str, table: Path, write_job: Any) -> None:
    with pytest.raises(UsageError) as caught:
        load([write_job(job, "other.yaml")])
    (problem,) = caught.value.problems
    assert told in problem.message
    assert problem.hint
    assert problem.place is not None


def test_a_missing_file_of_rows_is_told_where_each_job_names_it(write_job: Any) -> None:
    jobs = [
        write_job("prompt: x\ncases: gone.csv", "short.yaml"),
        write_job("prompt: x\ncases: {file: gone.csv}", "long.yaml"),
        write_job("prompt: x\ncases: {file: gone.csv, delimiter: ;}\nturnz: 1", "wrong.yaml"),
        write_job("prompt: x\ncases: {glob: '*.gone'}\nturnz: 1", "glob.yaml"),
    ]
    with pytest.raises(UsageError) as caught:
        load(jobs)
    told = [
        (Path(place.path).stem, place.source, each.message) for each in caught.value.problems if (place := each.place)
    ]
    missing = f"there is no file {jobs[0].parent / 'gone.csv'}"
    assert sorted(told) == [
        ("glob", "cases: {glob: '*.gone'}", "no file matches `*.gone`"),
        ("glob", "turnz: 1", "unknown key `turnz`"),
        ("long", "cases: {file: gone.csv}", missing),
        ("short", "cases: gone.csv", missing),
        ("wrong", "cases: {file: gone.csv, delimiter: ;}", missing),
        ("wrong", "turnz: 1", "unknown key `turnz`"),
    ]


def test_columns_are_looked_for_wherever_templates_name_them(tmp_path: Path, write_job: Any) -> None:
    (tmp_path / "tickets.csv").write_text("Ticket Text,note\nHelp!,x\n")
    wrong = "prompt: |\n  {{ a }} {{ row['Ticket text'] }}\n  {{ row.nota }}\ncases: tickets.csv"
    with pytest.raises(UsageError) as caught:
        load([write_job(wrong)])
    assert [(each.message, (each.hint or "").partition("? ")[0]) for each in caught.value.problems] == [
        ("undefined variable: `a`", "the columns of tickets.csv are `Ticket Text`, `note`"),
        ('undefined variable: `row["Ticket text"]`', 'did you mean `row["Ticket Text"]`'),
        ("undefined variable: `row.nota`", "did you mean `row.note`"),
    ]
    followed = (
        "{{ row['Ticket Text'] }} {{ row.note }} {{ row.get('b', '') }} {{ row.c is defined }} {{ row.d | default(1) }}"
    )
    assert len(listed(write_job(f'prompt: "{followed}"\ncases: tickets.csv'))) == 1
    assert len(listed(write_job("prompt: '{{ row.c }}'\nvars: {row: {c: 1}}\ncases: tickets.csv"))) == 1


def test_columns_that_a_template_can_do_without_need_not_be_there(table: Path) -> None:
    optional = "{{ note | default(0) }}{% if x is defined %}{{ x }}{% endif %}y"
    table.write_text(table.read_text().replace("Say {{ word }}", optional))
    assert len(listed(table)) == 3


def test_the_problems_of_all_jobs_and_files_come_together(tmp_path: Path, table: Path, write_job: Any) -> None:
    (tmp_path / "ragged.csv").write_text("a,b\n1\n1,2,3\n")
    other = write_job("prompt: '{{ a }}'\ncases: ragged.csv", "other.yaml")
    table.write_text(table.read_text().replace("word", "wort"))
    with pytest.raises(UsageError) as caught:
        load([table, other])
    places = [str(problem.place).rpartition("/")[2] for problem in caught.value.problems]
    assert [place.partition(":")[0] for place in places] == ["job.yaml", "ragged.csv", "ragged.csv"]


def test_a_fault_says_which_row_and_which_template(tmp_path: Path, table: Path) -> None:
    (tmp_path / "rows.csv").write_text("id,word\na,one\nb,two\n")
    table.write_text(table.read_text().replace("{{ word }}", "{{ word | int // (word | length - 3) }}"))
    (one, two) = listed(table)
    assert one.fault is not None
    assert f"{tmp_path / 'rows.csv'}:2: " in one.fault.message
    assert "job.yaml:2:" in one.fault.message
    assert two.fault is not None


def test_a_case_list_can_be_gone_through_again(table: Path) -> None:
    (cases,) = load([table])
    assert isinstance(cases, CaseList)
    assert [chosen.id for chosen in cases] == [chosen.id for chosen in cases] == ["a", "b", "c"]


def test_a_file_of_rows_lies_in_the_jobs_folder_unless_another_is_allowed(tmp_path: Path, write_job: Any) -> None:
    (tmp_path / "rows.csv").write_text("word\none\n")
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "link.csv").symlink_to(tmp_path / "rows.csv")
    for path in ("../rows.csv", str(tmp_path / "rows.csv"), "link.csv"):
        job = write_job(f"prompt: '{{{{ word }}}}'\ncases: {path}", "jobs/job.yaml")
        with pytest.raises(UsageError) as caught:
            load([job])
        assert "lies outside the job file's folder" in caught.value.problems[0].message
        assert f"--allow-dir {tmp_path}" in (caught.value.problems[0].hint or "")
        assert len(listed(job, allow_dirs=[tmp_path])) == 1


def test_a_file_that_changes_while_its_cases_are_made_is_told(tmp_path: Path, table: Path) -> None:
    (cases,) = load([table])
    made = iter(cases)
    assert next(made).id == "a"
    (tmp_path / "new.csv").write_text("id,word\na,one\nx,new\nb,two\nc,three\n")
    (tmp_path / "new.csv").replace(tmp_path / "rows.csv")
    with pytest.raises(UsageError, match="was changed while its rows were read"):
        list(made)
    with pytest.raises(UsageError, match="was changed while its rows were read"):
        next(iter(cases))


def test_a_problem_of_the_first_case_names_it_where_there_are_others(tmp_path: Path) -> None:
    def told(cases: str) -> list[str]:
        path = tmp_path / "job.yaml"
        path.write_text(f"model: a.b\nprompt: '{{{{ a }}}} {{{{ b }}}}'\ncases: {cases}\n")
        with pytest.raises(UsageError) as caught:
            load([path])
        return [problem.message for problem in caught.value.problems]

    first, second = "undefined variable: `b`", "undefined variable: `a` (case 2)"
    assert told("[{vars: {a: 1}}, {vars: {b: 1}}]") == [f"{first} (case 1)", second]
    assert told("[{vars: {a: 1}}]") == [first]
