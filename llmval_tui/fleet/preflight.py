"""Whether a run may start on its nodes: one sentence for each reason why not.

In a Slurm job `python -m llmval_tui.fleet.preflight RUN n1,n2` reads what the nodes wrote, between the step that asks
them and the step that runs the item. Over ssh the head compares the answers itself.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from llmval_tui import __version__
from llmval_tui.fleet.launch import FleetLaunch, launch_of
from llmval_tui.fleet.probe import NodeProbe, read_probe
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.files import write_json
from llmval_tui.runs.store import Run

CLOCK_S = 60.0  # farther apart, times in records of one run mislead
REFUSED_FILE = "refused.json"


def problems(
    launch: FleetLaunch, nodes: Sequence[str], probes: Mapping[str, NodeProbe], clock_ns: Mapping[str, int] | int
) -> list[str]:
    """Why the nodes cannot run it together, in the order of the nodes; [] if they can.

    Args:
        clock_ns: our clock when a node answered, by node; or one node's clock that all are compared with.
    """
    found = []
    for name in nodes:
        node = probes.get(name)
        if node is None:
            found.append(f"{name} did not answer: look at it, or leave it out of the node list.")
            continue
        if node.llmval != __version__:
            found.append(
                f"{name} has llmval {node.llmval}, and this is {__version__}: install the same version on every node."
            )
        ours = clock_ns if isinstance(clock_ns, int) else clock_ns[name]
        if abs(node.wall_ns - ours) > CLOCK_S * 1e9:
            off = (node.wall_ns - ours) / 1e9
            found.append(f"the clock of {name} is {off:+.0f} s off: set it by NTP, because all records have times.")
        # A node that sees the run sees the same list; its operator may have edited it since.
        other = node.run_sha256 is None and node.checklist_sha256 not in (None, launch.checklist_sha256)
        if launch.checklist_sha256 and other:
            found.append(f"{name} has another {launch.checklist}: let every node see the same file, or none.")
        if launch.shared and node.run_sha256 is None:
            found.append(
                f"{name} does not see the workspace, which is said to be shared: mount it there, or write "
                "shared = false below [fleet]."
            )
        if launch.collective and name == nodes[0] and node.address is None:
            found.append(f"{name} has no address that other nodes can reach: check its network interfaces.")
    return found + _same_machine(launch, nodes, probes)


def _same_machine(launch: FleetLaunch, nodes: Sequence[str], probes: Mapping[str, NodeProbe]) -> list[str]:
    if launch.same_machine:
        return []
    seen: dict[str, str] = {}
    for name in nodes:
        machine = probes[name].machine_id if name in probes else None
        if machine is not None and (other := seen.setdefault(machine, name)) != name:
            one = f"{other} and {name} are one machine (machine id {machine[:8]}…)"
            return [f"{one}: name each machine once, or pass --same-machine, which is recorded as a deviation."]
    return []


def sentence_of(reasons: Sequence[str]) -> str:
    """All reasons in one sentence: the first, and how many nodes more have one."""
    more = f" ({len(reasons) - 1} more: {'; '.join(reasons[1:3])}{' …' if len(reasons) > 3 else ''})"
    return reasons[0] if len(reasons) == 1 else reasons[0].rstrip(".") + more


def main(arguments: list[str] | None = None) -> int:
    """In a Slurm job, with RUN and the names `n1,n2`: 0 if the run may start; 2 if not, see `refused.json`."""
    folder, names = (arguments or sys.argv[1:])[:2]
    run, nodes = Run(Path(folder)), names.split(",")
    launch = launch_of(run.intent)
    try:
        probes = {name: found for name in nodes if (found := read_probe(run.folder, name)) is not None}
        first = next(iter(probes.values()), None)
        reasons = problems(launch, nodes, probes, first.wall_ns if first else 0)
    except Refused as refusal:
        reasons = [str(refusal)]
    if not reasons:
        return 0
    write_json(run.folder / REFUSED_FILE, {"reason": sentence_of(reasons), "reasons": reasons})
    print("\n".join(reasons), file=sys.stderr)
    return 2


if __name__ == "__main__":
    raise SystemExit(main())
