"""A regular expression that is compiled when it is first used: a command needs few of those that its modules state."""

import re
from functools import cached_property
from typing import Any, cast


class _LazyPattern:
    def __init__(self, pattern: str, flags: int) -> None:
        self._stated = pattern, flags

    @cached_property
    def compiled(self) -> re.Pattern[str]:
        return re.compile(*self._stated)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.compiled, name)


def lazy_pattern(pattern: str, flags: int = 0) -> re.Pattern[str]:
    """Like `re.compile`, for a large pattern that most commands do not use."""
    return cast("re.Pattern[str]", _LazyPattern(pattern, flags))
