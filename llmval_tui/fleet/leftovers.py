"""The last look on a node: end what a run has left there. `python -m llmval_tui.fleet.leftovers RUN [--name NAME]`.

The node's supervisor does the same at the end of the part. This look is for a node whose supervisor was killed.
"""

import argparse
import sys
from pathlib import Path

from llmval_tui.fleet.probe import node_name
from llmval_tui.foundation.files import write_json
from llmval_tui.foundation.process import boot_id
from llmval_tui.runs import termination
from llmval_tui.telemetry.process_ownership import NODES_FOLDER, RunProcesses

LEFT_FILE = "left.json"


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
    done = termination.kill_leftovers(RunProcesses(folder))
    write_json(folder / LEFT_FILE, {"v": 1, "boot_id": boot_id(), "done": done})
    print("\n".join(done) or "nothing was left")
    return 1 if any(line.startswith("could not kill") for line in done) else 0


if __name__ == "__main__":
    raise SystemExit(main())
