"""A grid of runs that is filled cell by cell, each in one process with one thread, and goes on where it stopped."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch


def known(path: Path) -> dict[str, Any]:
    """What `path` holds so far."""
    return dict(json.loads(path.read_text())) if path.exists() else {}


def fill(path: Path, cells: Iterable[Any], key: Callable[[Any], str], work: Callable[[Any], Any]) -> dict[str, Any]:
    """All results of `path`, after `work` on every one of `cells` whose `key` is not in it yet.

    The file is written whole after each cell, so that a stopped study loses no finished cell.
    """
    results = known(path)
    missing = [cell for cell in cells if key(cell) not in results]
    jobs = [(work, cell) for cell in missing]
    with multiprocessing.get_context("spawn").Pool(_processes(), torch.set_num_threads, (1,)) as pool:
        for cell, result in pool.imap_unordered(_worked, jobs):
            results[key(cell)] = result
            writing = path.with_name(f".{os.getpid()}-{path.name}")
            writing.write_text(json.dumps(dict(sorted(results.items())), indent=0) + "\n")
            writing.replace(path)
    return results


def _worked(job: tuple[Callable[[Any], Any], Any]) -> tuple[Any, Any]:
    work, cell = job
    return cell, work(cell)


def _processes() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--processes", type=int, default=2)
    return int(parser.parse_args().processes)
