"""Proximal and control terms of a client update, by finite differences of its result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from fedlens.diagnosis.conformance.calling import short
from fedlens.diagnosis.conformance.result import Check

MU, CONTROL = 0.5, 0.01
TWICE = "It is twice as strong as mu/2 of the squared distance: the half is missing, or in mu."


def terms(run: Callable[[Any], Any], base: Any, roles: set[str]) -> list[Check]:
    """Those that its parameters name: mu, and control variates."""
    found = []
    if "mu" in roles:
        found.append(_proximal(run, base, roles))
    for role, sign in (("theirs", 1), ("ours", -1)):
        if role in roles and {"theirs", "ours"} <= roles:
            found.append(_control(run, base, role, sign))
    return found


def _proximal(run: Callable[[Any], Any], base: Any, roles: set[str]) -> Check:
    """After a first step to w1 the term adds -lr mu (w1 - w) to the second; a norm without a square adds another."""
    name = "proximal term"
    if not {"epochs", "rate"} <= roles:
        with_it, without = run(replace(base, mu=10.0)), run(base)
        near, far = _norm(_difference(with_it, base)), _norm(_difference(without, base))
        told = f"mu 10 moves it {short(near)}, mu 0 {short(far)}"
        return Check(name, None if near < far else False, told, "less far with mu", "" if near < far else "No effect.")
    one = _flat(run(base).state, base.state)
    start = _flat(base.state, base.state)
    two = [_flat(run(replace(base, epochs=2, mu=mu)).state, base.state) for mu in (0.0, MU)]
    wanted = -base.rate * MU * (one - start)
    seen = two[1] - two[0]
    off = float((seen - wanted).norm() / wanted.norm().clamp_min(1e-30))
    told = f"{short(float(seen.norm() / wanted.norm().clamp_min(1e-30)))} times as large, {short(off)} off"
    right: bool | None = off <= 0.02
    why = ""
    if not right:
        at_start = _norm(_flat(run(replace(base, mu=MU)).state, base.state) - one)
        why = _why(seen, wanted, at_start)
        right = None if why == TWICE else False  # another unit of mu, and no fault
    return Check(name, right, told, "mu (w - w_t) in the gradient: mu/2 of the squared distance", why)


def _why(seen: Tensor, wanted: Tensor, at_start: float) -> str:
    if float(seen.norm()) < 1e-3 * float(wanted.norm()):
        return "It has no effect: its gradient is lost (a detached state?), or mu is not used."
    if at_start > 1e-3 * float(wanted.norm()):
        return "It pulls even where the distance is 0: is the norm squared?"
    along = float(seen @ wanted) / float(seen.norm() * wanted.norm())
    times = float(seen.norm() / wanted.norm())
    if along > 0.999 and abs(times - 2) < 0.05:
        return TWICE
    if along < -0.9:
        return "Its sign is turned: it pushes away from the received model."
    if along > 0.5:
        return "Its pull has not the size of the distance: is the norm squared, and of the right tensors?"
    return "It is another term than mu/2 of the squared distance to what was received."


def _control(run: Callable[[Any], Any], base: Any, role: str, sign: int) -> Check:
    """One step of SCAFFOLD is w - lr (g - c_i + c): the controls' part of it is known."""
    who = "the server's control" if role == "theirs" else "the client's control"
    start = _flat(run(base).state, base.state)
    seen = _flat(run(replace(base, **{role: CONTROL})).state, base.state) - start
    wanted = torch.full_like(seen, -sign * base.rate * CONTROL)
    trained = seen.abs() > 0
    off = (
        float((seen - wanted)[trained].norm() / wanted[trained].norm().clamp_min(1e-30)) if bool(trained.any()) else 1.0
    )
    why = ""
    if off > 0.02:
        turned = bool(trained.any()) and float((seen + wanted)[trained].norm()) < 0.02 * float(wanted[trained].norm())
        why = "Its sign is turned." if turned else "It has no effect." if not bool(trained.any()) else "Another term."
    return Check(who, off <= 0.02, f"{short(off)} off", f"{'+' if sign > 0 else '-'}c in every step's gradient", why)


def _difference(visit: Any, base: Any) -> Tensor:
    return _flat(visit.state, base.state) - _flat(base.state, base.state)


def _norm(value: Tensor) -> float:
    return float(value.norm())


def _flat(state: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> Tensor:
    names = [n for n, v in like.items() if v.is_floating_point() and "running" not in n]
    return torch.cat([state.get(name, like[name]).double().flatten() for name in names])
