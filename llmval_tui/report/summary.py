"""What follows the first screen of the report: its runs, the node, and the state of the checklist."""

from collections.abc import Mapping
from typing import Any

from llmval_tui.actions.step_state import StepState, StepStatus
from llmval_tui.foundation.text import GIB
from llmval_tui.report.blocks import Badge, Block, Cell, Code, Heading, Link, Paragraph, Table
from llmval_tui.report.facts import ReportFacts, RunFacts, gpu_inventory_of
from llmval_tui.report.first_screen import anchor_of, badge_of, item_of

_KINDS = {
    StepState.MEASURED: "pass",
    StepState.STALE: "invalid",
    StepState.UNREADABLE: "inconclusive",
    StepState.CONTRADICTED: "fail",
    StepState.PASSED: "pass",
    StepState.FAILED: "fail",
    StepState.INVALID: "invalid",
    StepState.INCONCLUSIVE: "inconclusive",
    StepState.REFUSED: "inconclusive",
    StepState.ASKING: "inconclusive",
}
_STATES = {
    StepState.OPEN: "open",
    StepState.MEASURED: "ticked: measured",
    StepState.EXIT_CODE: "ticked: exit code only",
    StepState.BY_HAND: "ticked: by hand",
    StepState.STALE: "ticked: stale",
    StepState.CONTRADICTED: "ticked: contradicted",
    StepState.TICKED: "ticked, without evidence",
    StepState.ASKING: "waiting for a decision",
}


def summary_blocks(facts: ReportFacts) -> list[Block]:
    """Everything between the first screen and the section of the first run."""
    blocks: list[Block] = [Heading(2, "Runs", "summary")]
    if facts.runs:
        blocks.append(_runs_table(facts))
        blocks.append(Heading(2, "Node", "node"))
        if facts.differences:
            blocks.append(
                Paragraph(
                    f"The runs were made under different conditions: {'; '.join(facts.differences)}. "
                    "These tables show the newest run; each run has its own below.",
                    caution=True,
                )
            )
        newest = max(facts.runs, key=lambda run: run.intent.order)
        blocks += node_blocks(newest)
    blocks.append(Heading(2, "Checklist", "checklist"))
    if facts.checklist is None:
        blocks.append(Paragraph("The report was made without a checklist."))
    else:
        blocks.append(_checklist_table(facts))
    return blocks


def _runs_table(facts: ReportFacts) -> Table:
    rows: list[list[Cell]] = []
    for run in facts.runs:
        summary = run.verdict.summary if run.verdict else "no verdict yet"
        if run.intent.deviations:
            summary += " (not as written: see its deviations)"
        rows.append([Link(f"{item_of(run, facts.runs)} · {run.id}", anchor_of(run)), badge_of(run), summary])
    return Table("Runs in this report", ("item and run", "verdict", "result"), rows)


def node_blocks(run: RunFacts) -> list[Block]:
    """Host, driver, GPUs and versions, as recorded before the run started."""
    host, inventory = run.intent.host, gpu_inventory_of(run.intent.host)
    rows: list[list[Cell]] = [
        ["host", text_of(host.get("name"))],
        ["kernel", f"{text_of(host.get('kernel'))} {text_of(host.get('machine'), '')}"],
        ["processors", text_of(host.get("cpu_count"))],
        ["memory", gib(host.get("memory_bytes"))],
        ["NVIDIA driver", text_of(inventory.get("driver_version"), "none")],
        ["CUDA version of the driver", text_of(inventory.get("cuda_driver_version"), "none")],
    ]
    rows += [[name, str(value)] for name, value in run.intent.versions.items()]
    blocks: list[Block] = [Table("Host and software", ("what", "value"), rows)]
    notes = [str(note) for note in [*(inventory.get("notes") or []), inventory.get("error")] if note]
    gpus = [gpu for gpu in inventory.get("gpus") or [] if isinstance(gpu, dict)]
    if gpus:
        blocks.append(_gpu_table(gpus))
        topology = inventory.get("topology")
        if isinstance(topology, dict) and len(topology.get("gpus") or []) > 1:
            blocks.append(_topology_table(topology))
    elif not notes:
        notes = ["No GPU was recorded."]
    blocks += [Paragraph(note) for note in notes]
    return blocks


def _gpu_table(gpus: list[dict[str, Any]]) -> Table:
    rows: list[list[Cell]] = []
    for gpu in gpus:
        active, links = gpu.get("nvlink_links_active"), gpu.get("nvlink_links")
        rows.append(
            [
                text_of(gpu.get("index")),
                text_of(gpu.get("name")),
                gib(gpu.get("memory_total_bytes")),
                f"{watts(gpu.get('power_limit_w'))} (default {watts(gpu.get('power_limit_default_w'))})",
                "not known" if links is None else f"{active} of {links} active",
                "not known" if gpu.get("mig_enabled") is None else "on" if gpu["mig_enabled"] else "off",
                text_of(gpu.get("pci_bus_id")),
                Code(text_of(gpu.get("uuid"))),
            ]
        )
    columns = ("GPU", "name", "memory", "power limit", "NVLink", "MIG", "PCI", "UUID")
    return Table("GPUs", columns, rows)


def _topology_table(topology: Mapping[str, Any]) -> Table:
    indices = [f"GPU {index}" for index in topology["gpus"]]
    rows: list[list[Cell]] = [
        [name, *(text_of(link, "not known") for link in links)]
        for name, links in zip(indices, topology.get("links") or [], strict=False)
    ]
    return Table(
        "Links between the GPUs (NV<n>: n NVLinks; otherwise the PCIe path in nvidia-smi's words)", ("", *indices), rows
    )


def _checklist_table(facts: ReportFacts) -> Table:
    assert facts.checklist is not None
    reported = {run.id: run for run in facts.runs}
    rows: list[list[Cell]] = []
    for item in facts.steps:
        run = reported.get(item.run.id) if item.run else None
        newest: Cell = ""
        if run is not None:
            newest = Link(run.id, anchor_of(run))
        elif item.run is not None:
            newest = Code(item.run.id)
        deviation = f" [deviation: {item.step.deviation}]" if item.step.deviation else ""
        basis = item.basis.phrase if item.basis else item.problem or _refusal(item)
        rows.append([item.step.number, state_badge(item), item.step.text + deviation, basis, newest])
    columns = ("item", "state", "what", "the tick rests on", "newest run")
    return Table(f"{facts.checklist.title}, as it is now", columns, rows)


def _refusal(item: StepStatus) -> str:
    return f"not ticked: refused, {item.refused}" if item.refused is not None else ""


def state_badge(item: StepStatus) -> Badge:
    """The state of a step as a badge."""
    return Badge(_STATES.get(item.state, item.state.value), _KINDS.get(item.state, "open"))


def text_of(value: Any, missing: str = "not known") -> str:
    """A recorded value, or `missing` if it was not recorded."""
    return missing if value is None or value == "" else str(value)


def gib(value: Any) -> str:
    return f"{value / GIB:.1f} GiB" if isinstance(value, int | float) else "not known"


def watts(value: Any) -> str:
    return f"{value:g} W" if isinstance(value, int | float) else "not known"
