"""What the pages of docs/ say is so: blocks run, files load, commands parse, links lead somewhere, tables are complete.

How a block is read: Python and TOML whose first line is `# NAME.py` or `# NAME.toml` is a file, which is written before
anything runs. A `text` block that begins with `fedlens: NAME.toml` is what that file's errors must say. All other
Python blocks of a page run in order, in one namespace, in an empty folder.
"""

import contextlib
import dataclasses
import io
import json
import re
import shlex
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import pytest
import tomli_w
import typer
from small import experiment

import fedlens
from fedlens.cli import app, main
from fedlens.cli.dry import plan_of
from fedlens.cli.listing import dealt
from fedlens.partition import PARTITIONS

DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted(DOCS.glob("*.md"))
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NAMED = re.compile(r"# ([\w-]+\.(py|toml))\n")
ELSEWHERE = {"mnist", "cifar10", "fashion-mnist"}  # sources that this machine may not have
pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


class Block(NamedTuple):
    line: int
    language: str
    text: str

    @property
    def file(self) -> str:
        named = NAMED.match(self.text)
        return named[1] if named and self.language in {"python", "toml"} else ""


def blocks(page: Path) -> list[Block]:
    text = page.read_text()
    return [Block(text[: found.start()].count("\n") + 1, found[1], found[2]) for found in FENCE.finditer(text)]


@pytest.fixture
def folder(page: Path) -> Iterator[Path]:
    """The current folder, with the files that the page shows; modules of these names are forgotten afterwards."""
    before = set(sys.modules)
    for block in blocks(page):
        if block.file:
            Path(block.file).write_text(block.text)
    yield Path.cwd()
    for name in {Path(block.file).stem for block in blocks(page)} & set(sys.modules) - before:
        del sys.modules[name]


def commands(page: Path) -> list[tuple[int, list[str]]]:
    """Line and words of every `fedlens ...` in the page's bash blocks."""
    found = []
    for block in blocks(page):
        for offset, line in enumerate(block.text.splitlines() if block.language == "bash" else (), 1):
            words = shlex.split(line, comments=True)
            if words and words[0] == "fedlens":
                found.append((block.line + offset, words[1:]))
    return found


def table(page: str, head: str) -> list[list[str]]:
    """The cells of the rows of the table in `page` that begins with `head`."""
    lines = (DOCS / page).read_text().splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"| {head} |"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


@pages
def test_every_python_block_runs(page: Path, folder: Path) -> None:
    space: dict[str, Any] = {"__name__": page.stem}
    for block in blocks(page):
        if block.language != "python" or block.file:
            continue
        code = compile("\n" * block.line + block.text, str(page), "exec")  # so that a failure names the page's line
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("error", DeprecationWarning)
            exec(code, space)


@pages
def test_every_toml_block_loads_or_fails_as_the_page_says(page: Path, folder: Path) -> None:
    shown = blocks(page)
    said = {block.text.split(":")[1].strip(): block.text for block in shown if block.text.startswith("fedlens: ")}
    for block in shown:
        if block.language != "toml":
            continue
        Path("shown.toml").write_text(block.text)
        name = block.file or "shown.toml"
        if name not in said:
            fedlens.load_experiment(name)
            continue
        with pytest.raises(fedlens.FedlensError) as caught:
            fedlens.load_experiment(name)
        assert f"fedlens: {caught.value}\n" == said[name]


@pages
def test_every_command_parses_and_the_quick_ones_answer(page: Path, folder: Path) -> None:
    group: Any = typer.main.get_command(app)
    for line, words in commands(page):
        given = group.commands[words[0]].make_context(words[0], list(words[1:])).params  # fails on a wrong option
        at = f"{page.name}:{line}"
        if words[0] == "run" and not given["resume"]:
            seed = [f"seed={given['seed']}"] if given["seed"] is not None else []
            loaded = fedlens.load_experiment(given["experiment"] or "digits", [*(given["set_"] or ()), *seed])
            if loaded.data.source not in ELSEWHERE:
                assert plan_of(dataclasses.replace(loaded, references=fedlens.References()))["seconds"] > 0, at
        elif words[0] in {"data", "methods"} and given.get("source") not in ELSEWHERE:
            assert answer(words), at


def answer(words: list[str]) -> str:
    """What the command prints; SystemExit with a code other than 0 fails the test."""
    out = io.StringIO()
    with mock.patch.object(sys, "argv", ["fedlens", *words]), contextlib.redirect_stdout(out):
        try:
            main()
        except SystemExit as end:
            assert not end.code, words
    return out.getvalue()


@pages
def test_every_link_leads_to_a_file(page: Path) -> None:
    prose = FENCE.sub("", page.read_text())
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", prose):
        assert target.startswith("https://") or (page.parent / target).exists(), target


@pages
def test_a_page_is_short_and_in_the_index(page: Path) -> None:
    text = page.read_text()
    assert text.startswith("# ") and text.count("\n") <= 130
    assert page.name == "README.md" or f"]({page.name})" in (DOCS / "README.md").read_text()
    assert not re.search(r"(?<![\w.~])/(home|root|tmp|mnt|Users)/", text)


def plain(value: object) -> str:
    """A default as the table writes it: as TOML does."""
    value = getattr(value, "default", value)  # a constrained default
    if value is None:
        return "unset"
    value = getattr(value, "kind", value) if type(value) in PARTITIONS.values() else value
    written = tomli_w.dumps({"x": list(value) if isinstance(value, tuple) else value})
    return " ".join(written.removeprefix("x = ").split()).replace("[ ", "[").replace(", ]", "]")


def settings(cls: type, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every key of a settings class and the sections in it, with its default."""
    for field in dataclasses.fields(cls):
        default = field.default
        if field.name == "method":
            yield "method.name", plain(default.name)
        elif dataclasses.is_dataclass(default) and field.name != "partition":
            yield from settings(type(default), f"{prefix}{field.name}.")
        else:
            needed = default is dataclasses.MISSING
            yield prefix + field.name, "needed" if needed else plain(default)


def test_experiments_page_names_every_setting_with_its_default() -> None:
    documented = {names(row[0])[0]: row[1].strip() for row in table("experiments.md", "key")}
    there = dict(settings(fedlens.Experiment))
    for kind in PARTITIONS.values():
        for key, default in settings(kind, "clients.partition."):
            if key != "clients.partition.kind":
                assert there.setdefault(key, default) == default, f"{key} differs between kinds: say so in the page"
    there["clients.partition.kind"] = plain("iid")
    assert documented == there


def test_partitions_page_names_every_kind_and_its_numbers_are_right() -> None:
    assert [names(row[0])[0].split(":")[0] for row in table("partitions.md", "kind")] == list(PARTITIONS)
    for row in table("partitions.md", "partition"):
        found = dealt("digits", names(row[0])[0], 20, 0, None, None).numbers
        sizes = f"{found['size_min']}, {found['size_median']:.0f}, {found['size_max']}"
        variations = [f"{found['total_variation' + end]:.2f}" for end in ("", "_null", "_null_95")]
        assert row[1:] == [sizes, f"{found['classes_mean']:.1f}", *variations], row[0]


def test_models_page_is_the_listing() -> None:
    shown = [[names(row[0])[0], *row[1:]] for row in table("models.md", "`model.name`")]
    listed = json.loads(answer(["models", "--json"]))
    assert shown == [[f"{v:,}" if isinstance(v, int | float) else v for v in row.values()] for row in listed]


def test_run_folder_page_names_every_file_and_column() -> None:
    run = fedlens.run(experiment(clients=fedlens.Clients(count=6, cohort=3, holdout=0.2)))
    rows = [json.loads(line) for line in (run.path / "rounds.jsonl").read_text().splitlines()]
    assert {names(row[0])[0] for row in table("run-folder.md", "column")} == set().union(*rows)
    page = (DOCS / "run-folder.md").read_text()
    files = [cell for row in table("run-folder.md", "file") for cell in names(row[0])]
    tops = {file.split("/")[0] for file in files}
    assert {path.name for path in run.path.iterdir()} <= tops
    import numpy as np

    for column in np.load(next((run.path / "clients").glob("0*.npz"))):
        assert f"`{column}`" in page


def test_python_page_names_the_front_door() -> None:
    found = [name for row in table("python.md", "name") for cell in row for name in names(cell) if name.isidentifier()]
    assert set(found) == set(fedlens.__all__) - {"__version__"}
