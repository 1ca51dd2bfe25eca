"""The entry point of `llmval` and of `python -m llmval_tui`."""

import os
import signal
import sys


def main() -> int:
    """Run the command line and return its exit code."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not if the caller ignores it
        signal.signal(signal.SIGINT, _end)
    if "LLMVAL_BUNDLE" in os.environ:
        # The bundle's cache is its own. Images with PYTHONDONTWRITEBYTECODE would compile for a second at each start.
        sys.dont_write_bytecode = False
    from llmval_tui import cli

    return cli.main(before_command=_raise_interrupts)


def _end(_number: int, _frame: object) -> None:
    """Ctrl-C while modules are imported: nothing is begun yet.

    A KeyboardInterrupt inside an import can become another error or crash a native module, orjson for one.
    """
    os._exit(130)


def _raise_interrupts() -> None:
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


if __name__ == "__main__":
    raise SystemExit(main())
