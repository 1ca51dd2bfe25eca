"""What an item needs besides its command: `needs=PROGRAM` in its llmval comment, or in that of a heading above it."""

import re
import shutil
from collections.abc import Mapping

from llmval_tui.actions.api import Context, Skip
from llmval_tui.checklist.entries import NEEDS, PROGRAMS
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.text import clean_line

SMOKE_KEY, AS_WRITTEN = "smoke", "as-written"  # `smoke=as-written`: the command is short, the smoke preset runs it too


def require_programs(context: Context) -> None:
    """Check that the programs that the item needs are on PATH.

    Raises:
        Skip: one is not.
        Refused: the value cannot be read.
    """
    stated = context.step.directives.get(NEEDS)
    if stated is None:
        stated = context.checklist.section_of(context.step).directives.get(NEEDS)
    if stated is None:
        return
    if PROGRAMS.fullmatch(stated.strip()) is None:
        raise Refused(f"needs={clean_line(stated)} is not understood: write needs=dcgmi, or several as needs=a,b.")
    names = re.split(r"[,\s]+", stated.strip())
    path = context.environment.get("PATH")
    if missing := [name for name in names if shutil.which(name, path=path) is None]:
        are = "is" if len(missing) == 1 else "are"
        raise Skip(f"{' and '.join(missing)} {are} not installed or not on PATH: install it to run this item.")


def smoke_runs_as_written(directives: Mapping[str, str]) -> bool:
    """Whether the smoke preset leaves the item's command as it is.

    Raises:
        Refused: the value is another one.
    """
    stated = directives.get(SMOKE_KEY)
    if stated not in (None, AS_WRITTEN):
        raise Refused(f"smoke={clean_line(stated)} is not understood: write smoke={AS_WRITTEN}, or leave it out.")
    return stated is not None
