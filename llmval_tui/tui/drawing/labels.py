"""Short labels for steps: an item may be a whole command, but the list has room only for a name."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import PurePosixPath

from llmval_tui.foundation.text import clean_line
from llmval_tui.tui.drawing.markdown_text import code_spans, read_markdown


@lru_cache(maxsize=4096)
def strip_markdown(markdown: str) -> str:
    """The item's text without Markdown markup."""
    return read_markdown(markdown)


@lru_cache(maxsize=4096)
def short_label(markdown: str) -> str:
    """The item's text with only the script's name of each command and the last part of each path."""
    return read_markdown(markdown, _short_span)


def list_label(label: str) -> str:
    """A label for a narrow row: `Run: x.py` says no more than `x.py`."""
    verb, _, rest = label.partition(" ")
    return rest if verb == "Run:" and rest else label


@lru_cache(maxsize=8)
def disambiguated_labels(items: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """The short label of each item, and the arguments that tell it from items with the same label."""
    labels = [short_label(item) for item in items]
    alike: dict[str, list[tuple[str, ...]]] = {}
    for label, item in zip(labels, items, strict=True):
        alike.setdefault(label, []).append(_arguments(item))
    return tuple((label, _different(_arguments(item), alike[label])) for label, item in zip(labels, items, strict=True))


def _different(own: tuple[str, ...], of_all: Sequence[tuple[str, ...]]) -> str:
    """The arguments that not all items have. Of an option that all have, only the values, to save room."""
    everywhere = set(of_all[0]).intersection(*of_all)
    options = [{argument.partition(" ")[0] for argument in arguments} for arguments in of_all]
    shared = options[0].intersection(*options[1:])
    found = []
    for argument in own:
        if argument not in everywhere:
            option, _, values = argument.partition(" ")
            found.append(values if values and option in shared else argument)
    return " ".join(found)


def _arguments(markdown: str) -> tuple[str, ...]:
    """The words of an item's commands: each option with its values, paths by their last part."""
    found: list[str] = []
    for span in code_spans(markdown):
        option = False
        for word in clean_line(span).split():
            short = word if word.startswith("-") else PurePosixPath(word).name or word
            if option and not word.startswith("-"):
                found[-1] += f" {short}"
            else:
                found.append(short)
                option = word.startswith("-")
    return tuple(found)


def _short_span(span: str) -> str:
    words = span.split()
    if not words:
        return span
    script = next((word for word in words if word.endswith((".py", ".sh"))), None)
    if script is not None:
        return PurePosixPath(script).name
    if len(words) == 1 and _is_path(span):
        return PurePosixPath(span).name or span
    return span


def _is_path(word: str) -> bool:
    """Whether a word is surely a path; `tokens/s` and `application/json` are not: their last part says nothing."""
    return "*" not in word and "://" not in word and (word.count("/") > 1 or ("/" in word and "." in word))
