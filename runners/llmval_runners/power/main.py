"""The process of the sweep: its exit code for each way to end."""

import os
import sys
import time
import traceback
from typing import NoReturn

from llmval_runners.power.options import parse
from llmval_runners.process.errors import FAILED_EXIT, USAGE_EXIT, Refused, ended_by
from llmval_runners.process.events import EventLog
from llmval_runners.process.output import flush_streams, guard_streams, say
from llmval_runners.process.rank_main import FOLLOWERS_WAIT_S, check_place
from llmval_runners.process.shutdown import StopSignals, end_on_signals


def run_sweep(argv: list[str]) -> NoReturn:
    """Run the sweep and exit with the code of `options.EXIT_CODES`."""
    guard_streams()
    check_place(meets=False)
    end_on_signals()
    events: EventLog | None = None
    stop = StopSignals(emergency_save=lambda number: None)
    try:
        options = parse(argv)
        _check_one_process()
        events = EventLog(0, report=options.report).start()
        from llmval_runners.power.energy import Stopped
        from llmval_runners.power.sweep import Sweep  # imports torch, so after the flags are checked

        stop.install()
        sweep = Sweep(options, events, stopped=lambda: stop.number is not None)
    except Refused as refusal:
        say(f"refused: {refusal}", to_stderr=True)
        if events is not None:
            if events.recording:  # on a terminal the line above is enough
                events.error("refused", str(refusal))
            events.close()
        sys.exit(USAGE_EXIT)
    try:
        code = sweep.run()
        sweep.close()
    except Refused as refusal:
        say(f"refused: {refusal}", to_stderr=True)
        code = USAGE_EXIT
    except Stopped:
        code = stop.exit_code
        why = f"{ended_by(code - 128)}; run the same command again to continue with the remaining cells."
        if events.recording:
            events.error("stopped", why)
        sweep.show(why)
    except Exception as error:  # noqa: BLE001  (any failure becomes an event and an exit code)
        traceback.print_exc()
        events.error(type(error).__name__, str(error))
        sweep.show(f"failed with {type(error).__name__}: {error}")
        code = FAILED_EXIT
    stop.done()
    events.close()
    flush_streams()
    sys.exit(code)


def _check_one_process() -> None:
    """Raises Refused under torchrun: every rank would measure the same cell and replace the others' files."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size > 1:
        if os.environ.get("RANK", "0") != "0":
            time.sleep(FOLLOWERS_WAIT_S)  # torchrun ends all ranks with the first, so rank 0 speaks
        raise Refused(
            f"torchrun started {size} ranks, and a cell runs a whole copy of the model on each GPU in one process: "
            "start it with plain python, and pass --devices all to use every GPU."
        )
