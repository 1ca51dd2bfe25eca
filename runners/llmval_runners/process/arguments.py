"""The argument parser of all runners, and types for its flags."""

import argparse
import textwrap
from collections.abc import Callable
from typing import Any, NoReturn

from llmval_runners.process.errors import Refused

# Other names of dtypes that the flags take. `fp8` is a dtype of weights and caches alone, and the same in both.
SHORT_DTYPES = {"bf16": "bfloat16", "fp32": "float32", "fp16": "float16"}
DTYPES = ("auto", "bfloat16", "float16", "float32")
_WIDTH = 80


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """The usage names a flag's value where a list of all choices would be wider than the terminal."""

    _in_usage = False

    def _format_usage(self, *args: Any, **names: Any) -> str:
        self._in_usage = True
        try:
            return super()._format_usage(*args, **names)
        finally:
            self._in_usage = False

    def _metavar_formatter(self, action: argparse.Action, default_metavar: str) -> Callable[[int], tuple[str, ...]]:
        if self._in_usage and action.metavar is None and action.choices is not None:
            return lambda size: (default_metavar.upper(),) * size
        return super()._metavar_formatter(action, default_metavar)


class Parser(argparse.ArgumentParser):
    """A parser that raises Refused for a wrong command line, in place of ending the process."""

    def __init__(self, *, prog: str, description: str, examples: str, exit_codes: str, more: str = "") -> None:
        """`examples`: commands, one a line. `exit_codes`: what each code means. `more`: other words for the end."""
        ends = [textwrap.fill(text, _WIDTH) for text in (more, exit_codes) if text]
        super().__init__(
            prog=prog,
            description=textwrap.fill(description, _WIDTH),
            epilog="\n\n".join([examples.rstrip(), *ends]),
            formatter_class=_Formatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        raise Refused(f"{message}: see --help for the flags and their values.")


def dtype(text: str) -> str:
    """The name of a dtype as torch has it; bf16, fp16 and fp32 are other names."""
    return SHORT_DTYPES.get(text, text)


def positive(text: str) -> float:
    value = _number(text)
    if value != value or value == float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a finite number")
    if value <= 0:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def count(text: str) -> int:
    value = _whole(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return value


def share(text: str) -> float:
    value = _number(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not a share above 0 and up to 1")
    return value


def natural(text: str) -> int:
    value = _whole(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is below 0")
    return value


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text[:60]!r} is not a number") from None


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text[:60]!r} is not a whole number") from None
