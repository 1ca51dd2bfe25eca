"""A criterion: one thing that an item demands of its run besides the exit code."""

from dataclasses import dataclass
from enum import StrEnum


class StatedBy(StrEnum):
    """The place that states a criterion."""

    WORDS = "words"  # the item's own words, "p99 TTFT < 200 ms"
    COMMENT = "comment"  # `expect=` in the item's llmval comment
    SETTINGS = "settings"  # the site settings beside the list
    TOOL = "tool"  # the reader of a known tool's result


@dataclass(frozen=True, slots=True)
class Criterion:
    """What must hold, where the value is, and the bound.

    `comparison` is one of `==`, `!=`, `<`, `<=`, `>`, `>=`, `contains`, `not contains`, `matches`, `not matches`,
    `empty`, `not empty`, `begins with`, `ends with`, `last line contains`, `each line contains`, `version >=`, or
    `unreadable`.
    If `unreadable` is set, no gate can judge the criterion, and a run of the item is inconclusive at best.
    """

    text: str  # as in the item, or the whole `expect`
    stated_by: StatedBy
    # "stdout", "stderr", "exit", "result" (the tool's own result file), a path relative to the workspace, or "output":
    # the words of an item do not say where the value is, so its result, its files and its output are searched.
    source: str
    comparison: str
    bound: float | str | None = None
    unit: str | None = None  # as written: "ms", "GB/s", "°C"
    selector: str | None = None  # "/regex/" with one group, or a JMESPath expression; None: the whole text
    metric: str | None = None  # the words that name the value: "ttft p99", "memory.used", "failed requests"
    # Which of several matches must hold: "all", "any", "last"; "count": their number is compared; "distinct": the
    # number of different ones; "one": the words
    # speak of one value, so several that disagree are inconclusive.
    which: str = "all"
    ignore_case: bool = False
    command: int | None = None  # the position of the command that it speaks of, from 0; None: any of them
    unreadable: str | None = None  # why no gate can read it, and the sentence to write instead
