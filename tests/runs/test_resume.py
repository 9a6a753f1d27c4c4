"""A run that is killed at any moment goes on to the bits of a run that was not."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

DRIVER = Path(__file__).with_name("killed.py")


def drive(out: Path, *words: str) -> int:
    command = [sys.executable, str(DRIVER), str(out), *words]
    return subprocess.run(command, env=_environment(), capture_output=True, check=False).returncode


def _environment() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": str(DRIVER.parent.parent)}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "run"
    assert drive(out, "new") == 0
    return out


def assert_same(run: Path, whole: Path) -> None:
    for file in sorted(path.relative_to(whole) for path in whole.rglob("rounds.jsonl")):
        assert (run / file).read_bytes() == (whole / file).read_bytes(), file
    for file in sorted(path.relative_to(whole) for path in whole.rglob("*.safetensors")):
        ours, theirs = load_file(run / file), load_file(whole / file)
        assert ours.keys() == theirs.keys()
        assert all(bool((ours[name] == theirs[name]).all()) for name in ours), file
    assert (run / "status").read_text() == "done\n"
    assert (run / "report.html").is_file()
    assert not list(run.rglob(".writing-*"))


# The places are met in order: 5 states of the run, then 5 of each reference (2 of the lonely client).
@pytest.mark.parametrize(
    ("place", "nth"),
    [
        ("line", 1),
        ("line", 6),
        ("torn-line", 5),
        ("torn-line", 13),
        ("torn-checkpoint", 1),
        ("torn-checkpoint", 3),
        ("before-rename", 4),
        ("before-rename", 8),
        ("after-rename", 2),
        ("visits", 3),
        ("replace", 3),
    ],
)
def test_a_run_killed_at_a_place_resumes_bit_for_bit(place: str, nth: int, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert drive(out, "new", place, str(nth)) == -signal.SIGKILL
    assert drive(out, "resume") == 0
    assert_same(out, whole)


def test_a_run_killed_again_and_again_at_random_resumes_bit_for_bit(whole: Path, tmp_path: Path) -> None:
    out, kills = tmp_path / "run", 0
    for attempt in range(12):
        words = ["resume"] if (out / "experiment.toml").exists() else ["new"]
        command = [sys.executable, str(DRIVER), str(out), *words]
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
