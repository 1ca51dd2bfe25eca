"""The last look on a node: end what a run has left there. `python -m llmval_tui.fleet.leftovers RUN [--name NAME]`.

The supervisor does the same at the end of the part. This look is for a node whose agent or supervisor was killed.
"""

import argparse
import sys
import time
from pathlib import Path

from llmval_tui.fleet.probe import node_name
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.files import write_json
from llmval_tui.foundation.process import boot_id
from llmval_tui.runs import client, termination
from llmval_tui.runs.store import Run
from llmval_tui.telemetry.process_ownership import NODES_FOLDER, RunProcesses

LEFT_FILE = "left.json"
ENDS_S = 75.0  # for a part whose supervisor is asked to end it: SIGINT, and a record of a minute


def end_supervised(part: Run) -> list[str]:
    """Cancel a part whose agent was killed and whose supervisor goes on; returns one sentence for each step taken.

    A signal to its processes would look like a failure of the command, and blame a healthy node. A part that was
    cancelled before has had its time.

    Raises:
        Refused: the request cannot be written, or the status is damaged.
    """
    if not part.supervised() or part.cancel_file.exists():
        return []
    by = "the last look on the node: its agent had ended before its part"
    client.request_end(part.cancel_file, by, part.status().supervisor)
    began = time.monotonic()
    while part.supervised():
        if (waited := time.monotonic() - began) >= ENDS_S:
            return [f"asked the supervisor to end the part, which it did not do within {waited:.0f} s"]
        time.sleep(0.1)
    return [f"asked the supervisor to end the part, which it did within {time.monotonic() - began:.1f} s"]


def main(arguments: list[str] | None = None) -> int:
    """End what is left, and write `left.json` into the node's folder: what was done, one sentence each."""
    parser = argparse.ArgumentParser(prog="python -m llmval_tui.fleet.leftovers")
    parser.add_argument("run", type=Path)
    parser.add_argument("--name")
    options = parser.parse_args(arguments)
    name = options.name or node_name()
    folder = options.run / NODES_FOLDER / str(name)
    if name is None or not folder.is_dir():
        print(f"{name} has no part of {options.run}", file=sys.stderr)
        return 2
    try:
        done = end_supervised(Run(folder))
    except Refused as refusal:
        done = [str(refusal)]
    done += termination.kill_leftovers(RunProcesses(folder))
    write_json(folder / LEFT_FILE, {"v": 1, "boot_id": boot_id(), "done": done})
    print("\n".join(done) or "nothing was left")
    return 1 if any(line.startswith("could not kill") for line in done) else 0


if __name__ == "__main__":
    raise SystemExit(main())
