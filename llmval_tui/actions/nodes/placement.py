"""Where an item's commands run: on this machine, on every node of a list, or as one launch over several nodes."""

import ipaddress
import shutil
import socket
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass, replace

from llmval_tui.actions.api import Context, Proposal
from llmval_tui.actions.command.argv import ParsedArgv, parse_argv, value_of
from llmval_tui.actions.command.several_nodes import SRUN, nnodes_of, without_srun
from llmval_tui.actions.criteria.directives import EACH, NODES
from llmval_tui.actions.reading.model import Reading
from llmval_tui.checklist.command import parse_command
from llmval_tui.fleet import slurm, ssh
from llmval_tui.fleet.launch import PARAMETER, FleetLaunch, Launcher, LaunchKind
from llmval_tui.fleet.node_list import fold, parse_nodes
from llmval_tui.fleet.part import not_movable
from llmval_tui.fleet.probe import checklist_sha256
from llmval_tui.fleet.srun import take_apart
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.text import clean_line
from llmval_tui.runs.store import recorded_path

# A dry run asks no node, so it cannot know of a node that is gone or stands twice in the list.
ASKED_FIRST = "the nodes are asked before the start: if they cannot run it together, the run is refused"


@dataclass(frozen=True, slots=True)
class Placement:
    """The nodes of an item, and what starts them."""

    launch: FleetLaunch
    nodes: tuple[str, ...]  # () if Slurm chooses them


def placement_of(context: Context, reading: Reading) -> Placement | None:
    """Where the item runs; None: on this machine.

    Raises:
        Refused: the nodes are not named, do not fit the item, or cannot be started from here.
    """
    stated = context.step.directives.get(NODES)
    if stated not in (None, EACH):
        raise Refused(
            f"nodes={clean_line(str(stated))} is not understood: write nodes={EACH}, and name them by --nodes."
        )
    lines = [
        parse_command(one.text, now=context.now, environment=context.environment, values=context.values).argv
        for one in reading.commands
    ]
    launches = [words for words in lines if nnodes_of(parse_argv(without_srun(words))) > 1]
    if launches:
        if len(lines) > 1:
            raise Refused(
                "a launch over several nodes needs an item of its own: give each of the commands its own item."
            )
        return _collective(context, launches[0])
    if stated is None and context.options.nodes is None:
        return None
    nodes = _nodes(context, None)
    if not nodes:
        raise Refused(
            "the item runs on every node, and no nodes are named: pass --nodes n[1-4], or write nodes below [fleet] in "
            "the file beside the list."
        )
    return Placement(_launch(context, _launcher(context), LaunchKind.EACH, len(nodes), ()), nodes)


def _collective(context: Context, words: list[str]) -> Placement:
    srun = take_apart(words) if words[0] == SRUN else None
    argv = parse_argv(without_srun(words))
    count = nnodes_of(argv)
    if srun is not None and srun.nodes not in (None, count):
        raise Refused(f"srun starts {srun.nodes} nodes and torchrun {count} (--nnodes): write the same number.")
    _check_endpoint(argv)
    launcher = _launcher(context, slurm_item=srun is not None)
    nodes = _nodes(context, srun.node_list if srun is not None else None)
    if nodes and len(nodes) < count:
        raise Refused(f"the item needs {count} nodes, and the list names {len(nodes)} ({fold(nodes)}): name more.")
    if not nodes and launcher is Launcher.SSH:
        raise Refused(
            f"the item runs over {count} nodes, and none is named: pass --nodes n[1-{count}], or write nodes below "
            "[fleet] in the file beside the list."
        )
    options = srun.options if srun is not None else ()
    return Placement(_launch(context, launcher, LaunchKind.COLLECTIVE, count, options), nodes[:count])


def _check_endpoint(argv: ParsedArgv) -> None:
    """Refuse an address of the item at which nodes cannot meet; llmval then uses one of the first node."""
    if "--standalone" in argv.options:
        raise Refused("--standalone is for one node: leave it out; llmval lets the nodes meet at the first of them.")
    text = value_of(argv.options, "--rdzv-endpoint") or value_of(argv.options, "--master-addr")
    if text is None:
        return
    host = text.rpartition(":")[0] if ":" in text and not text.endswith("]") else text
    host = host.strip("[]")
    hint = "name the first node, or leave it out: llmval uses a free port of the first node"
    loopback = host == "localhost"
    with suppress(ValueError):
        loopback |= ipaddress.ip_address(host).is_loopback
    if loopback:
        raise Refused(f"no other node can reach the rendezvous host {clean_line(host)}: {hint}.")
    try:
        socket.getaddrinfo(host, None)
    except (OSError, UnicodeError) as error:
        raise Refused(f"the rendezvous host {clean_line(host)} does not resolve here: {hint}.") from error


def _launcher(context: Context, *, slurm_item: bool = False) -> Launcher:
    settings = context.settings
    wanted = context.options.launcher or (settings.fleet.launcher if settings is not None else None)
    if wanted is None:
        wanted = Launcher.SLURM if slurm_item or _is_slurm_here(context) else Launcher.SSH
    launcher = Launcher(wanted)
    if launcher is Launcher.SLURM:
        slurm.check_programs()
    else:
        ssh.check_program(settings.fleet.ssh if settings is not None and settings.fleet.ssh else ("ssh",))
    return launcher


def _is_slurm_here(context: Context) -> bool:
    """Whether Slurm is meant if nobody names a launcher: options of a job mean it, and the words of ssh mean ssh."""
    fleet = context.settings.fleet if context.settings is not None else None
    if context.options.slurm_options or (fleet is not None and fleet.slurm_options):
        return True
    return not (fleet is not None and fleet.ssh) and shutil.which("sbatch") is not None


def _nodes(context: Context, of_item: str | None) -> tuple[str, ...]:
    settings = context.settings
    text = of_item or context.options.nodes or (settings.fleet.nodes if settings is not None else None)
    return tuple(parse_nodes(text, context.workspace)) if text else ()


def _launch(context: Context, launcher: Launcher, how: LaunchKind, count: int, options: tuple[str, ...]) -> FleetLaunch:
    fleet = context.settings.fleet if context.settings is not None else None
    all_options = [*(fleet.slurm_options if fleet else ()), *options, *context.options.slurm_options]
    return FleetLaunch(
        launcher=launcher,
        how=how,
        count=count,
        python=sys.executable,
        options=list(_last_of_each(slurm.checked_options(all_options))) if launcher is Launcher.SLURM else [],
        ssh=list(fleet.ssh) if fleet else [],
        shared=fleet.shared if fleet else None,
        same_machine=context.options.same_machine,
        checklist=recorded_path(context.checklist.path, context.workspace),
        checklist_sha256=checklist_sha256(context.checklist.path),
    )


def _last_of_each(options: tuple[str, ...]) -> tuple[str, ...]:
    """A later option replaces an earlier one with the same name."""
    return tuple({option.partition("=")[0]: option for option in options}.values())


def placed(proposal: Proposal, placement: Placement) -> Proposal:
    """The proposal for other nodes."""
    launch, nodes = placement.launch, placement.nodes
    by = "a Slurm job" if launch.launcher is Launcher.SLURM else "ssh"
    where = fold(nodes) if nodes else "that Slurm chooses"
    if launch.collective:
        how = f"one launch over {launch.count} nodes ({where}) by {by}; they meet at a free port of the first node"
    else:
        how = f"on each of {launch.count} nodes ({where}) by {by}; each writes into its own folder of the run"
    options = [f"options of the job: {' '.join(launch.options)}"] if launch.options else []
    deviations = ["several names of nodes may be one machine"] if launch.same_machine else []
    return replace(
        proposal,
        details=(how, ASKED_FIRST, *options, *proposal.details),
        deviations=(*proposal.deviations, *deviations),
        params={**proposal.params, PARAMETER: asdict(launch)},
        nodes=nodes,
    )


def check_outputs(proposal: Proposal, context: Context) -> None:
    """Refuse an item of which several nodes would write the same file.

    Raises:
        Refused: see above.
    """
    fleet = proposal.params.get(PARAMETER)
    if fleet is None or fleet["how"] != LaunchKind.EACH:
        return
    path = not_movable(proposal.artifacts, proposal.commands, context.workspace)
    if path is not None:
        raise Refused(
            f"the command does not name {path}, so each node would overwrite the file of the others: give the path as "
            "an argument of the command, or write the file below $LLMVAL_RUN_FOLDER."
        )
