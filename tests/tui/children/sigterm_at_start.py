"""`llmval`, which gets SIGTERM while Textual's driver starts the terminal, before the application's loop runs."""

import os
import signal
import sys

from textual.drivers.linux_driver import LinuxDriver

from llmval_tui import cli

query = LinuxDriver._query_in_band_window_resize


def query_and_signal(self: LinuxDriver) -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    query(self)


# Among the last things that the driver does at its start.
LinuxDriver._query_in_band_window_resize = query_and_signal  # type: ignore[method-assign]  # a patch
sys.exit(cli.main(sys.argv[1:]))
