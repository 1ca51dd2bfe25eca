"""The process of the sweep: its exit code for each way to end."""

import sys
import traceback
from typing import NoReturn

from llmval_runners.power.options import parse
from llmval_runners.process.errors import USAGE_EXIT, Refused
from llmval_runners.process.events import EventLog
from llmval_runners.process.shutdown import StopSignals


def run_sweep(argv: list[str]) -> NoReturn:
    """Run the sweep and exit: 0 all cells have a result, 1 a cell failed or all were refused, 2 refused, 130/143."""
    events: EventLog | None = None
    stop = StopSignals(emergency_save=lambda number: None)
    try:
        options = parse(argv)
        events = EventLog(0).start()
        from llmval_runners.power.energy import Stopped
        from llmval_runners.power.sweep import Sweep  # imports torch, so after the flags are checked

        stop.install()
        sweep = Sweep(options, events, stopped=lambda: stop.number is not None)
    except Refused as refusal:
        print(f"refused: {refusal}", file=sys.stderr, flush=True)
        if events is not None:
            if events.recording:  # on a terminal the line above is enough
                events.error("refused", str(refusal))
            events.close()
        sys.exit(USAGE_EXIT)
    try:
        code = sweep.run()
        sweep.close()
    except Refused as refusal:
        print(f"refused: {refusal}", file=sys.stderr, flush=True)
        code = USAGE_EXIT
    except Stopped:
        code = stop.exit_code
        events.error(
            "stopped",
            f"ended by signal {code - 128}; run the same command again to continue with the remaining cells.",
        )
    except Exception as error:  # noqa: BLE001  (any failure becomes an event and an exit code)
        traceback.print_exc()
        events.error(type(error).__name__, str(error))
        code = 1
    stop.done()
    events.close()
    sys.stdout.flush()
    sys.stderr.flush()
    sys.exit(code)
