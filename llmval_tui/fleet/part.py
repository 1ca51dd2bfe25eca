"""One node's part of a run: its intent, made from the run's, so that every node writes only into its own folder."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from llmval_tui.fleet.launch import launch_of
from llmval_tui.fleet.probe import NodeProbe
from llmval_tui.foundation.errors import Refused
from llmval_tui.runs.command_secrets import with_secrets
from llmval_tui.runs.inventory import visible_gpus
from llmval_tui.runs.records import Artifact, Command, Intent
from llmval_tui.runs.store import Run
from llmval_tui.telemetry.process_ownership import NODES_FOLDER, run_id_of

RESULTS_FOLDER = "results"  # in a node's folder: the files that the item's commands write, by their paths
RANK = "node_rank"  # in the params of a part: the node's place in a collective launch


def node_folder(run: Run, name: str) -> Path:
    """The folder of one node's part; it has the format of a run folder."""
    return run.folder / NODES_FOLDER / name


def part_of(run: Run, name: str, nodes: Sequence[str], node: NodeProbe, first: NodeProbe) -> Intent:
    """What the node `name` does; with the real words of secrets, which `write_run` hides again.

    Args:
        nodes: all nodes, in the order of their ranks.
        first: what the first of them said; the others meet there.

    Raises:
        Refused: the node is not one of them, or a collective has no address to meet.
    """
    intent, launch = run.intent, launch_of(run.intent)
    if name not in nodes:
        raise Refused(f"{name} is not a node of {run.id} ({', '.join(nodes[:8])}).")
    rank = list(nodes).index(name)
    silent = launch.collective and rank > 0  # rank 0 writes the result, and it is on the first node
    folder = node_folder(run, name)
    moved = _moved(run, folder)
    commands = []
    for written in intent.commands:
        command = _into(with_secrets(run.folder, written), run, folder, moved)
        if launch.collective and command.nproc is not None:
            command = _meeting(command, rank, endpoint_of(first), run.id)
        commands.append(replace(command, tee=None) if silent else command)
    params = _params(intent.params, moved, silent=silent) | ({RANK: rank} if launch.collective else {})
    # The head does not know the GPUs of its nodes. A scheduler may have given this one only some of them.
    params["gpu_indices"] = [] if intent.params.get("gpu_indices") == [] else visible_gpus(node.environment)
    return replace(
        intent,
        run_id=run_id_of(folder),
        commands=commands,
        artifacts=[] if silent else [replace(one, path=moved.get(one.path, one.path)) for one in intent.artifacts],
        tick=False,
        params=params,
        plan_id=None,
        launcher=None,
        how=None,
        nodes=[],
        host=node.host,
        versions=node.versions,
        environment=node.environment,
    )


def endpoint_of(first: NodeProbe) -> str:
    """HOST:PORT where the agents of a collective meet: a port of the first node that was free when it was asked.

    Raises:
        Refused: the first node has no address on a network.
    """
    if first.address is None or first.free_port is None:
        raise Refused(f"{first.name} has no address that other nodes can reach: check its network interfaces.")
    return f"{first.address}:{first.free_port}"


def _moved(run: Run, folder: Path) -> dict[str, str]:
    """The new path of every output, relative to the workspace."""
    intent = run.intent
    paths = [one.path for one in intent.artifacts]
    paths += intent.params.get("output_folders", [])
    paths += [command.tee for command in intent.commands if command.tee is not None]
    root = run.workspace.resolve()
    own, base = folder.resolve().relative_to(root), run.folder.resolve().relative_to(root)
    found = {}
    for path in paths:
        inside = Path(path).is_relative_to(base)  # a file of the run folder itself, such as an appended output
        found[path] = str(own / Path(path).relative_to(base)) if inside else str(own / RESULTS_FOLDER / path)
    return found


def _into(command: Command, run: Run, folder: Path, moved: dict[str, str]) -> Command:
    """The command with every output, and the run folder itself, replaced by a path in the node's folder."""

    def word(text: str) -> str:
        head, sign, value = text.partition("=") if text.startswith("-") and "=" in text else ("", "", text)
        if (new := moved.get(_relative(value, command.cwd, run.workspace))) is not None:
            return f"{head}{sign}{run.workspace.resolve() / new}"
        return text.replace(str(run.folder), str(folder))

    tee = moved.get(command.tee, command.tee) if command.tee is not None else None
    return replace(command, argv=[word(one) for one in command.argv], tee=tee)


def _relative(value: str, cwd: str | None, workspace: Path) -> str:
    """A word of a command as a path relative to the workspace, if it is one."""
    if not value or value.startswith("-"):
        return value
    path = os.path.normpath(Path(cwd or "") / value)
    root = str(workspace.resolve())
    return os.path.relpath(path, root) if path.startswith(f"{root}{os.sep}") else path


def _meeting(command: Command, rank: int, endpoint: str, run_id: str) -> Command:
    place = command.argv.index("--") + 1  # after the words of our launcher
    own = [f"--node-rank={rank}", f"--rdzv-endpoint={endpoint}", f"--rdzv-id={run_id}"]
    return replace(command, argv=[*command.argv[:place], *own, *command.argv[place:]])


def _params(params: dict[str, Any], moved: dict[str, str], *, silent: bool) -> dict[str, Any]:
    """The action's values with the new paths; for a node that writes no result, without outputs and criteria."""
    outputs = {
        label: [] if silent else [moved.get(path, path) for path in paths]
        for label, paths in params.get("outputs", {}).items()
    }
    folders = [] if silent else [moved.get(path, path) for path in params.get("output_folders", [])]
    criteria = [
        {**one, "source": moved.get(str(one.get("source")), one.get("source"))} for one in params.get("criteria", ())
    ]
    return {
        **params,
        "outputs": outputs,
        "output_folders": folders,
        "criteria": [] if silent else criteria,
    }


def not_movable(artifacts: Sequence[Artifact], commands: Sequence[Command], workspace: Path) -> str | None:
    """An output that no word of a command names, so that N nodes would overwrite it for each other; None: all move."""
    words = [
        _relative(word.partition("=")[2] if word.startswith("-") and "=" in word else word, command.cwd, workspace)
        for command in commands
        for word in command.argv
    ]
    named = {Path(word) for word in words} | {Path(command.tee) for command in commands if command.tee is not None}
    for artifact in artifacts:
        path = Path(artifact.path)
        # A runner writes more files beside the one that its flag names.
        beside = any(path.parent == one.parent and path.name.startswith(one.stem) for one in named if one.name)
        if "{run_id}" in artifact.path or path in named or beside or any(one in named for one in path.parents):
            continue
        return artifact.path
    return None
