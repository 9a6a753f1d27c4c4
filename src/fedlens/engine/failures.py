"""What goes wrong with a visit or a round, told with client, round and step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeVar

from fedlens.engine.plan import Visit
from fedlens.errors import RunError
from fedlens.local import Broken, Diverged

T = TypeVar("T")


class Void(RunError):
    """A round without enough usable uploads: the server's model stays as it is, or the run stops."""


class Failed(NamedTuple):
    """A visit that gave nothing: `error` for a run that stops, `record` for one that goes on (None: it may not)."""

    error: RunError
    record: dict[str, object] | None


def attempt(visit: Visit, work: Callable[[], T]) -> T | Failed:
    """What `work` on `visit` gives, or how it failed."""
    try:
        return work()
    except Broken as failure:
        error = broken(failure, visit)
        error.__cause__ = failure.__cause__
        return Failed(error, None)
    except (Diverged, RunError) as failure:
        return Failed(told(failure, visit), skipped(failure, visit))


def skipped(failure: Diverged | RunError, visit: Visit) -> dict[str, object]:
    """What a round records of a visit that it went on without."""
    if isinstance(failure, Diverged):
        return {"client": visit.client, "step": failure.step, "why": failure.what}
    problem = failure.problems[0]
    return {"client": visit.client, "step": None, "why": ": ".join(filter(None, (problem.what, problem.seen)))}


def told(failure: Diverged | RunError, visit: Visit) -> RunError:
    """The failure of a visit, with client and round named."""
    if isinstance(failure, RunError):
        problem, at = failure.problems[0], f"client {visit.client}, round {visit.round}"
        return RunError(problem.what, where=f"{at}, {problem.where}".rstrip(", "), seen=problem.seen, do=problem.do)
    return RunError(
        "local training diverged",
        where=f"client {visit.client}, round {visit.round}, step {failure.step}",
        seen=f"{failure.what}; learning rate {failure.rate:g}",
        do='Lower local.lr, set local.clip_norm, or clients.on_failure = "skip" to go on without such clients.',
    )


def broken(failure: Broken, visit: Visit) -> RunError:
    """What the model or the loss raised, with client, round and step named."""
    cause = failure.__cause__
    do = "Correct the model; -v shows where it raised."
    if "more than 1 value per channel" in str(cause):
        do = "Batch norm cannot train on a batch of one value: raise local.batch, or set model.norm to another."
    return RunError(
        "local training failed",
        where=f"client {visit.client}, round {visit.round}, step {failure.step}",
        seen=f"{type(cause).__name__}: {cause}",
        do=do,
    )


def all_failed(visits: Sequence[Visit], left_out: Sequence[Mapping[str, object]]) -> RunError:
    """No visit of a round gave anything; `left_out`: what the round recorded of each."""
    first = left_out[0]
    at = "" if first["step"] is None else f" at step {first['step']}"
    return RunError(
        "every client of the cohort failed",
        where=f"round {visits[0].round}",
        seen=f"{len(visits)} clients, the first{at}: {first['why']}; learning rate {visits[0].rate:g}",
        do="Lower local.lr or set local.clip_norm.",
    )
