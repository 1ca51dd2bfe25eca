"""Export the environment of a document: show it, store it as an artifact, and give it to the section's runs."""

import platform

from llmval_tui.actions.api import Context, Judgement, Proposal
from llmval_tui.actions.command.environment import MULTICAST_OFF, applied, changes
from llmval_tui.actions.command.resolve import resolve_document
from llmval_tui.actions.documents.env_block import environment_block
from llmval_tui.actions.documents.proposal import required_document
from llmval_tui.actions.gates.measured_links import judge_measured_links, measurement_of, newest_measurement
from llmval_tui.actions.gates.topology import judge_topology, topology_lines
from llmval_tui.actions.section_runs import ENV_EXPORT, perform_command
from llmval_tui.checklist.lexer import quote
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.files import read_json, write_atomic, write_json
from llmval_tui.foundation.text import utc_iso
from llmval_tui.runs.inventory import gpu_inventory
from llmval_tui.runs.records import Artifact, Gate, Outcome
from llmval_tui.runs.store import Run, RunStore

_FOLDER = "artifacts/env"
# Often left over from a PCIe fallback or a debugging session.
_HIDES_NVLINK = (("NCCL_P2P_DISABLE", "1"), ("NCCL_P2P_LEVEL", "LOC"), ("NCCL_P2P_LEVEL", "0"))
# https://docs.nvidia.com/deeplearning/nccl/user-guide/docs/env.html. NCCL ignores any other word, and takes numbers for
# compatibility (`ncclGetLevel` in its src/graph/paths.cc).
_LEVELS = {
    "NCCL_P2P_LEVEL": ("LOC", "NVL", "PIX", "PXB", "PHB", "SYS"),
    "NCCL_NET_GDR_LEVEL": ("LOC", "PIX", "PXB", "PHB", "SYS"),
}


class EnvExport:
    """Reads variables from a document and gives them to the runs of the same section only."""

    name = ENV_EXPORT
    title = "export an environment"
    about = "Reads the variables from the document's block and gives them to this section's runs."
    directives = frozenset({"document", "env"})

    def propose(self, context: Context) -> Proposal:
        name = required_document(context, "with the environment block")
        document = resolve_document(name, context.workspace)
        if document.source == "absent":
            raise Refused(f"there is no {name} in {context.workspace}: create it, or correct the path.")
        wanted = environment_block(document.text, name, context.step.directives.get("env"))
        found = changes(wanted, context.environment)
        leftovers = leftover_lines(wanted, context)
        chosen = context.options.gpus
        details = [
            f"reads {name}"
            + (" (llmval's own, because the workspace has none)" if document.source == "bundled" else "")
        ]
        details += [change.line for change in found] + leftovers
        measurement = newest_measurement(context.store, platform.node(), trials=context.demo)
        details += ["reads the links between the GPUs from the driver"]
        details += [
            f"takes their bandwidth from run {measurement.id}"
            if measurement
            else "their bandwidth was not measured here; an item with collective_bandwidth.py before this one does"
        ]
        details.append(f"writes {_FOLDER}/<run>.json and .sh")
        return Proposal(
            action=self.name,
            summary=f"Gives {len(applied(found))} variables of {name} to this section's runs and checks the topology.",
            details=tuple(details),
            commands=(perform_command(context),),
            artifacts=(Artifact(f"{_FOLDER}/{{run_id}}.json"), Artifact(f"{_FOLDER}/{{run_id}}.sh")),
            params={
                "document": name,
                "source": document.source,
                "variables": applied(found),
                "changes": [
                    {"name": c.name, "old": c.old, "new": c.new, "applied": c.applied, "note": c.note} for c in found
                ],
                "conflicts": [change.line for change in found if change.note] + leftovers,
                "gpus": list(chosen) if chosen is not None else None,
                "measured_links": measurement.id if measurement else None,
            },
            telemetry=False,
        )

    def perform(self, run: Run) -> int:
        params = run.intent.params
        inventory = gpu_inventory()
        for change in params["changes"]:
            state = change["new"] if change["applied"] else f"stays {change['old'] or 'unset'}"
            print(f"{change['name']}: {change['old'] or '(not set)'} → {state}")
        for line in params["conflicts"]:
            print(f"note: {line}")
        base = run.workspace / _FOLDER
        base.mkdir(parents=True, exist_ok=True)
        record = {
            "v": 1,
            "run_id": run.id,
            "written_utc": utc_iso(),
            "document": params["document"],
            "variables": params["variables"],
            "changes": params["changes"],
            "conflicts": params["conflicts"],
            "inventory": inventory,
        }
        write_json(base / f"{run.id}.json", record)
        lines = [f"# from {params['document']}, run {run.id}"]
        lines += [f"export {name}={quote(value)}" for name, value in params["variables"].items()]
        write_atomic(base / f"{run.id}.sh", ("\n".join(lines) + "\n").encode())
        for line in topology_lines(inventory):
            print(line)
        gate = judge_topology(inventory, params["gpus"])
        print(f"topology: {gate.measured}" + (f"; {gate.reason}" if gate.reason else ""))
        return 0

    def judge(self, run: Run) -> Judgement:
        params = run.intent.params
        record = read_json(run.workspace / _FOLDER / f"{run.id}.json")
        wanted: dict[str, str] = params["variables"]
        if not isinstance(record, dict):
            gate = Gate("variables", Outcome.FAIL, "no record", f"{len(wanted)} variables written")
            return [gate], {}, "the environment was not written", None
        same = record.get("variables") == wanted
        gates = [
            Gate(
                "variables",
                Outcome.PASS if same else Outcome.FAIL,
                f"{len(record.get('variables') or {})} written",
                f"{len(wanted)} variables as proposed",
                "; ".join(params["conflicts"]),
            ),
            judge_topology(record.get("inventory") or {}, params["gpus"]),
        ]
        if (measurement := measurement_of(RunStore(run.workspace), params)) is not None:
            on_node = len((record.get("inventory") or {}).get("gpus") or [])
            gates.append(judge_measured_links(measurement, params["gpus"], on_node))
        return gates, {}, f"{len(wanted)} variables from {params['document']}; {gates[1].measured}", None


def leftover_lines(wanted: dict[str, str], context: Context) -> list[str]:
    """Notes on variables of the present environment that hide NVLink, that NCCL does not know, or that keep multicast
    off; and on levels of the block that NCCL does not know."""
    lines = []
    for name, value in _HIDES_NVLINK:
        if context.environment.get(name) == value:
            remedy = (
                "the block changes it for this section" if name in wanted else "unset it: the block does not set it"
            )
            lines.append(f"{name}={value} is left over in the environment and hides NVLink; {remedy}")
    for where, values in (("the environment", context.environment), ("the block", wanted)):
        lines += [line for name in _LEVELS if (line := _level_line(name, values.get(name), where))]
    for name, value in MULTICAST_OFF.items():
        if context.environment.get(name) == value and name not in wanted:
            lines.append(f"{name}={value} is kept: NVLink multicast stays off")
    return lines


def _level_line(name: str, value: str | None, where: str) -> str:
    """What is wrong with a level; empty if nothing is."""
    known = _LEVELS[name]
    if value is None or value in known:
        return ""
    if value.isdecimal():
        return f"{name}={value} in {where} is a legacy number: write one of {', '.join(known)}"
    return f"{name}={value} in {where} is not a level of NCCL, which ignores it: write one of {', '.join(known)}"
