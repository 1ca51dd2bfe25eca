"""`fleet.json`: the outcome, figures and hashes of every node of a run, and what comparing them showed.

The bytes depend on the evidence alone: keys are sorted, and there is no time of writing. So the same evidence judged
twice gives the same file, and `verdict.json` can name its SHA-256.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import orjson

from llmval_tui.foundation.files import write_atomic
from llmval_tui.foundation.record import read_record
from llmval_tui.runs.store import Run
from llmval_tui.telemetry.process_ownership import NODES_FOLDER

FLEET_FILE = "fleet.json"


class NodeOutcome(StrEnum):
    """How a node's part of a run ended: the outcome of its verdict, or that it left none."""

    PASS = "pass"
    FAIL = "fail"
    INVALID = "invalid"
    INCONCLUSIVE = "inconclusive"
    LOST = "lost"  # the node did not report: it never started, died, or cannot be reached


@dataclass(frozen=True, slots=True)
class NodeResult:
    """What one node showed."""

    outcome: NodeOutcome
    reason: str | None = None  # one sentence if it did not pass
    metrics: dict[str, float | None] = field(default_factory=dict)  # metrics of its verdict; None: not known
    machine_id: str | None = None
    boot_id: str | None = None
    configuration: dict[str, Any] = field(default_factory=dict)  # key → text, number or None
    group: str = ""  # nodes of equal GPU kind, driver and power limit are compared with each other
    verdict_sha256: str | None = None
    artifacts: dict[str, str] = field(default_factory=dict)  # SHA-256 by path below the node's folder


@dataclass(frozen=True, slots=True)
class Repeat:
    """The second measurement of a group's suspects in one metric, and what follows from it.

    A suspect without a second figure, or whose references have none, is undecided: it is neither named nor cleared.
    """

    references: dict[str, float | None]  # the nodes at the median, with their second figure
    figures: dict[str, float | None]  # figures of the suspects
    limit: float | None  # by which fraction a suspect must be worse than the references to be named
    cleared: list[str] = field(default_factory=list)
    undecided: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class GroupStatistics:
    """One metric over the nodes of one group."""

    n: int  # nodes with a value
    median: float | None
    mad: float | None  # median absolute deviation, in the metric's unit
    smallest_findable: float | None  # as a fraction of the median; None: too few nodes to tell, see `reason`
    suspects: list[str] = field(default_factory=list)  # outliers of the first measurement, the worst first
    references: list[str] = field(default_factory=list)  # nodes at the median, to be measured beside the suspects
    repeat: Repeat | None = None  # the second measurement of suspects beside median nodes
    named: list[str] = field(default_factory=list)  # suspects that the repeat confirmed
    reason: str | None = None  # why no node can be suspected; None if one could


@dataclass(frozen=True, slots=True)
class MetricStatistics:
    """One metric over the fleet."""

    better: str  # "higher" or "lower", from the metric's definition
    groups: dict[str, GroupStatistics] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Difference:
    """A part of the configuration in which some nodes differ from the majority."""

    key: str
    majority: Any
    nodes: dict[str, Any]  # the values of those that differ


@dataclass(frozen=True, slots=True)
class Fleet:
    """`fleet.json`."""

    schema: int
    run: str
    launcher: str  # "slurm" or "ssh"
    how: str  # "each" or "collective"
    nodes: dict[str, NodeResult]
    silent: list[str] = field(default_factory=list)  # nodes that left no verdict
    statistics: dict[str, MetricStatistics] = field(default_factory=dict)
    differences: list[Difference] = field(default_factory=list)


def fleet_bytes(fleet: Fleet) -> bytes:
    """The content of `fleet.json`: indented JSON with sorted keys."""
    options = orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE
    return orjson.dumps(asdict(fleet), option=options)


def write_fleet(run_folder: Path, fleet: Fleet) -> Path:
    """Write `fleet.json` of a run; returns its path.

    Raises:
        Refused: it cannot be written.
    """
    path = run_folder / FLEET_FILE
    write_atomic(path, fleet_bytes(fleet), follow=False)
    return path


def read_fleet(run_folder: Path) -> Fleet | None:
    """`fleet.json` of a run; None if the run has none yet, or is not a run of several nodes.

    Raises:
        Refused: the file is damaged.
    """
    return read_record(Fleet, run_folder / FLEET_FILE)


def node_names(run: Run) -> list[str]:
    """The nodes of a run in their order: as asked for, else those that Slurm chose; [] if none are known yet."""
    if run.intent.nodes:
        return list(run.intent.nodes)
    job = run.status().job
    return list(job.nodes) if job is not None else []


def node_runs(run: Run) -> Mapping[str, Run]:
    """The folder of each node as a run of its own, by the node's name; it may be empty, or not there yet."""
    return {name: Run(run.folder / NODES_FOLDER / name) for name in node_names(run)}
