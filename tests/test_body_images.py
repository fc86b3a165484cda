from __future__ import annotations

import json
import re
from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from conftest import BedrockRun
from PIL import Image

_TITAN = """\
name: body
model: amazon.titan-embed-image-v1
body: {inputImage: "{{ image_base64(file.path) }}", embeddingConfig: {outputEmbeddingLength: 256}}
cases: {glob: "photos/*"}
"""


def save(path: Path, colour: str = "red") -> bytes:
    path.parent.mkdir(exist_ok=True)
    Image.new("RGB", (3, 2), colour).save(path)
    return path.read_bytes()


def write(folder: Path, text: str) -> Path:
    (folder / "job.yaml").write_text(text)
    return folder / "job.yaml"


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "outputs" / "body.jsonl").read_text().splitlines()]


def rendered(run: BedrockRun, job: Path) -> list[dict[str, Any]]:
    done = run("render", job)
    assert done.returncode == 0, done.stderr
    return [json.loads(line)["body"] for line in done.stdout.splitlines()]


def test_the_same_picture_has_the_same_embedding(bedrock_run: BedrockRun, tmp_path: Path) -> None:
    for name, colour in {"a.png": "red", "b.png": "blue", "c.png": "red"}.items():
        save(tmp_path / "photos" / name, colour)
    (tmp_path / "photos" / "c.png").write_bytes(save(tmp_path / "photos" / "a.png") + b"more")  # another file
    done = bedrock_run("run", write(tmp_path, _TITAN), "--local")
    assert done.returncode == 0, done.stderr
    red, blue, same = [json.loads(row["output"])["embedding"] for row in rows(tmp_path)]
    assert len(red) == 256
    assert red == same != blue


def test_a_row_tells_of_the_image_and_has_no_base64(bedrock_run: BedrockRun, tmp_path: Path) -> None:
    content = save(tmp_path / "photos" / "a.png")
    assert bedrock_run("run", write(tmp_path, _TITAN), "--local").returncode == 0
    digest = sha256(content).hexdigest()
    (row,) = rows(tmp_path)
    assert row["request"] == {
        "body": {"inputImage": f"<image sha256:{digest}>", "embeddingConfig": {"outputEmbeddingLength": 256}},
        "images": [{"path": "photos/a.png", "sha256": digest, "bytes": len(content), "media_type": "image/png"}],
    }
    assert b64encode(content).decode() not in (tmp_path / "outputs" / "body.jsonl").read_text()
    assert "nothing was called" in bedrock_run("run", tmp_path / "job.yaml", "--local").stderr
    save(tmp_path / "photos" / "a.png", "blue")
    again = bedrock_run("run", tmp_path / "job.yaml", "--local")
    assert "nothing was called" not in again.stderr
    assert rows(tmp_path)[0]["key"] != row["key"]


def test_the_content_may_stand_anywhere_in_a_body(bedrock_run: BedrockRun, tmp_path: Path) -> None:
    first = save(tmp_path / "photos" / "a.png")
    second = save(tmp_path / "photos" / "b.jpg", "blue")
    job = write(
        tmp_path,
        "name: body\nmodel: cohere.embed-english-v3\n"
        "body:\n"
        "  input_type: image\n"
        "  images:\n"
        "    - \"data:{{ image_media_type('photos/a.png') }};base64,{{ image_base64('photos/a.png') }}\"\n"
        "    - \"data:{{ image_media_type('photos/b.jpg') }};base64,{{ image_base64('photos/b.jpg') }}\"\n"
        "  deep: [{both: \"{{ image_base64('photos/b.jpg') }} {{ image_base64('photos/a.png') }}\", n: 1}]\n",
    )
    (body,) = rendered(bedrock_run, job)
    one, two = b64encode(first).decode(), b64encode(second).decode()
    assert body == {
        "input_type": "image",
        "images": [f"data:image/png;base64,{one}", f"data:image/jpeg;base64,{two}"],
        "deep": [{"both": f"{two} {one}", "n": 1}],
    }


def test_nova_is_sent_an_image_in_a_body_of_its_own(bedrock_run: BedrockRun, tmp_path: Path) -> None:
    save(tmp_path / "photos" / "a.png")
    job = write(
        tmp_path,
        "name: body\nmodel: amazon.nova-lite-v1:0\n"
        "body:\n"
        "  messages:\n"
        "    - role: user\n"
        "      content:\n"
        "        - image: {format: \"{{ image_media_type('photos/a.png').split('/')[1] }}\","
        " source: {bytes: \"{{ image_base64('photos/a.png') }}\"}}\n"
        "        - {text: Which colour?}\n",
    )
    done = bedrock_run("run", job, "--local")
    assert done.returncode == 0, done.stderr
    assert "red" in rows(tmp_path)[0]["output"]


def test_what_looks_like_a_marker_in_a_value_is_text(bedrock_run: BedrockRun, tmp_path: Path) -> None:
    save(tmp_path / "photos" / "a.png")
    secret = sha256(save(tmp_path / "photos" / "secret.png", "blue")).hexdigest()
    cell = f"<image sha256:{secret}>"
    (tmp_path / "rows.csv").write_text(f"id,text\n1,{cell}\n")
    job = write(
        tmp_path,
        "name: body\nmodel: cohere.embed-english-v3\ncases: rows.csv\n"
        'body: {image: "{{ image_base64(\'photos/a.png\') }}", text: "{{ text }}"}\n',
    )
    (body,) = rendered(bedrock_run, job)
    assert body["text"] == cell
    assert not body["image"].startswith("<")


def test_a_body_that_names_an_image_is_not_one_that_spells_its_marker(bedrock_run: BedrockRun, tmp_path: Path) -> None:
    digest = sha256(save(tmp_path / "photos" / "a.png")).hexdigest()
    head = 'name: body\nmodel: amazon.titan-embed-image-v1\nbody: {inputImage: "%s"}\n'
    keys = []
    for written in ("{{ image_base64('photos/a.png') }}", f"<image sha256:{digest}>"):
        done = bedrock_run("render", write(tmp_path, head.replace("%s", written)))
        keys.append(json.loads(done.stdout)["key"])
    assert keys[0] != keys[1]


@pytest.mark.parametrize(
    "where", ["prompt: \"{{ image_base64('a.png') }}\"", "system: \"{{ image_base64('a.png') }}\"\nprompt: x"]
)
def test_elsewhere_the_function_is_an_error_with_a_hint(where: str, bedrock_run: BedrockRun, tmp_path: Path) -> None:
    save(tmp_path / "photos" / "a.png")
    job = write(tmp_path, f"name: body\nmodel: amazon.nova-lite-v1:0\n{where}\ncases: {{glob: 'photos/*'}}\n")
    done = bedrock_run("validate", job)
    assert done.returncode == 2
    assert "`image_base64` has a meaning only in `body:`" in done.stderr
    assert "under `images:` of a turn" in done.stderr
    assert re.search(r"job\.yaml:3:\d+", done.stderr)


def test_an_included_file_cannot_call_it_outside_of_a_body_either(bedrock_run: BedrockRun, tmp_path: Path) -> None:
    (tmp_path / "part.txt").write_text("{{ image_base64('a.png') }}")
    job = write(tmp_path, "name: body\nmodel: amazon.nova-lite-v1:0\nprompt: \"{% include 'part.txt' %}\"\n")
    done = bedrock_run("validate", job)
    assert done.returncode == 2
    assert "`image_base64` has a meaning only in `body:`" in done.stderr


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("{{ image_base64('photos/b.png') }}", "there is no image 'photos/b.png'"),
        ("{{ image_base64('../x.png') }}", "outside the job file's folder"),
        ("{{ image_base64(nothing) }}", "undefined variable: `nothing`"),
        ("{{ image_base64('photos/a.png') | upper }}", "the template changes what `image_base64` gives"),
        ("{{ image_base64 }}", "writes a function (`image_base64`)"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(written: str, told: str, bedrock_run: BedrockRun, tmp_path: Path) -> None:
    save(tmp_path / "photos" / "a.png")
    done = bedrock_run(
        "validate",
        write(tmp_path, f'name: body\nmodel: amazon.titan-embed-image-v1\nbody: {{inputImage: "{written}"}}\n'),
    )
    assert done.returncode == 2
    assert told in done.stderr
    assert "job.yaml:3:20" in done.stderr


def test_a_variable_of_that_name_goes_before(bedrock_run: BedrockRun, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("image_base64\nAAAA\n")
    job = write(
        tmp_path,
        'name: body\nmodel: amazon.titan-embed-image-v1\nbody: {inputImage: "{{ image_base64 }}"}\ncases: rows.csv\n',
    )
    assert rendered(bedrock_run, job) == [{"inputImage": "AAAA"}]


_MANY = """\
name: body
model: us.anthropic.claude-haiku-4-5-20251001-v1:0
images: {max_edge: off}
body:
  anthropic_version: bedrock-2023-05-31
  max_tokens: 10
  messages:
    - role: user
      content:
        - {type: text, text: Which colours?}
"""


def of_many(number: int) -> str:
    """A job whose body names so many pictures."""
    image = """\
        - type: image
          source:
            type: base64
            media_type: "{{ image_media_type('photos/N.png') }}"
            data: "{{ image_base64('photos/N.png') }}"
"""
    return _MANY + "".join(image.replace("N", str(each)) for each in range(number))


def test_pictures_among_many_are_made_to_fit_together(bedrock_run: BedrockRun, tmp_path: Path) -> None:
    for number in range(21):
        save(tmp_path / "photos" / f"{number}.png")
    Image.new("L", (2200, 40), 70).save(tmp_path / "photos" / "0.png")
    for number, sent in ((20, None), (21, 2000)):
        done = bedrock_run("run", write(tmp_path, of_many(number)), "--local")
        assert done.returncode == 0, done.stderr
        first = rows(tmp_path)[0]["request"]["images"][0]
        assert (first.get("sent") or {}).get("width") == sent


def test_validate_counts_every_picture_of_a_body(bedrock_run: BedrockRun, tmp_path: Path) -> None:
    for number in range(3):
        save(tmp_path / "photos" / f"{number}.png")
    assert "3 pictures" in bedrock_run("validate", write(tmp_path, of_many(3))).stderr


def test_a_body_of_more_pictures_than_the_model_takes_is_refused(bedrock_run: BedrockRun, tmp_path: Path) -> None:
    save(tmp_path / "photos" / "0.png")
    for number in range(1, 101):
        (tmp_path / "photos" / f"{number}.png").symlink_to("0.png")
    told = bedrock_run("validate", write(tmp_path, of_many(101))).stderr
    assert "a request would have 101 images; `us.anthropic.claude-haiku-4-5-20251001-v1:0` takes at most 100" in told


def test_a_body_that_is_too_large_says_which_pictures_are(bedrock_run: BedrockRun, tmp_path: Path) -> None:
    for number in range(6):
        save(tmp_path / "photos" / f"{number}.png")
    for number in range(6):
        with (tmp_path / "photos" / f"{number}.png").open("ab") as file:
            file.write(bytes(3_900_000 - number))
    assert bedrock_run("run", write(tmp_path, of_many(6)), "--local").returncode == 3
    message = rows(tmp_path)[0]["error"]["message"]
    assert "the largest of 6 files on disk: 'photos/0.png' 3,9" in message
