"""`doctor --nodes`: the same checks on every node over ssh, and what differs between the nodes."""

import argparse
import json
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llmval_tui.console.fleet import PIPE_COLUMNS, columns
from llmval_tui.console.options import checklist_path, print_object, workspace_of
from llmval_tui.fleet import ssh
from llmval_tui.fleet.configuration import Value
from llmval_tui.fleet.differences import differences, fewer_gpus
from llmval_tui.fleet.launch import FleetLaunch, Launcher, LaunchKind
from llmval_tui.fleet.node_list import fold, parse_nodes
from llmval_tui.fleet.overview import Overview
from llmval_tui.foundation.errors import ExitCode, Refused
from llmval_tui.foundation.text import clean_line
from llmval_tui.terminal import fleet_rows
from llmval_tui.terminal.cell_width import cell_len
from llmval_tui.terminal.format import wrap
from llmval_tui.terminal.glyphs import glyphs

CALL_S = 90.0  # a driver that hangs is given up by the node's own doctor after 20 s
_OF_THE_FOLDER = ("workspace", "logout", "settings")  # these say something of the folder there, not of the node


@dataclass(frozen=True, slots=True)
class Answer:
    """What one node's doctor said; `silent` is the reason if it said nothing."""

    checks: tuple[Mapping[str, Any], ...] = ()
    configuration: Mapping[str, Value] | None = None
    silent: str = ""


def doctor_nodes(options: argparse.Namespace) -> int:
    """Print what is missing on which nodes, and what differs.

    Exit code 2 if a node did not answer (it is named), as a run on it would be refused; else 0.

    Raises:
        Refused: the nodes are not understood, or there is no ssh here.
    """
    workspace = workspace_of(options)
    names = parse_nodes(options.nodes, workspace)
    launch = FleetLaunch(Launcher.SSH, LaunchKind.EACH, len(names), sys.executable, ssh=list(_ssh_words(options)))
    ssh.check_program(launch.ssh or ["ssh"])
    answers: dict[str, Answer] = ssh.on_all(names, lambda node: _ask(launch, node, options))
    found = differences({node: answer.configuration or {} for node, answer in answers.items()})
    if options.json:
        print_object(
            "doctor",
            nodes={
                node: {
                    "checks": answer.checks,
                    "configuration": answer.configuration,
                    "silent": answer.silent or None,
                }
                for node, answer in answers.items()
            },
            differences=found,
        )
    else:
        for line in lines_of(answers, ascii_only=options.ascii, width=columns()):
            print(line)
    return ExitCode.REFUSED if any(answer.silent for answer in answers.values()) else ExitCode.PASSED


def _ssh_words(options: argparse.Namespace) -> tuple[str, ...]:
    """The ssh of the file beside the list, if there is a list here."""
    from llmval_tui.actions.review.settings import settings_of

    try:
        return settings_of(checklist_path(options), workspace_of(options)).fleet.ssh
    except Refused:
        return ()  # a node is looked at before there is a list


def _ask(launch: FleetLaunch, node: str, options: argparse.Namespace) -> Answer:
    words = [launch.python, "-m", "llmval_tui", "doctor", "--json", "--readonly"]
    if options.runner_python:
        words += ["--runner-python", options.runner_python]
    done = ssh.call(launch, node, f"cd / && {shlex.join(words)}", timeout_s=CALL_S)
    try:
        value = json.loads(done.stdout)
        checks = [one for one in value["checks"] if one["name"] not in _OF_THE_FOLDER]
        return Answer(tuple(checks), dict(value["configuration"]))
    except (ValueError, KeyError, TypeError):
        if done.returncode == 0:
            text = f"{node} answered with something else: see what its shell prints at login, and its llmval's version."
            return Answer(silent=text)
        return Answer(silent=ssh.why_not(node, done, launch))


def lines_of(answers: Mapping[str, Answer], *, ascii_only: bool = False, width: int = PIPE_COLUMNS) -> list[str]:
    """Nodes without an answer, nodes with fewer GPUs, what is missing where, what differs, and what all have."""
    signs = glyphs(ascii_only)
    bad, good = ("!", "+") if ascii_only else ("✗", "✓")
    lines = [f"{bad} {clean_line(answer.silent)}" for answer in answers.values() if answer.silent]
    heard = {node: answer for node, answer in answers.items() if not answer.silent}
    found = differences({node: answer.configuration or {} for node, answer in heard.items()})
    lines += [f"{bad} {node}: {why}" for node, why in fewer_gpus(found).items()]
    missing: dict[tuple[str, str], list[str]] = {}
    hints: dict[tuple[str, str], str] = {}
    for node, answer in heard.items():
        for check in answer.checks:
            if check.get("state") == "missing":
                key = str(check.get("name")), str(check.get("found"))
                missing.setdefault(key, []).append(node)
                hints[key] = str(check.get("consequence") or "")
    for (name, what), nodes in missing.items():
        where = "all nodes" if len(nodes) == len(answers) and len(nodes) > 1 else fold(nodes)
        lines.append(f"{bad} {clean_line(name)}: {clean_line(what).rstrip('.')} on {where}")
        lines += [f"    → {clean_line(hints[name, what])}"] if hints[name, what] else []
    same = len(heard) - len({node for one in found for node in one.nodes})
    that_answered = " that answered" if len(heard) < len(answers) else ""
    if len(heard) > 1:
        shown = fleet_rows.difference_rows(Overview((), differences=tuple(found)), signs, width, len(found))
        lines += [
            "",
            *("".join(text for text, _ in row).rstrip() for row in shown),
            f"{good} {same} of {len(heard)} nodes{that_answered} have the configuration of most"
            if found
            else f"{good} all {len(heard)} nodes{that_answered} have the same configuration",
        ]
    return [part for line in lines for part in _wrapped(line, width)]


def _wrapped(line: str, width: int) -> list[str]:
    """A line in lines that fit; what follows the first is indented."""
    if cell_len(line) <= width:
        return [line]
    text = line.lstrip()
    indent = len(line) - len(text)
    first, *rest = wrap(text, width - indent - 2)
    return [f"{' ' * indent}{first}", *(f"{' ' * (indent + 2)}{part}" for part in rest)]
