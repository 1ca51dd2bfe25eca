"""Puts empty modules in place of Triton, which torch for CPUs does not include. Import it in a separate process."""

import sys
import types
from typing import Any


class _Empty(types.ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *given, **_: given[0] if given and callable(given[0]) else lambda function: function


for _name in ("triton", "triton.language", "triton.language.extra", "triton.language.extra.cuda"):
    sys.modules[_name] = _Empty(_name)
sys.modules["triton"].language = sys.modules["triton.language"]  # type: ignore[attr-defined]
