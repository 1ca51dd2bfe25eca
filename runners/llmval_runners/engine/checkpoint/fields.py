"""A JSON object whose every field must be read, known to be irrelevant, or refused by name. No torch."""

from collections.abc import Callable, Collection
from typing import Any

from llmval_runners.engine.checkpoint.safetensors_header import short
from llmval_runners.process.errors import Refused

ELSEWHERE = "serve it with vLLM or SGLang, and measure it there with `vllm bench serve`"
LARGEST = 2**31
_REQUIRED: Any = object()


class Fields:
    """The fields of an object. Each method reads one; `refuse_rest` refuses those that nobody has read."""

    def __init__(self, values: dict[str, Any], where: str) -> None:
        """`where`: for messages, such as `DIR/config.json`."""
        self.values, self.where = values, where
        self._read: set[str] = set()

    def raw(self, name: str) -> Any:
        """The value as it is; None if it is missing."""
        self._read.add(name)
        return self.values.get(name)

    def given(self, name: str) -> bool:
        """Whether the field is there and not null. Does not count as reading it."""
        return self.values.get(name) is not None

    def integer(self, name: str, default: int = _REQUIRED, *, least: int = 1) -> int:
        """A whole number from `least` to `LARGEST`."""
        found: int = self._checked(
            name, default, lambda v: type(v) is int and least <= v <= LARGEST, f"a whole number from {least}"
        )
        return found

    def number(self, name: str, default: float = _REQUIRED, *, above: float = 0.0, below: float = 1e30) -> float:
        """A number between `above` and `below`."""
        kind = f"a number above {above:g}" if below == 1e30 else f"a number between {above:g} and {below:g}"
        return float(self._checked(name, default, lambda v: type(v) in (int, float) and above < v < below, kind))

    def flag(self, name: str, default: bool = _REQUIRED) -> bool:
        """true or false"""
        return bool(self._checked(name, default, lambda v: type(v) is bool, "true or false"))

    def text(self, name: str, default: str = _REQUIRED) -> str:
        """A text."""
        return str(self._checked(name, default, lambda v: isinstance(v, str), "a text"))

    def only(self, name: str, allowed: Collection[Any], meaning: str) -> None:
        """Refuse the field unless it is missing, null, or one of `allowed`. `meaning`: what another value asks for."""
        value = self.raw(name)
        if value is not None and not any(type(value) is type(one) and value == one for one in allowed):
            raise self.refusal(f"{name} is {short(value)}: this engine does not implement {meaning}")

    def refuse_rest(self, irrelevant: Collection[str]) -> None:
        """Raises Refused for the first field that is not null, was not read and is not irrelevant."""
        for name, value in self.values.items():
            if value is not None and name not in self._read and name not in irrelevant:
                raise self.refusal(
                    f"{short(name)} is {short(value)}: this engine does not know that field, and it may change the "
                    f"model's results",
                    f"remove it from the file if it does not, or {ELSEWHERE}",
                )

    def refusal(self, what: str, instead: str = ELSEWHERE) -> Refused:
        """The sentence for a field that cannot be served."""
        return Refused(f"{self.where}: {what}: {instead}.")

    def _checked(self, name: str, default: Any, valid: Callable[[Any], bool], kind: str) -> Any:
        self._read.add(name)
        if name not in self.values and default is not _REQUIRED:
            return default
        if name not in self.values:
            raise Refused(f"{self.where} has no {name}, which must be {kind}: download the file again, or add it.")
        value = self.values[name]
        if not valid(value):
            raise Refused(f"{self.where}: {name} is {short(value)} and must be {kind}: correct the file.")
        return value
