"""A run on nodes n1 and n2 whose folder exists, and what its nodes said."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmval_tui import __version__
from llmval_tui.fleet.launch import PARAMETER, Launcher, LaunchKind
from llmval_tui.fleet.probe import ENV_FILE, NodeProbe
from llmval_tui.foundation.files import write_json
from llmval_tui.foundation.text import utc_iso
from llmval_tui.runs.create import create_run
from llmval_tui.runs.records import Artifact, Command, Intent, StepRef
from llmval_tui.runs.store import Run, RunStore

MakeFleetRun = Callable[..., Run]


def said_by(name: str, **more: Any) -> NodeProbe:
    """What a node says of itself."""
    known: dict[str, Any] = {
        "v": 1, "name": name, "hostname": name, "machine_id": f"machine-{name}", "boot_id": f"boot-{name}",
        "wall_ns": 10**18, "llmval": __version__, "free_port": 4711, "address": "10.0.0.1", "run_sha256": "0" * 64,
        "host": {"name": name, "gpu": {"gpu_count": 8}},
    }  # fmt: skip
    return NodeProbe(**{**known, **more})


@pytest.fixture
def make_fleet_run(tmp_path: Path) -> MakeFleetRun:
    """`make(...)`: a frozen run on nodes; `commands` and the launch can be given."""

    def make(
        *,
        launcher: Launcher = Launcher.SLURM,
        how: LaunchKind = LaunchKind.EACH,
        nodes: tuple[str, ...] = ("n1", "n2"),
        commands: tuple[Command, ...] = (Command("main", ["true"], "true"),),
        artifacts: tuple[Artifact, ...] = (),
        launch: dict[str, Any] | None = None,
        **params: Any,
    ) -> Run:
        fleet = {"launcher": launcher, "how": how, "count": len(nodes), "python": "/opt/python", **(launch or {})}
        outputs = {command.label: [one.path for one in artifacts] for command in commands}
        intent = Intent(
            1, "20260102T030405Z-1.1-abcdef", "command", StepRef("1.1", "1. Section", "text", 1, "list.md"),
            list(commands), str(tmp_path), utc_iso(), artifacts=list(artifacts), launcher=launcher, how=how,
            nodes=list(nodes), telemetry=False, params={"outputs": outputs, PARAMETER: fleet, **params},
        )  # fmt: skip
        run = create_run(RunStore(tmp_path), intent)
        for name in nodes:
            (run.folder / "nodes" / name).mkdir(parents=True)
            write_json(run.folder / "nodes" / name / ENV_FILE, said_by(name))
        return run

    return make
