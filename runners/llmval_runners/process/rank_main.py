"""The main function of all runner processes: refuses bad input in one sentence and sets the exit code.

0 good, 1 failed, 2 refused, 3 invalid or inconclusive, 128 + signal if a signal ended it.
"""

import os
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn, Protocol, TypeVar

from llmval_runners.process.errors import FAILED_EXIT, USAGE_EXIT, RankLost, Refused
from llmval_runners.process.events import EventLog
from llmval_runners.process.output import Report, flush_streams, guard_streams, say
from llmval_runners.process.placement import ranks_of_this_node
from llmval_runners.process.shutdown import end_on_signals

FOLLOWERS_WAIT_S = 10.0
Options = TypeVar("Options")


@dataclass(frozen=True, slots=True)
class Rank:
    """The place of this process among torchrun's ranks. Under plain Python it is the only rank."""

    rank: int
    world_size: int
    local_rank: int
    local_world_size: int
    under_torchrun: bool

    @classmethod
    def of_this_process(cls) -> "Rank":
        check_place()
        rank, size, local = (int(os.environ.get(n, d)) for n, d in (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0)))
        return cls(rank, size, local, ranks_of_this_node(size), "RANK" in os.environ)


def check_place(*, meets: bool = True) -> None:
    """End the process with exit code 2 and one sentence if the variables of torchrun contradict each other.

    `meets`: whether the ranks meet, which needs an address.
    """
    guard_streams()
    try:
        _check_place(meets)
    except Refused as refusal:
        say(f"refused: {refusal}", to_stderr=True)
        sys.exit(USAGE_EXIT)


def _check_place(meets: bool) -> None:
    remedy = "start it with torchrun, or unset the variable"
    found = {}
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        text = os.environ.get(name)
        if text is None:
            continue
        if not (text.isascii() and text.isdecimal() and len(text) <= 9):
            raise Refused(f"{name} is {text[:40]!r} in the environment, and must be a whole number: {remedy}.")
        found[name] = int(text)
    size, rank = found.get("WORLD_SIZE", 1), found.get("RANK", 0)
    if size > 1 and "RANK" not in found:
        raise Refused(f"WORLD_SIZE is {size} in the environment, and RANK is not set: {remedy}.")
    for one, ranks in ((rank, size), (found.get("LOCAL_RANK", 0), found.get("LOCAL_WORLD_SIZE", size))):
        if one >= ranks:
            raise Refused(f"the environment says rank {one} of {ranks}, which are counted from 0: {remedy}.")
    missing = [name for name in ("MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if meets and size > 1 and missing:
        raise Refused(f"WORLD_SIZE is {size} in the environment, and {missing[0]} is not set: {remedy}.")


class Program(Protocol):
    """The work of one rank."""

    def run(self) -> int:
        """Do the work, handle its own signals, and return the exit code."""

    def save_partial(self, why: str) -> None:
        """Save the result so far. `why`: the reason why the run ended."""

    def describe_error(self, error: Exception) -> str:
        """The error in one sentence."""

    def finish(self) -> None:
        """The last step, whatever happened before."""


def rank_main(parse: Callable[[], Options], make: Callable[[Options, EventLog, Rank], Program]) -> NoReturn:
    """Run the program that `make` builds from the flags, and exit.

    `make` imports torch, so `parse` comes first: a mistyped flag is answered at once. Both may raise Refused.
    """
    guard_streams()
    check_place()
    end_on_signals()
    rank = Rank.of_this_process()
    events: EventLog | None = None
    try:
        options = parse()
        events = EventLog(rank.rank, report=getattr(options, "report", Report())).start()
        program = make(options, events, rank)
    except Refused as refusal:
        refuse(refusal, events, rank.rank)
    try:
        code = program.run()
    except Refused as refusal:
        program.finish()
        refuse(refusal, events, rank.rank)
    except RankLost as error:
        print(f"rank {rank.rank} ends: {error}", file=sys.stderr, flush=True)
        if events.recording:  # on a terminal the line above has reported it
            events.error("dead_rank", str(error))
        program.save_partial(str(error))
        code = FAILED_EXIT
    except Exception as error:  # noqa: BLE001  (the one place that turns any failure into a record and an exit code)
        traceback.print_exc()
        why = program.describe_error(error)
        events.error(type(error).__name__, f"rank {rank.rank}: {why}")
        program.save_partial(f"rank {rank.rank} failed: {why}")
        code = FAILED_EXIT
    program.finish()
    events.close()
    flush_streams()
    if code or rank.world_size > 1:
        # Not sys.exit: interpreter shutdown may wait for the collectives of a dead rank, or NCCL for CUDA graphs.
        os._exit(code)
    sys.exit(0)


def refuse(refusal: Refused, events: EventLog | None, rank: int) -> NoReturn:
    """Report it once, on rank 0, and exit. The other ranks wait: torchrun would end rank 0 before it has reported.

    `events`: None if the refusal came before they were opened.
    """
    if events is None:
        try:
            events = EventLog(rank)
        except Refused:  # the file of events is what is refused
            events = EventLog(rank, path=os.devnull)
    if rank == 0:
        events.clear()
        say(f"refused: {refusal}", to_stderr=True)
        if events.recording:  # on a terminal the line above has reported it
            events.error("refused", str(refusal))
    else:
        time.sleep(FOLLOWERS_WAIT_S)
        say(f"rank {rank} refused: {refusal}", to_stderr=True)
        events.error("refused", f"rank {rank}: {refusal}")
    events.close()
    flush_streams()
    os._exit(USAGE_EXIT)
