"""Torch's compiler, put off until something compiles.

The first optimizer step and DistributedDataParallel import `torch._dynamo`, two to three times the
work of `import torch` itself, only to hear that nothing is to be compiled: torch/optim/optimizer.py
`_use_grad_for_differentiable`, torch/_compile.py `_disable_dynamo`, and `get_optimize_ddp_mode` in
torch/nn/parallel/distributed.py (2.9 to 2.15). The stub answers these; anything else that is asked
of it, or any submodule, loads the real package in its place. To go once torch asks lazily itself.
"""

import contextlib
import importlib
import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

NAME = "torch._dynamo"


def install() -> None:
    """Stand in for torch._dynamo, unless it is loaded already."""
    if NAME in sys.modules:
        return
    stub = _Stub(NAME)
    sys.modules[NAME] = stub
    sys.meta_path.insert(0, _Finder())
    if torch := sys.modules.get("torch"):
        vars(torch)["_dynamo"] = stub


def load() -> ModuleType:
    """The real torch._dynamo, from now on the only one."""
    if isinstance(sys.modules.get(NAME), _Stub):
        del sys.modules[NAME]
        vars(sys.modules["torch"]).pop("_dynamo", None)
        for function in _passed:
            vars(function).pop("__dynamo_disable", None)  # Where torch keeps the answer.
    return importlib.import_module(NAME)


def _nothing(*_: Any, **__: Any) -> None:
    """There is no graph to break and no cache to clear."""


class _Part:
    """A submodule of which a little is known without it."""

    def __init__(self, name: str, **known: Any) -> None:
        self._name = name
        vars(self).update(known)

    def __getattr__(self, name: str) -> Any:
        return getattr(getattr(load(), self._name), name)


class _Stub(ModuleType):
    """The package. Whoever imports a submodule asks for `__path__`, and so loads the real one."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.graph_break = _nothing
        self.disable = _disable
        self.utils = _Part("utils", get_optimize_ddp_mode=lambda: "ddp_optimizer")
        self.trace_rules = _Part("trace_rules", clear_lru_cache=_nothing)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__path__":  # inspect looks at every module.
            raise AttributeError(name)
        return getattr(load(), name)


_passed: list[Callable[..., Any]] = []


def _disable(fn: Any = None, recursive: bool = True, **options: Any) -> Any:
    """The function itself, where torch wants its own method left alone by the compiler."""
    if fn is None or options != {"wrapping": False}:
        return load().disable(fn, recursive, **options)
    _passed.append(fn)
    return fn


class _Finder(MetaPathFinder):
    """Keeps a submodule single that the real package imported while it was being looked for."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.startswith(NAME + ".") and (module := sys.modules.get(fullname)):
            return ModuleSpec(fullname, _Known(module))
        return None


class _Known(Loader):
    def __init__(self, module: ModuleType) -> None:
        self._module, self._spec = module, module.__spec__

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return self._module

    def exec_module(self, module: ModuleType) -> None:
        with contextlib.suppress(AttributeError):  # Modules of settings refuse it, at both ends.
            module.__spec__ = self._spec
