"""The agent of one node: `python -m llmval_tui.plans.node_agent RUN --nodes n1,n2 [--name n1]`.

Slurm starts it once a node; over ssh it is started detached. It starts the node's part under an ordinary supervisor,
passes on a cancel, judges the part where its files are, and says every two seconds that it is alive. It writes only
into RUN/nodes/NAME. Started again, it goes on where it was: a part never runs twice.
"""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from llmval_tui.actions.judge import judge_part
from llmval_tui.fleet.heartbeat import Heartbeat
from llmval_tui.fleet.manifest import write_manifest
from llmval_tui.fleet.part import node_folder, part_of
from llmval_tui.fleet.probe import node_name, read_probe
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.files import take_lock
from llmval_tui.runs import client
from llmval_tui.runs.create import write_run
from llmval_tui.runs.records import Verdict
from llmval_tui.runs.store import Run

AGENT_LOCK = "agent.lock"
# Signals that a site sends to a whole job (`scancel -s USR1`, `--signal`): a part goes on.
_IGNORED = (signal.SIGHUP, signal.SIGPIPE, signal.SIGUSR1, signal.SIGUSR2)


class Agent:
    """Carries one node's part from its intent to its verdict."""

    def __init__(self, run: Run, name: str, nodes: Sequence[str]) -> None:
        self.run, self.name, self.nodes = run, name, nodes
        self.folder = node_folder(run, name)
        self._stop: str | None = None

    def ask_to_stop(self, number: int, _frame: object) -> None:
        """Signal handler: a signal to the agent cancels the part."""
        self._stop = f"{signal.Signals(number).name} to the agent of {self.name}"

    def work(self) -> Verdict:
        """Carry out the part, or the rest of it.

        Raises:
            Refused: it cannot be started or judged.
        """
        heart = Heartbeat(self.folder)
        heart.begin()
        try:
            part = self._part()
            if part.verdict() is None:
                self._carry_out(part)
            verdict = judge_part(part, self.run)
            manifest = write_manifest(self.folder)
        except (Refused, OSError) as error:
            heart.end(outcome=None, reason=str(error))
            raise
        heart.end(outcome=verdict.outcome, manifest_sha256=manifest)
        return verdict

    def _part(self) -> Run:
        if (self.folder / "run.json").exists():
            return Run(self.folder)
        own, first = read_probe(self.run.folder, self.name), read_probe(self.run.folder, self.nodes[0])
        if own is None or first is None:
            missing = self.name if own is None else self.nodes[0]
            raise Refused(f"{missing} did not say what it is (nodes/{missing}/env.json): start the run again.")
        return write_run(self.folder, part_of(self.run, self.name, self.nodes, own, first))

    def _carry_out(self, part: Run) -> None:
        if not (self.folder / "status.json").exists():
            if self.run.cancelled_by() or self._stop:
                raise Refused("the run was cancelled before this node began.")
            client.start(part)
        while not client.wait(part, 0.2):
            if by := self.run.cancelled_by() or self._stop:
                client.request_cancel(part, by)


def main(arguments: list[str] | None = None) -> int:
    """0 if the part was recorded and judged, whatever its outcome; 2 if it was refused."""
    parser = argparse.ArgumentParser(prog="python -m llmval_tui.plans.node_agent")
    parser.add_argument("run", type=Path)
    parser.add_argument("--nodes", required=True, help="all nodes, in the order of their ranks: n1,n2")
    parser.add_argument("--name", help="of this node (in a Slurm job: its own)")
    options = parser.parse_args(arguments)
    # A supervisor in a systemd scope of its own would leave the job's control group.
    os.environ.pop("XDG_SESSION_ID", None)
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    name = options.name or node_name()
    if name is None:
        print("refused: give this node a name with --name: it runs outside of a Slurm job.", file=sys.stderr)
        return 2
    run = Run(options.run)
    agent = Agent(run, name, options.nodes.split(","))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT):
        signal.signal(number, agent.ask_to_stop)
    try:
        _ = run.intent
        agent.folder.mkdir(parents=True, exist_ok=True)
        if take_lock(agent.folder / AGENT_LOCK) is None:
            print(f"{name} has an agent of {run.id} already", file=sys.stderr)
            return 0
        verdict = agent.work()
    except Refused as refusal:
        print(f"{name}: {refusal}", file=sys.stderr)
        return 2
    print(f"{name}: {verdict.outcome}: {verdict.summary}", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
