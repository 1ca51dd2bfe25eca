"""The one exception that reaches the operator as a sentence, and the exit codes of the command line."""

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of every `llmval` command; documented in the README."""

    PASSED = 0
    FAILED = 1
    REFUSED = 2
    UNDECIDED = 3  # inconclusive or invalid
    INTERRUPTED = 130


class Refused(Exception):
    """Input that llmval will not act on. The message is one clear sentence that says what to do instead.

    Raised before anything was changed; the command line prints it and exits with 2.
    """
