"""The one exception for input that a runner will not act on."""

USAGE_EXIT = 2


class Refused(Exception):
    """What was asked cannot be done here. The message is one clear sentence that says what to do instead.

    Raised before any heavy work; the runner prints it once, on rank 0, and every rank exits with 2.
    """
