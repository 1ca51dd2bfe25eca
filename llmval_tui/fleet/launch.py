"""How a run starts on its nodes; `params["fleet"]` of its `run.json`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from llmval_tui.foundation.decode import decode
from llmval_tui.foundation.errors import Refused
from llmval_tui.runs.records import Intent

PARAMETER = "fleet"  # in the params of an intent


class Launcher(StrEnum):
    """What starts the nodes."""

    SLURM = "slurm"
    SSH = "ssh"


class LaunchKind(StrEnum):
    """What runs on them."""

    EACH = "each"  # the item's commands on every node, side by side
    COLLECTIVE = "collective"  # one torchrun launch over all nodes


@dataclass(frozen=True, slots=True)
class FleetLaunch:
    """The decisions about the nodes of a run, made before its start."""

    launcher: Launcher
    how: LaunchKind
    count: int  # number of nodes
    python: str  # the interpreter that runs llmval; the same path on every node
    options: list[str] = field(default_factory=list)  # options of sbatch
    ssh: list[str] = field(default_factory=list)  # the words of ssh, before the host
    shared: bool | None = None  # the workspace is one file system on all nodes; None: nobody said so
    same_machine: bool = False  # several names may be one machine
    repeats: str | None = None  # the run whose suspects this one measures again
    checklist: str = ""
    checklist_sha256: str | None = None

    @property
    def collective(self) -> bool:
        return self.how is LaunchKind.COLLECTIVE


def launch_of(intent: Intent) -> FleetLaunch:
    """The launch of a run on several nodes.

    Raises:
        Refused: the intent has none, or it is damaged.
    """
    value: Mapping[str, Any] | None = intent.params.get(PARAMETER)
    try:
        if value is None:
            raise TypeError("there is no launch")
        return decode(FleetLaunch, value)
    except (TypeError, AttributeError, ValueError) as error:
        raise Refused(f"run {intent.run_id} does not say how it starts on its nodes ({error}).") from error
