"""What autograd's graph says of an objective before its backward call: which parts of it avoid a given loss."""

from __future__ import annotations

import re
from collections.abc import Mapping, Set
from typing import Any, NamedTuple

import torch
from torch import Tensor

Node = Any  # torch.autograd.graph.Node; its attributes differ by kind
LARGE = 50_000  # nodes from which a graph is not looked at
LOGITS = ("LogSoftmaxBackward0", "BinaryCrossEntropyWithLogitsBackward0")  # nodes that are given logits
SQUASHED = {"SoftmaxBackward0": "softmax", "SigmoidBackward0": "sigmoid"}
SHAPED = frozenset(  # nodes that change the form of what they are given, not its numbers
    {"ViewBackward0", "UnsafeViewBackward0", "ReshapeAliasBackward0", "SqueezeBackward0", "SqueezeBackward1"}
    | {"SqueezeBackward2", "UnsqueezeBackward0", "TransposeBackward0", "TBackward0", "PermuteBackward0"}
    | {"CloneBackward0", "ToCopyBackward0", "SelectBackward0", "SliceBackward0", "AliasBackward0"}
)
PLAIN = re.compile(r"Backward\d+$|^AccumulateGrad$|^CppFunction$")  # PyTorch's own; an author's has no number


class Branches(NamedTuple):
    """`inside`: nodes that the losses depend on, themselves among them; `beside`: those that the root reaches without
    passing the losses."""

    inside: frozenset[Node]
    beside: frozenset[Node]


def reached(root: Node, stops: Set[Node] = frozenset()) -> frozenset[Node] | None:
    """Everything `root` depends on, not beyond `stops`; None: too much."""
    found, waiting = {root}, [root]
    while waiting:
        for following, _ in waiting.pop().next_functions:
            if following is not None and following not in stops and following not in found:
                found.add(following)
                waiting.append(following)
        if len(found) > LARGE:
            return None
    return frozenset(found)


def branches(root: Node, losses: Set[Node]) -> Branches | None:
    """The graph of `root` cut at `losses`."""
    beside = frozenset() if root in losses else reached(root, losses)
    inside = [reached(one) for one in losses]
    if beside is None or any(one is None for one in inside):
        return None
    return Branches(frozenset().union(*(one for one in inside if one is not None)), beside)


def squashed(nodes: Set[Node]) -> str:
    """ "softmax" or "sigmoid" where its results are taken for logits by one of `nodes`, else ""."""
    for node in nodes:
        before = node.next_functions[0][0] if type(node).__name__ in LOGITS else None
        while before is not None and type(before).__name__ in SHAPED:
            before = before.next_functions[0][0]
        if before is not None and (found := SQUASHED.get(type(before).__name__)):
            return found
    return ""


def leaves(nodes: Set[Node]) -> dict[int, Tensor]:
    """The tensors that gradients are left in, by id."""
    found = [node.variable for node in nodes if hasattr(node, "variable")]
    return {id(one): one for one in found}


def added(root: Node, loss: Node) -> bool:
    """Whether `root` is `loss` plus other things: its derivative by the loss is 1."""
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if node is loss:
            return True
        kind, following = type(node).__name__, [one for one, _ in node.next_functions if one is not None]
        if kind == "AddBackward0" and getattr(node, "_saved_alpha", 1) == 1:
            waiting += following
        elif kind in ("AddBackward0", "SubBackward0"):
            waiting += [one for one, _ in node.next_functions[:1] if one is not None]
    return False


def gradients_beside(objective: Tensor, cut: Branches) -> dict[int, Tensor] | None:
    """The gradient of what stands beside the losses, by id of the leaf; nothing of the graph is changed or freed.

    None: it shares more with the losses than leaves (it depends on the same outputs), or is the author's own function.
    """
    apart = {node for node in cut.beside if not hasattr(node, "variable")}
    # Nodes on the way from the root to the losses are beside them too; only what feeds a loss is inside.
    if apart & cut.inside or not all(PLAIN.search(type(node).__name__) for node in cut.beside):
        return None
    root: Node = objective.grad_fn
    given: dict[Node, dict[int, Tensor]] = {root: {objective.output_nr: torch.ones_like(objective)}}
    waiting = _users(cut.beside)
    ready, found = [root], dict[int, Tensor]()
    with torch.no_grad():
        while ready:
            node = ready.pop()
            got = given.pop(node, {})
            if hasattr(node, "variable"):
                if got:
                    found[id(node.variable)] = got[0]
                continue
            passed = _passed(node, got)
            for (following, place), value in zip(node.next_functions, passed, strict=False):
                if following not in cut.beside:
                    continue
                if value is not None:
                    form = following._input_metadata[place]  # what was broadcast is summed up
                    value = value.sum_to_size(form.shape).to(form.dtype)
                    held = given.setdefault(following, {})
                    held[place] = held[place] + value if place in held else value
                waiting[following] -= 1
                if not waiting[following]:
                    ready.append(following)
    return found


def _users(nodes: Set[Node]) -> dict[Node, int]:
    """How many inputs of others each node is."""
    counts = dict.fromkeys(nodes, 0)
    for node in nodes:
        for following, _ in node.next_functions:
            if following in counts:
                counts[following] += 1
    return counts


def _passed(node: Node, got: Mapping[int, Tensor]) -> tuple[Tensor | None, ...]:
    if not got:
        return (None,) * len(node.next_functions)
    passed = node(*(got.get(place) for place in range(max(got) + 1)))
    return passed if isinstance(passed, tuple) else (passed,)
