"""The exit codes of all runners, and the exceptions that a runner turns into a sentence and an exit code."""

import signal

GOOD_EXIT = 0
FAILED_EXIT = 1  # measured and not good enough (failed, overloaded), or the run itself failed
USAGE_EXIT = 2  # refused: nothing was measured
UNDECIDED_EXIT = 3  # measured, but invalid or inconclusive
SIGNAL_EXIT = 128  # plus the number of the signal that ended it


class Refused(Exception):
    """The requested run is not possible. The message is one clear sentence that says what to do instead.

    Raise it before any heavy work. The runner prints it once, on rank 0, and every rank exits with `USAGE_EXIT`.
    """


class RankLost(RuntimeError):
    """Another rank ended or hangs, so a collective can never finish."""


def exit_codes(good: str, failed: str, undecided: str | None) -> str:
    """The sentence of a `--help` about exit codes. Each argument says when that code is given; None: never."""
    third = f"3 {undecided}; " if undecided else ""
    return (
        f"Exit codes: 0 {good}; 1 {failed}; 2 refused, nothing was measured; {third}130, 143, 129 ended by SIGINT, "
        "SIGTERM, SIGHUP."
    )


def ended_by(number: int | None) -> str:
    """The reason of a run that a signal ended, by the signal's name: `ended by SIGINT`. None: it is not known."""
    if number is None:
        return "ended by a signal"
    try:
        return f"ended by {signal.Signals(number).name}"
    except ValueError:
        return f"ended by signal {number}"
