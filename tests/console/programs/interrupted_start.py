"""Starts llmval with a command whose module turns an interrupt into another error, as native modules do."""

import os
import signal
import sys

from llmval_tui import cli
from llmval_tui.__main__ import main


def _interrupted_import(name: str) -> None:
    try:
        os.kill(os.getpid(), signal.SIGINT)
        signal.sigpending()  # the handler runs by now
    except KeyboardInterrupt:
        raise ImportError(f"{name} could not be loaded") from None


setattr(cli, "import_module", _interrupted_import)  # noqa: B010
sys.argv = ["llmval", "status"]
raise SystemExit(main())
