"""`python -m faults [NAME…] [--share S] [--record FILE]`: injects faults and prints how many cases failed.

`--share 0.1` tries about a tenth of the cases, as the test suite does. A run of hours needs `--record`: it can be
stopped and taken up again.
"""

import argparse
import platform
import signal
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from faults import crowds, damage, devices, identities, kills, memory, terminals, trees
from faults.report import Record, Row, sources

PRELOADED = (  # the children inherit them
    *("console.status", "console.run", "report.build", "actions.settle", "actions.judge", "actions.documents.proposal"),
    *("checklist.markdown", "runs.supervisor", "actions.steps.table_update"),
)

# What happens, as the table says it, and who makes it happen.
FAULTS: dict[str, tuple[str, Callable[[Row, int], None]]] = {
    "kills": (
        "SIGKILL before and after every write, sync, rename and link of settling, tick, accept, supervisor",
        kills.kills,
    ),
    "second_kills": ("a second SIGKILL while the first is being recovered", kills.kills_during_recovery),
    "disk": ("ENOSPC, EIO, EROFS from every call on, and short writes", kills.disk_faults),
    "bits": ("one flipped bit in a record, then five commands", damage.flipped_bits),
    "records": ("a record cut, replaced, or with a value of another type", damage.damaged_records),
    "clock": (
        "the wall clock jumps by an hour or a year, back or on, before or after an operation",
        identities.clock_jumps,
    ),
    "pids": (
        "a pid that is used again, or a record of another boot: supervisor, command, process record",
        identities.reused_pids,
    ),
    "editor": (
        "another program saves the list while llmval ticks it: appends, replaces, writes in place, vim's backup",
        crowds.second_editor,
    ),
    "plans": (f"{crowds.PLANS} plans of one item at once, and two dashboards", crowds.plans_at_once),
    "resizes": ("resizes of the terminal, 1 × 1 to 300 × 100", terminals.resizes),
    "readers": ("a terminal whose reader stops reading: it goes on, or SIGTERM ends it", terminals.stopped_readers),
    "driver": ("NVML crashes, hangs, is slow or loses a GPU at a call, while a command runs", devices.bad_drivers),
    "recorder": ("a recorder that is killed again and again", devices.killed_recorders),
    "stopped": ("a stopped rank, two, a stopped supervisor or recorder: named within 10 s", devices.stopped_ranks),
    "full": (
        "a disk that is full or hangs in mid-run: named within 10 s; afterwards the run is recorded",
        devices.disks,
    ),
    "oom": ("a rank killed for want of memory in a cgroup: named so, with the limit", memory.out_of_memory),
    "agents": ("SIGKILL of torchrun's agent at any time: no rank is left, no false pass", trees.launch_agents),
    "trees": ("SIGKILL of one process of the whole tree at a random moment", trees.whole_trees),
    "trees_twice": ("a second SIGKILL in the tree while the first is being recovered", trees.whole_trees_twice),
}


def main(arguments: list[str] | None = None) -> int:
    """Run the named faults, or all; returns 1 if a case failed, 130 after Ctrl-C or SIGTERM."""
    options = argparse.ArgumentParser(prog="python -m faults", description=__doc__)
    options.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(FAULTS)} (default: all)")
    options.add_argument("--share", type=float, default=1.0, help="of the cases to try (default: 1)")
    options.add_argument(
        "--record", type=Path, metavar="FILE",
        help="keep each case in this file; cases that it holds of the same code, and that passed, are not tried again",
    )  # fmt: skip
    options.add_argument("--table", type=Path, metavar="FILE", help="write the table into this file too, row by row")
    chosen = options.parse_args(arguments)
    if unknown := set(chosen.names) - set(FAULTS):
        options.error(f"no fault is called {', '.join(sorted(unknown))}; choose from {', '.join(FAULTS)}")
    every = max(1, round(1 / chosen.share))
    for module in PRELOADED:
        import_module(f"llmval_tui.{module}")
    for module in ("rich.console", "rich.table", "rich.text", "rich.cells", "hashlib", "getpass"):
        import_module(module)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    record = Record(chosen.record) if chosen.record else None
    head = f"{time.strftime('%F')}, Linux {platform.release()}, Python {platform.python_version()}, code {sources()}\n"
    lines = [head, "| fault | cases | failed | |", "|---|---|---|---|"]
    print("\n".join(lines))
    rows: list[Row] = []
    try:
        for name in chosen.names or FAULTS:
            began = time.monotonic()
            what, cause = FAULTS[name]
            rows.append(Row(name, what, record))
            cause(rows[-1], every)
            rows[-1].close()
            print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr)
            _show(rows[-1], lines, chosen.table)
    except KeyboardInterrupt:
        rows[-1].note = "stopped before all cases were tried"
        _show(rows[-1], lines, chosen.table)
        return 130
    for row in rows:
        for finding in row.failed[:20]:
            print(f"{row.fault}: {finding.case}: {'; '.join(finding.wrong)}", file=sys.stderr)
    return int(any(row.failed for row in rows))


def _show(row: Row, lines: list[str], table: Path | None) -> None:
    """Print a row, and write the table so far: nothing of hours is lost if the next fault is stopped."""
    print(row, flush=True)
    lines.append(str(row))
    if table is not None:
        table.parent.mkdir(parents=True, exist_ok=True)
        table.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    raise SystemExit(main())
