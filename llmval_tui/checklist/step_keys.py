"""How records name the steps of a list: by their keys without secrets.

Two items that differ only in a secret have the same text in records, so their occurrence tells them apart. It is
counted after the items that are written like that. Records of an older llmval hold the text as it is written.
"""

from collections.abc import Iterable
from functools import cached_property
from typing import NamedTuple

from llmval_tui.foundation.masked_text import MASK, without_secrets


class StepKey(NamedTuple):
    """The identity of a step; it survives edits elsewhere in the file, renumbering and ticks."""

    section: str  # the heading's title as written
    text: str  # the item's own inline Markdown, see `Step.text`
    occurrence: int  # 1 for the first item with that text under that title, 2 for the second, …


class RecordedKeys:
    """Of one list: from the keys of its steps to those of records, and back. Only what is asked for is computed."""

    def __init__(self, keys: Iterable[StepKey]) -> None:
        self._keys = tuple(keys)

    def recorded(self, key: StepKey) -> StepKey:
        """The key by which records name the step with this key."""
        if (key.section, key.text) == _shown(key):
            return key  # nearly all: the other items need not be looked at
        return self._recorded.get(key, StepKey(*_shown(key), key.occurrence))

    def present(self, recorded: tuple[str, str, int]) -> StepKey:
        """The key of the step that a record names; the record's own if the list has no such step."""
        known = self._known.get(recorded)  # a dashboard asks this of thousands of runs a second
        if known is not None:
            return known
        found = StepKey(*recorded)
        if MASK not in found.text and MASK not in found.section:
            return found
        return self._steps.get(found, found)

    @cached_property
    def _known(self) -> dict[tuple[str, str, int], StepKey]:
        return {key: key for key in self._keys}

    @cached_property
    def _recorded(self) -> dict[StepKey, StepKey]:
        """Of each step with a secret, its key in records."""
        shown = [(key, _shown(key)) for key in self._keys]
        used: dict[tuple[str, str], int] = {}
        for key, names in shown:
            if names == (key.section, key.text):
                used[names] = used.get(names, 0) + 1
        found = {}
        for key, names in shown:
            if names != (key.section, key.text):
                used[names] = used.get(names, 0) + 1
                found[key] = StepKey(*names, used[names])
        return found

    @cached_property
    def _steps(self) -> dict[StepKey, StepKey]:
        return {recorded: key for key, recorded in self._recorded.items()}


def _shown(key: StepKey) -> tuple[str, str]:
    return without_secrets(key.section), without_secrets(key.text)
