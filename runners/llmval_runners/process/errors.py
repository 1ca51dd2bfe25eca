"""The exceptions that a runner turns into a sentence and an exit code."""

USAGE_EXIT = 2
UNDECIDED_EXIT = 3  # measured, but invalid or inconclusive


class Refused(Exception):
    """The requested run is not possible. The message is one clear sentence that says what to do instead.

    Raise it before any heavy work. The runner prints it once, on rank 0, and every rank exits with `USAGE_EXIT`.
    """


class RankLost(RuntimeError):
    """Another rank ended or hangs, so a collective can never finish."""
