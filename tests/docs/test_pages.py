"""What the pages of docs/ say is so: blocks run, files load, commands parse, links lead somewhere, tables are complete.

How a block is read: Python and TOML whose first line is `# NAME.py` or `# NAME.toml` is a file, which is written before
anything runs. A `text` block that begins with `fedlens: NAME.toml` is what that file's errors must say. All other
Python blocks of a page run in order, in one namespace, in an empty folder.
"""

import contextlib
import dataclasses
import inspect
import io
import json
import re
import shlex
import sys
import typing
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import pytest
import tomli_w
import torch
import typer
from small import experiment

import fedlens
from fedlens.cli import app, main
from fedlens.cli.dry import plan_of
from fedlens.cli.listing import dealt
from fedlens.methods import METHODS, Transfer
from fedlens.models.halves import HALVES, build_halves
from fedlens.partition import PARTITIONS

DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted([*DOCS.glob("*.md"), *DOCS.glob("methods/*.md")])
SETTINGS_ON = {  # the page with the settings of a section; all others stand on experiments.md
    "data.synthetic": "many-clients.md",
    "clients.partition": "partitions.md",
    "clients.selection": "participation.md",
    "clients.attack": "methods/robust.md",
    "server.reduce": "methods/robust.md",
    "network": "participation.md",
    "communication": "communication.md",
    "privacy": "privacy.md",
}
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NAMED = re.compile(r"# ([\w-]+\.(py|toml))\n")
ELSEWHERE = {"mnist", "cifar10", "fashion-mnist"}  # sources that this machine may not have
pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))


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
def folder(page: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, with the files that the page shows; modules of these names are forgotten afterwards."""
    monkeypatch.syspath_prepend(str(Path.cwd()))
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
    """The cells of the rows of all tables in `page` that begin with `head`."""
    rows, inside = [], 0
    for line in (DOCS / page).read_text().splitlines():
        inside = inside + 1 if inside and line.startswith("|") else int(line.startswith(f"| {head} |"))
        if inside > 2:
            rows.append([cell.strip() for cell in line.strip("|").split("|")])
    assert rows, f"{page} has no table '{head}'"
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
    assert page == DOCS / "README.md" or f"]({page.relative_to(DOCS)})" in (DOCS / "README.md").read_text()
    assert not re.search(r"(?<![\w.~])/(home|root|tmp|mnt|Users)/", text)


def plain(value: object) -> str:
    """A default as the table writes it: as TOML does."""
    if value is None:
        return "unset"
    written = tomli_w.dumps({"x": list(value) if isinstance(value, tuple) else value})
    return " ".join(written.removeprefix("x = ").split()).replace("[ ", "[").replace(", ]", "]")


def kinds(annotation: Any) -> list[type]:
    """The settings classes in a field's annotation."""
    if dataclasses.is_dataclass(annotation) and isinstance(annotation, type):
        return [annotation]
    return [found for part in typing.get_args(annotation) for found in kinds(part)]


def settings(cls: type, prefix: str = "") -> dict[str, str]:
    """Every key of a settings class and of all kinds in it, with its default; kinds that differ side by side."""
    hints, found = typing.get_type_hints(cls, include_extras=True), {}
    for field in dataclasses.fields(cls):
        key, inner = prefix + field.name, kinds(hints[field.name])
        default = getattr(field.default, "default", field.default)  # a constrained default
        if field.name == "method":
            found["method.name"] = plain(default.name)
        elif not inner:
            refused = default is None and getattr(field.default, "validate_default", False)
            found[key] = "needed" if refused or default is dataclasses.MISSING else plain(default)
        else:
            each = [settings(kind, f"{key}.") for kind in inner]
            for name in dict.fromkeys(name for one in each for name in one):
                found[name] = ", ".join(dict.fromkeys(one[name] for one in each if name in one))
            if f"{key}.kind" in found:
                found[f"{key}.kind"] = plain(getattr(default, "kind", None))
    return found


def test_every_setting_stands_on_one_page_with_its_default() -> None:
    there = settings(fedlens.Experiment)
    for page in {"experiments.md", *SETTINGS_ON.values()}:
        rows = table(page, "key")
        documented = {names(row[0])[0]: row[1] for row in rows}
        assert len(documented) == len(rows), page
        assert documented == {key: default for key, default in there.items() if page_of(key) == page}, page


def page_of(key: str) -> str:
    """The page on which a setting stands."""
    return next((page for section, page in SETTINGS_ON.items() if key.startswith(f"{section}.")), "experiments.md")


def test_methods_page_names_every_method_with_its_settings_and_source() -> None:
    rows = {names(row[0])[0]: row for row in table("methods/README.md", "method")}
    assert list(rows) == list(METHODS)
    for name, make in METHODS.items():
        defaults = {key: plain(value.default) for key, value in inspect.signature(make).parameters.items()}
        assert dict(re.findall(r"`(\w+)` ([^,]+)", rows[name][1])) == defaults, name
        assert rows[name][3] == make().source, name


def test_methods_page_names_what_each_method_costs_beyond_fedavg() -> None:
    rows = {name: row[1:] for row in table("methods/README.md", "costs more") for name in names(row[0])}
    for name, make in METHODS.items():
        method = make()
        if isinstance(method, Transfer) or method.keeps is not None:
            assert name in rows
            continue
        own = int(method.own is not None)
        down, server, client = 1 + len(method.sends), len(method.server_memory), len(method.client_memory) + own
        gradients = 2 if method.perturb or method.own else 1
        said = [int(cell.split()[0]) for cell in rows.get(name, ["1", "1", "0", "0", "1"])]
        assert [said[0], *said[2:]] == [down, server, client, gradients], name


def test_a_method_is_added_in_under_30_lines() -> None:
    [file] = [block for block in blocks(DOCS / "methods/add-your-own.md") if block.file]
    assert file.text.count("\n") < 30


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


def test_fedgkt_page_names_every_pair_of_halves_with_its_parameters() -> None:
    with torch.device("meta"):
        made = {name: build_halves(fedlens.Model(name), (3, 32, 32), 10) for name in HALVES}
    rows = {names(row[0])[0]: row[1:4] for row in table("methods/fedgkt.md", "`model.name`")}
    for name, halves in made.items():
        modules = (halves.client, halves.server, halves.whole())
        assert rows.pop(name) == [f"{sum(p.numel() for p in module.parameters()):,}" for module in modules]
    assert not rows


def test_run_folder_page_names_every_file_and_column() -> None:
    held = fedlens.Clients(count=6, cohort=3, holdout=0.2)
    run = fedlens.run(experiment(clients=held))
    rows = [json.loads(line) for line in (run.path / "rounds.jsonl").read_text().splitlines()]
    nobody = {"network": fedlens.Network(up_mbit=1, deadline=1e-6), "clients": {**vars(held), "on_failure": "skip"}}
    halves = {
        "method": fedlens.fedgkt(),
        "model": fedlens.Model("resnet4/resnet7"),
        "data": fedlens.Data("small:split"),
    }
    for changes in ({"server": {"average_from": 0.5}}, {"method": fedlens.ditto(), "clients": held}, nobody, halves):
        rows += [state.row for state in fedlens.stream(experiment(**{"rounds": 1, **changes}))]
    columns = [name for row in table("run-folder.md", "column") for name in names(row[0])]
    assert set(columns) == set().union(*rows) and len(columns) == len(set(columns))
    page = (DOCS / "run-folder.md").read_text()
    files = [cell for row in table("run-folder.md", "file") for cell in names(row[0])]
    tops = {file.split("/")[0] for file in files}
    assert {path.name for path in run.path.iterdir()} <= tops
    keys = [name for row in table("run-folder.md", "key of `summary.json`") for name in names(row[0])]
    assert set(keys) == set(run.summary)
    import numpy as np

    for column in np.load(next((run.path / "clients").glob("0*.npz"))):
        assert f"`{column}`" in page


def test_python_page_names_the_front_door() -> None:
    found = [name for row in table("python.md", "name") for cell in row for name in names(cell) if name.isidentifier()]
    assert set(found) == set(fedlens.__all__) - {"__version__"}
