"""The exception whose message the operator reads, and the exit codes of the command line."""

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of every `llmval` command; documented in the README."""

    PASSED = 0
    FAILED = 1
    REFUSED = 2
    UNDECIDED = 3  # inconclusive or invalid
    INTERRUPTED = 130


class Refused(Exception):
    """Input that llmval refuses. The message is one clear sentence that says what to do instead.

    It is raised before anything is changed; the command line prints it and exits with 2.
    """
