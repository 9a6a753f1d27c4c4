"""Where PyTorch is listened to: a few of its functions, replaced while a call runs and put back after it."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.utils.hooks import RemovableHandle

from fedlens.diagnosis.job import State
from fedlens.diagnosis.watch.losses import REDUCTION
from fedlens.diagnosis.watch.watch import Watch

# torch.nn.functional calls these, however an author imported the function or its module.
BUILTIN = {"nll_loss": "nll_loss_nd", "cross_entropy": "cross_entropy_loss"}
LOOKS = 4  # times that outermost modules are looked for anew

_LOCK = threading.RLock()
_active: tuple[Watch, ...] = ()
_inner: dict[int, nn.Module] = {}  # parts of outermost networks by id, held so that no id comes back
_undo: list[Callable[[], None]] = []
_hooks: list[RemovableHandle] = []
_attended: set[type] = set()
_full, _looks = False, 0


@contextmanager
def watching(received: State, model_names: frozenset[str] | None = None, *, light: bool = False) -> Iterator[Watch]:
    """Watch what the code inside does: see `Watch`. May be nested; of several threads, each is seen by its own."""
    watch = Watch(received, model_names, light)
    _enter(watch)
    try:
        yield watch
    finally:
        _leave(watch)


def _enter(watch: Watch) -> None:
    global _active, _full, _looks
    with _LOCK:
        _active, _looks = (*_active, watch), 0
        try:
            if not _undo:
                _listen()
            _look()
            if not watch.light and not _full:
                _full = True
                _listen_fully()
        except BaseException:
            _leave(watch)
            raise


def _leave(watch: Watch) -> None:
    global _active, _full, _looks
    with _LOCK:
        _active = tuple(one for one in _active if one is not watch)
        if not _active:
            while _undo:
                _undo.pop()()
            for handle in _hooks:
                handle.remove()
            _hooks.clear()
            _inner.clear()
            _attended.clear()
            _full, _looks = False, 0
    _tell(watch, watch.end)


def _present() -> Sequence[Watch]:
    """Those that the running thread concerns: the only one there is, or those of this thread."""
    if len(_active) < 2:
        return _active
    return [watch for watch in _active if watch.thread == threading.get_ident()]


def _tell(watch: Watch, event: Callable[..., Any], *said: Any) -> Any:
    """Let a watch hear something; one that fails hears no more."""
    if watch.deaf:
        return None
    try:
        return event(*said)
    except Exception:
        watch.deaf = True
        return None


def _replace(owner: Any, name: str, new: Callable[[Any], Any]) -> None:
    """Put `new(original)` in the place of `owner.name`."""
    original = getattr(owner, name)
    setattr(owner, name, new(original))
    _undo.append(lambda: setattr(owner, name, original))


def _listen() -> None:
    _replace(torch.autograd, "backward", _backwards)
    _replace(torch.autograd, "grad", _grads)
    _undo.append(register_optimizer_step_pre_hook(_step).remove)
    _undo.append(register_optimizer_step_post_hook(_stepped).remove)


def _listen_fully() -> None:
    for name in REDUCTION:
        builtin = BUILTIN.get(name, name)
        owner: Any = torch._C._nn if hasattr(torch._C._nn, builtin) else torch
        _replace(owner, builtin, lambda original, name=name: _loss(name, original))  # type: ignore[misc]
    _replace(sys.modules["torch.nn.utils.clip_grad"], "_clip_grads_with_norm_", _clips)


def _look() -> None:
    """Listen to all modules until the outermost are known: it costs a little at every call of every module."""
    global _looks
    with _LOCK:
        if not _hooks and _looks < LOOKS:
            _looks += 1
            _hooks.append(register_module_forward_pre_hook(_call))


def _settle() -> None:
    """From now on listen to the classes of outermost modules alone."""
    if not _hooks:
        return
    with _LOCK:
        if _hooks and all(watch.deaf or watch.seen for watch in _active):
            _hooks.pop().remove()


def _call(module: nn.Module, args: tuple[Any, ...]) -> None:
    if id(module) in _inner or type(module) in _attended or not torch.is_grad_enabled():
        return
    kwargs = {} if args else sys._getframe(1).f_locals.get("kwargs", {})  # a global hook is not given them
    _hear(module, args, kwargs)


def _hear(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    for watch in _present():
        new = _tell(watch, watch.forward, module, args, kwargs)
        if new is not None:
            _inner.update({id(part): part for part in new.modules() if part is not new})
            if type(new) not in _attended:
                _attend(type(new))


def _attend(kind: Any) -> None:
    own, enabled = vars(kind).get("__call__"), torch.is_grad_enabled

    def called(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if id(module) not in _inner and enabled():
            _hear(module, args, kwargs)
        return own(module, *args, **kwargs) if own else super(kind, module).__call__(*args, **kwargs)

    try:
        kind.__call__ = called
    except (TypeError, AttributeError):
        return  # a class that cannot be changed stays with the hook that hears everything
    _undo.append((lambda: setattr(kind, "__call__", own)) if own else (lambda: delattr(kind, "__call__")))
    _attended.add(kind)


def _backwards(original: Any) -> Any:
    def backward(tensors: Any, *args: Any, **kwargs: Any) -> Any:
        tensors = _kept(tensors)
        hearing = [watch for watch in _present() if _tell(watch, watch.before, _tensors(tensors), None)]
        try:
            return original(tensors, *args, **kwargs)
        finally:
            for watch in hearing:
                _tell(watch, watch.after, None, ())
            _settle() if hearing and all(watch.seen for watch in hearing) else _look()

    return backward


def _grads(original: Any) -> Any:
    def grad(outputs: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        outputs, inputs = _kept(outputs), _kept(inputs)
        towards, found = _tensors(inputs), None
        hearing = [watch for watch in _present() if _tell(watch, watch.before, _tensors(outputs), towards)]
        try:
            found = original(outputs, inputs, *args, **kwargs)
            return found
        finally:
            for watch in hearing:
                _tell(watch, watch.after, found, towards)
            _settle() if hearing and all(watch.seen for watch in hearing) else _look()

    return grad


def _kept(given: Any) -> Any:
    """`given`, or its elements where it can be gone through only once."""
    return list(given) if isinstance(given, Iterator) else given


def _tensors(given: Any) -> list[Tensor]:
    return [given] if isinstance(given, Tensor) else [one for one in given if isinstance(one, Tensor)]


def _step(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
    for watch in _present():
        _tell(watch, watch.step, optimizer)


def _stepped(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
    for watch in _present():
        _tell(watch, watch.stepped)


def _loss(name: str, original: Any) -> Any:
    def loss(*args: Any, **kwargs: Any) -> Any:
        heard = []
        if len(args) > 1 and torch.is_grad_enabled():
            full = [watch for watch in _present() if not watch.light]
            heard = [(watch, line) for watch in full if (line := _tell(watch, watch.loss, name, args)) is not None]
        value = original(*args, **kwargs)
        for watch, line in heard:
            _tell(watch, watch.valued, line, value)
        return value

    return loss


def _clips(original: Any) -> Any:
    def clip(parameters: Any, max_norm: Any, total_norm: Any, *args: Any, **kwargs: Any) -> Any:
        parameters = parameters if isinstance(parameters, Tensor) else list(parameters)
        for watch in _present():
            if not watch.light:
                _tell(watch, watch.clip, parameters, float(max_norm), total_norm)
        return original(parameters, max_norm, total_norm, *args, **kwargs)

    return clip
