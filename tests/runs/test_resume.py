"""A run that is killed at any moment goes on to the bits of a run that was not."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

DRIVER = Path(__file__).with_name("killed.py")


def drive(out: Path, begin: str, states: str, *place: str) -> int:
    command = [sys.executable, str(DRIVER), str(out), begin, states, *place]
    return subprocess.run(command, env=_environment(), capture_output=True, check=False).returncode


def _environment() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": str(DRIVER.parent.parent)}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "run"
    assert drive(out, "new", "memory") == 0
    return out


def assert_same(run: Path, whole: Path) -> None:
    for file in sorted(path.relative_to(whole) for path in whole.rglob("rounds.jsonl")):
        assert (run / file).read_bytes() == (whole / file).read_bytes(), file
    for file in sorted(path.relative_to(whole) for path in whole.rglob("*.safetensors")):
        if not file.name.startswith("clients-"):
            assert_equal(load_file(run / file), load_file(whole / file))
    for place in sorted(path.relative_to(whole) for path in whole.rglob("checkpoints")):
        ours, theirs = remembered(run / place), remembered(whole / place)
        assert ours.keys() == theirs.keys() and (ours or "local-only" in place.parts)
        for client in ours:
            assert_equal(ours[client], theirs[client])
    assert (run / "status").read_text() == "done\n"
    assert (run / "report.html").is_file()
    assert not list(run.rglob(".writing-*"))


def assert_equal(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def remembered(checkpoints: Path) -> dict[int, dict[str, torch.Tensor]]:
    """The states of all clients as docs/run-folder.md says: the newest file that names a client holds its state."""
    (about,) = checkpoints.glob("round-*/state.json")
    listed = json.loads(about.read_text())["states"]
    assert sorted(path.name for path in checkpoints.glob("clients-*")) == sorted(listed)
    states = {}
    for name in sorted(listed):
        parts = load_file(checkpoints / name)
        for key in parts:
            group, _, part = key.partition("/")
            if part == "clients":
                names = [key for key in parts if key.startswith(f"{group}/") and key != f"{group}/clients"]
                for row, client in enumerate(parts[key].tolist()):
                    states[client] = {key.partition("/")[2]: parts[key][row] for key in names}
    return states


# The places are met in order: 5 states of the run, then 5 of each reference (2 of the lonely client).
@pytest.mark.parametrize(
    ("states", "place", "nth"),
    [
        ("memory", "line", 1),
        ("memory", "line", 6),
        ("memory", "torn-line", 5),
        ("disk", "torn-line", 13),
        ("memory", "torn-checkpoint", 1),
        ("disk", "torn-checkpoint", 3),
        ("memory", "torn-states", 2),
        ("disk", "torn-states", 3),
        ("memory", "before-rename", 4),
        ("disk", "before-rename", 8),
        ("memory", "after-rename", 2),
        ("memory", "removal", 1),
        ("disk", "removal", 2),
        ("memory", "visits", 3),
        ("memory", "replace", 3),
    ],
)
def test_a_run_killed_at_a_place_resumes_bit_for_bit(
    states: str, place: str, nth: int, whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    assert drive(out, "new", states, place, str(nth)) == -signal.SIGKILL
    assert drive(out, "resume", states) == 0
    assert_same(out, whole)


@pytest.mark.parametrize("states", ["memory", "disk"])
def test_a_run_killed_again_and_again_at_random_resumes_bit_for_bit(states: str, whole: Path, tmp_path: Path) -> None:
    out, kills = tmp_path / "run", 0
    for attempt in range(12):
        begin = "resume" if (out / "experiment.toml").exists() else "new"
        command = [sys.executable, str(DRIVER), str(out), begin, states]
        process = subprocess.Popen(command, env=_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        before = _lines(out)
        while process.poll() is None and _lines(out) < before + 1 + attempt % 3:
            time.sleep(0.002)
        if process.poll() is None and attempt < 5:
            process.kill()
            kills += 1
        if process.wait() == 0:
            break
    assert kills >= 3
    assert_same(out, whole)


def _lines(out: Path) -> int:
    # Not rglob: it would walk into checkpoints while the run renames them.
    places = ("rounds.jsonl", "references/*/rounds.jsonl", "references/local-only/*/rounds.jsonl")
    return sum(path.read_text().count("\n") for place in places for path in out.glob(place))
