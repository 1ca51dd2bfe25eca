"""All nodes of a run at one moment: state, figures, age of the last sample, differences. For screens and commands."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from llmval_tui.fleet.launch import PARAMETER, Launcher, LaunchKind
from llmval_tui.fleet.node_state import NEEDS_A_PERSON, URGENCY, NodeState
from llmval_tui.fleet.outliers import deviation, shortfall
from llmval_tui.fleet.record import Difference, GroupStatistics, MetricStatistics
from llmval_tui.foundation.errors import Refused
from llmval_tui.runs.records import JOB_WAITS, Outcome
from llmval_tui.runs.store import Run
from llmval_tui.telemetry.sample import GpuSample

if TYPE_CHECKING:
    from llmval_tui.telemetry.dcgm.exporters import NodeTelemetry

SILENT_S = 30.0  # without a sign of life for so long, a running node counts as silent


@dataclass(frozen=True, slots=True)
class NodeView:
    """One node."""

    name: str
    state: NodeState
    reason: str = ""  # why it needs a person; empty if it does not
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    group: str = ""
    fraction: float | None = None  # progress from 0 to 1; None: not known
    phase: str | None = None
    age_s: float | None = None  # since its last sample arrived; None: there was none
    gpus: tuple[GpuSample, ...] = ()  # the GPUs of its last sample
    different: tuple[str, ...] = ()  # keys of its configuration in which it is not like most
    notes: tuple[str, ...] = ()  # why its exporter says nothing of a figure

    @property
    def hottest_c(self) -> float | None:
        return max((gpu.temperature_c for gpu in self.gpus if gpu.temperature_c is not None), default=None)


@dataclass(frozen=True, slots=True)
class Overview:
    """All nodes, in their order."""

    nodes: tuple[NodeView, ...]
    run_id: str | None = None  # None: no run, the nodes are only watched
    step: str = ""  # its number
    text: str = ""  # the item's text
    how: str = ""  # "each", "collective"
    launcher: str = ""  # "slurm", "ssh"
    job: str = ""  # what Slurm or ssh says, such as "PENDING (Resources)"
    refused: str = ""  # why nothing was started
    outcome: Outcome | None = None  # the run's outcome
    compared: bool = False  # `fleet.json` is there
    statistics: Mapping[str, MetricStatistics] = field(default_factory=dict)
    differences: tuple[Difference, ...] = ()

    def node(self, name: str | None) -> NodeView | None:
        return next((node for node in self.nodes if node.name == name), None)

    def group(self, metric: str, node: NodeView) -> GroupStatistics | None:
        """What a node's figure is compared with."""
        found = self.statistics.get(metric)
        return found.groups.get(node.group) if found is not None else None

    def deviation(self, metric: str, node: NodeView) -> float | None:
        """By which share the node's figure is above (+) or below (−) the median of its group."""
        group = self.group(metric, node)
        return deviation(node.metrics.get(metric), group.median) if group is not None else None

    def worse(self, metric: str, node: NodeView) -> float | None:
        """By which share the node's figure is worse than the median of its group; negative if it is better."""
        group, value = self.group(metric, node), node.metrics.get(metric)
        if group is None or value is None or not group.median:
            return None
        return shortfall(value, group.median, self.statistics[metric].better)

    @property
    def silent(self) -> list[NodeView]:
        """The nodes that do not answer, or did not report."""
        return [node for node in self.nodes if node.state in (NodeState.NO_ANSWER, NodeState.LOST)]


def with_telemetry(view: NodeView, found: "NodeTelemetry | None", now: float) -> NodeView:
    """The node with what its exporter says, instead of its recording."""
    if found is None:
        return view
    age = None if found.arrived_s is None else max(0.0, now - found.arrived_s)
    gpus = tuple(found.reading.gpus) if found.reading is not None else ()
    reason = view.reason
    if found.problem is not None:
        reason = "; ".join(part for part in (view.reason, found.problem) if part)
    notes = tuple(note.message for note in found.reading.notes) if found.reading is not None else ()
    return replace(view, age_s=age, gpus=gpus, reason=reason, notes=notes)


def watched(telemetry: "Mapping[str, NodeTelemetry]", now: float) -> Overview:
    """Nodes without a run, as their exporters show them."""
    views = []
    for name, found in telemetry.items():
        quiet = found.arrived_s is None or now - found.arrived_s > SILENT_S
        state = NodeState.NO_ANSWER if quiet else NodeState.ANSWERS
        views.append(with_telemetry(NodeView(name, state), found, now))
    return Overview(tuple(views))


def progress_text(overview: Overview) -> str:
    """How far the nodes are, in one line: `1 no answer (n7), 63 running; furthest behind: n3, measure, 40 %`."""
    if not any(node.age_s is not None or node.phase for node in overview.nodes):
        if overview.refused:
            return "refused: nothing was started"
        word, count = overview.job.partition(" ")[0], len(overview.nodes)
        if word in JOB_WAITS:
            wait = "1 node waits for its job: " if count == 1 else f"{count} nodes wait for their job: "
            return f"{wait if count else ''}{overview.job}"
        if word == "SUBMITTING":
            return "submitting the job"
        if not word and all(node.state is NodeState.QUEUED for node in overview.nodes):
            return "asking the nodes" if overview.launcher == Launcher.SSH else ""
        if word == "STARTING":
            return "starting the agents"
    parts = []
    for state in URGENCY:
        names = [node.name for node in overview.nodes if node.state is state]
        some = f" ({', '.join(names[:3])}{' …' if len(names) > 3 else ''})" if state in NEEDS_A_PERSON else ""
        parts += [f"{len(names)} {state}{some}"] if names else []
    working = [node for node in overview.nodes if node.state is NodeState.RUNNING and node.phase]
    last = min(working, key=lambda node: (node.fraction is not None, node.fraction or 0.0), default=None)
    if last is None:
        return ", ".join(parts)
    share = f", {last.fraction:.0%}".replace("%", " %") if last.fraction is not None else ""
    return f"{', '.join(parts)}; furthest behind: {last.name}, {last.phase}{share}"


ORDERS = ("deviation", "state", "age", "name")


def worst(
    overview: Overview, metric: str | None, order: str = "deviation", states: frozenset[NodeState] | None = None
) -> list[NodeView]:
    """The nodes, those that need a person first.

    By deviation: nodes that failed, are silent or differ in their GPUs come before nodes that are only slower.
    `states`: only nodes in these.
    """
    shown = [node for node in overview.nodes if states is None or node.state in states]

    def urgency(node: NodeView) -> int:
        return URGENCY.index(node.state)

    def worse(node: NodeView) -> float:
        value = overview.worse(metric, node) if metric is not None else None
        return -(value if value is not None else 0.0)

    if order == "name":
        return sorted(shown, key=lambda node: node.name)
    if order == "age":
        return sorted(shown, key=lambda node: (-(node.age_s if node.age_s is not None else float("inf")), node.name))
    if order == "state":
        return sorted(shown, key=lambda node: (urgency(node), worse(node), node.name))

    def place(node: NodeView) -> tuple[bool, bool, float, str]:
        missing = "gpu_count" in node.different
        return not missing, node.state not in NEEDS_A_PERSON, worse(node), node.name

    return sorted(shown, key=place)


def metrics_of(overview: Overview) -> list[str]:
    """The metrics that nodes can be shown by, those with the most figures first, then by name.

    Nothing is compared in one launch over all nodes; each node then has the figures of its own replicas, or none.
    """
    counts = {
        name: sum(group.n for group in one.groups.values()) for name, one in overview.statistics.items()
    }  # fmt: skip
    if not counts and overview.how == LaunchKind.COLLECTIVE:
        counts = Counter(name for node in overview.nodes for name, value in node.metrics.items() if value is not None)
    return sorted((name for name, count in counts.items() if count), key=lambda name: (-counts[name], name))


def shows_a_fleet(run: Run) -> bool:
    """Whether a run was on several nodes, and does not only measure some nodes of another one again.

    Raises:
        Refused: its record is damaged.
    """
    launch = run.intent.params.get(PARAMETER)
    again = isinstance(launch, Mapping) and launch.get("repeats") is not None
    return run.intent.launcher is not None and not again


def newest_fleet_run(runs: Sequence[Run]) -> Run | None:
    """The newest run on several nodes among `runs`, newest first; damaged ones are passed over."""
    for run in runs:
        try:
            if shows_a_fleet(run):
                return run
        except Refused:
            continue
    return None
