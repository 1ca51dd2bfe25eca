"""What starts the nodes of a run and can end them: a job of Slurm, or ssh."""

import time
from collections.abc import Sequence
from typing import Protocol

from llmval_tui.fleet import slurm
from llmval_tui.fleet.heartbeat import SILENT_S, Pulse
from llmval_tui.fleet.launch import FleetLaunch, Launcher
from llmval_tui.fleet.part import node_folder
from llmval_tui.fleet.preflight import problems, sentence_of
from llmval_tui.fleet.probe import ENV_FILE, sees_run
from llmval_tui.fleet.ssh import Nodes, ask
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.files import write_json
from llmval_tui.runs.records import JobStatus
from llmval_tui.runs.store import Run

SLURM_POLL_S = 3.0  # of the controller, which serves the whole cluster
HEARD_S = 10.0  # a node that has not taken a cancel by then gets SIGINT
GRACE_S = 100.0  # for the end of a part: three steps of the ladder, and a record of a minute
FETCH_TRIES = 3


class Transport(Protocol):
    """What starts the nodes, and can end them."""

    def start(self, job: JobStatus) -> None:
        """Start the run, once. Raises Refused if nothing was started."""

    def look(self, job: JobStatus, pulses: dict[str, Pulse], now_s: float) -> None:
        """Bring `job` and the pulses up to date."""

    def over(self, job: JobStatus) -> bool:
        """Whether nothing can come any more from a node that has not reported."""

    def cancel(self, job: JobStatus, waited_s: float, *, taken: bool) -> str | None:
        """Climb one step of the ladder, if it is time; a sentence for the step."""

    def finish(self, job: JobStatus, pulses: dict[str, Pulse], *, forced: bool) -> list[str]:
        """Fetch what is not here, and look for processes that are left; a sentence for each problem."""


class SlurmTransport:
    """One job."""

    def __init__(self, run: Run, launch: FleetLaunch) -> None:
        self.run, self.launch = run, launch
        self._due_s = 0.0
        self._step = 0

    def start(self, job: JobStatus) -> None:
        job.id = slurm.submit(self.run, self.launch)
        job.step, job.state = f"{job.id}.{slurm.AGENTS_STEP}", "PENDING"

    def look(self, job: JobStatus, pulses: dict[str, Pulse], now_s: float) -> None:
        for pulse in pulses.values():
            pulse.look(now_s)
        all_ended = bool(pulses) and all(pulse.ended for pulse in pulses.values())
        if job.id is None or (now_s < self._due_s and not all_ended):
            return
        self._due_s = now_s + SLURM_POLL_S
        seen = slurm.look(job.id)
        if seen is None:
            job.reason = "Slurm does not answer, or no longer knows the job"
            # It forgets a job some minutes after its end: then only the nodes' own records say how it ended.
            if slurm.answers() and slurm.find(self.run) is None:
                job.state = job.state if job.state in slurm.OVER else "COMPLETED"
            return
        job.state, job.reason, job.restarts = seen.state, seen.reason, seen.restarts
        if seen.nodes and not job.nodes:
            job.nodes = list(self.run.intent.nodes or seen.nodes)
        silent = [name for name, pulse in pulses.items() if (pulse.silent_s(now_s) or 0) > SILENT_S / 2]
        for name, word in slurm.down_nodes(silent).items():
            job.lost.setdefault(name, f"Slurm calls it {word}, and nothing comes from it any more")

    def over(self, job: JobStatus) -> bool:
        return job.state in slurm.OVER

    def cancel(self, job: JobStatus, waited_s: float, *, taken: bool) -> str | None:
        if job.id is None or job.state in slurm.OVER:
            return None
        if job.state in ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "SUSPENDED") and self._step < 3:
            self._step = 3
            slurm.cancel(job.id)
            return f"scancel {job.id}: the job had not begun"
        if not taken and waited_s >= HEARD_S and self._step < 1:
            self._step = 1
            slurm.interrupt(job.id)
            return f"scancel --signal=INT {job.step}: not every node had taken the request"
        if waited_s >= GRACE_S and self._step < 3:
            self._step = 3
            slurm.cancel(job.id)
            return f"scancel {job.id}: it had not ended within {GRACE_S:.0f} s"
        return None

    def finish(self, job: JobStatus, pulses: dict[str, Pulse], *, forced: bool) -> list[str]:
        unseen = [name for name, pulse in pulses.items() if not pulse.ended and pulse.seen_s is not None]
        if not unseen or job.id is None:
            return []
        down = slurm.down_nodes(unseen)
        said = [f"nothing could be checked on {name}: Slurm calls it {word}" for name, word in down.items()]
        there = [name for name in unseen if name not in down]
        if there and (problem := slurm.look_for_leftovers(self.run, self.launch, there)):
            said.append(problem)
        return said


class SshTransport:
    """One detached agent a node."""

    def __init__(self, run: Run, launch: FleetLaunch) -> None:
        self.run, self.launch = run, launch
        self._nodes: Nodes | None = None
        self._cancelled = self._forced = False

    def start(self, job: JobStatus) -> None:
        nodes = self.run.intent.nodes
        if job.state is None:  # the first head
            self._look_at_nodes(nodes)
        job.nodes, job.state = list(nodes), "STARTING"
        not_started = self._connected().start()
        if len(not_started) == len(nodes):
            raise Refused(sentence_of(list(not_started.values())))
        for name, reason in not_started.items():
            job.lost[name] = f"its agent could not be started: {reason}"
        job.state = "RUNNING"

    def _look_at_nodes(self, nodes: Sequence[str]) -> None:
        checklist = self.run.workspace / self.launch.checklist if self.launch.checklist else None
        answers = ask(self.run.folder, self.launch, nodes, checklist)
        reasons = list(answers.silent.values())
        there = [name for name in nodes if name in answers.probes]
        reasons += problems(self.launch, there, answers.probes, answers.clock_ns)
        if reasons:
            raise Refused(sentence_of(reasons))
        for name, found in answers.probes.items():
            folder = node_folder(self.run, name)
            folder.mkdir(parents=True, exist_ok=True)
            write_json(folder / ENV_FILE, found)

    def _connected(self) -> Nodes:
        if self._nodes is None:
            shared = {name: sees_run(self.run.folder, name) for name in self.run.intent.nodes}
            self._nodes = Nodes(self.run, self.launch, self.run.intent.nodes, shared)
        return self._nodes

    def look(self, job: JobStatus, pulses: dict[str, Pulse], now_s: float) -> None:
        nodes = self._connected()
        for name, pulse in pulses.items():
            if nodes.shares(name):
                pulse.look(now_s)
        nodes.hear(pulses, now_s)

    def over(self, job: JobStatus) -> bool:
        return False

    def cancel(self, job: JobStatus, waited_s: float, *, taken: bool) -> str | None:
        if not self._cancelled:
            self._cancelled = True
            self._connected().cancel()
            return "the request was given to every node"
        if waited_s >= GRACE_S and not self._forced:
            self._forced = True
            left = [name for name in job.nodes if name not in job.lost]
            said = self._connected().look_for_leftovers(left)
            return "; ".join([f"what was left after {GRACE_S:.0f} s was ended on each node", *said.values()])
        return None

    def finish(self, job: JobStatus, pulses: dict[str, Pulse], *, forced: bool) -> list[str]:
        nodes, said = self._connected(), []
        left = [name for name, pulse in pulses.items() if not pulse.ended]
        unseen = nodes.look_for_leftovers(left) if left else {}
        said += [f"nothing could be checked on {name}: {reason}" for name, reason in unseen.items()]
        for name, lines in nodes.judge_there([name for name in left if name not in unseen]).items():
            pulses[name].hear(lines, time.monotonic())
        for name, pulse in pulses.items():
            for attempt in range(FETCH_TRIES):
                problem = nodes.fetch(name, pulse.manifest_sha256)
                if problem is None:
                    break
                time.sleep(attempt)
            else:
                said.append(problem or "")
                job.lost.setdefault(name, problem or "")
        said += nodes.forget_secrets()
        nodes.close()
        job.state = "COMPLETED"
        return said


def transport_of(run: Run, launch: FleetLaunch) -> Transport:
    return SlurmTransport(run, launch) if launch.launcher is Launcher.SLURM else SshTransport(run, launch)
