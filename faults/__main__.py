"""`python -m faults [NAME…] [--share S]`: injects faults and prints how many cases were tried and failed.

`--share 0.1` tries about a tenth of the cases, as the test suite does.
"""

import argparse
import platform
import sys
import time
from collections.abc import Callable
from importlib import import_module

from faults import crowds, damage, devices, identities, kills, terminals, trees
from faults.report import Row

PRELOADED = (  # the children inherit them
    *("console.status", "console.run", "report.build", "actions.settle", "actions.documents.proposal"),
    *("checklist.markdown", "runs.supervisor", "actions.steps.table_update"),
)

FAULTS: dict[str, Callable[[int], Row]] = {
    "kills": kills.kills,
    "second_kills": kills.kills_during_recovery,
    "disk": kills.disk_faults,
    "bits": damage.flipped_bits,
    "records": damage.damaged_records,
    "clock": identities.clock_jumps,
    "pids": identities.reused_pids,
    "editor": crowds.second_editor,
    "plans": crowds.plans_at_once,
    "resizes": terminals.resizes,
    "readers": terminals.stopped_readers,
    "driver": devices.bad_drivers,
    "recorder": devices.killed_recorders,
    "stopped": devices.stopped_ranks,
    "full": devices.disks,
    "trees": trees.whole_trees,
    "trees_twice": trees.whole_trees_twice,
}


def main(arguments: list[str] | None = None) -> int:
    """Run the named faults, or all; returns 1 if a case failed."""
    options = argparse.ArgumentParser(prog="python -m faults", description=__doc__)
    options.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(FAULTS)} (default: all)")
    options.add_argument("--share", type=float, default=1.0, help="of the cases to try (default: 1)")
    chosen = options.parse_args(arguments)
    if unknown := set(chosen.names) - set(FAULTS):
        options.error(f"no fault is called {', '.join(sorted(unknown))}; choose from {', '.join(FAULTS)}")
    every = max(1, round(1 / chosen.share))
    for module in PRELOADED:
        import_module(f"llmval_tui.{module}")
    for module in ("rich.console", "rich.table", "rich.text", "rich.cells", "hashlib", "getpass"):
        import_module(module)
    print(f"Linux {platform.release()}, Python {platform.python_version()}\n")
    print("| fault | cases | failed | |\n|---|---|---|---|")
    rows = []
    for name in chosen.names or FAULTS:
        began = time.monotonic()
        row = FAULTS[name](every)
        rows.append(row)
        print(row, flush=True)
        print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr)
    for row in rows:
        for finding in row.failed[:20]:
            print(f"{row.fault}: {finding.case}: {'; '.join(finding.wrong)}", file=sys.stderr)
    return int(any(row.failed for row in rows))


if __name__ == "__main__":
    raise SystemExit(main())
