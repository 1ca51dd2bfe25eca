"""`doctor`: what this node has and lacks for the list, each with what follows from it."""

import argparse
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from llmval_tui.actions.registry import plugin_problems
from llmval_tui.console.options import config_or_error, print_json, workspace_of
from llmval_tui.foundation.errors import ExitCode
from llmval_tui.runs import client
from llmval_tui.runs.inventory import gpu_inventory, software_versions


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked for."""

    name: str
    state: str  # "ok", "missing", "note"
    found: str
    consequence: str = ""  # what cannot be done without it, and what to do


def doctor(options: argparse.Namespace) -> int:
    """Print the checks; exit 0 whatever they say, for a lack is only a fault of the step that needs it."""
    _, trouble = config_or_error(options)
    checks = [*_gpus(), *_software(options.runner_python or sys.executable), *_tools(), *_plugins(), *_session(options)]
    if trouble is not None:
        hint = "llmval and llmval run refuse until it is mended or moved away; the checks here are made without it"
        checks.insert(0, Check("settings", "missing", trouble, hint))
    if options.json:
        print_json({"checks": checks})
        return ExitCode.PASSED
    glyphs = {"ok": "x", "missing": "!", "note": "-"} if options.ascii else {"ok": "✓", "missing": "✗", "note": "!"}
    width = max(len(check.name) for check in checks)
    for check in checks:
        print(f"{glyphs[check.state]} {check.name:<{width}}  {check.found}")
        if check.consequence:
            print(f"  {'':<{width}}  → {check.consequence}")
    return ExitCode.PASSED


def _gpus() -> list[Check]:
    inventory = gpu_inventory()
    gpus = inventory.get("gpus") or []
    notes = [str(note) for note in inventory.get("notes", [])]
    reason = str(inventory.get("error") or (notes[0] if notes else "no NVIDIA GPU"))
    if not gpus:
        return [Check("GPUs", "missing", reason, "GPU steps are refused; --preset smoke uses the CPU")]
    driver = str(inventory.get("driver_version") or "unknown")
    names = ", ".join(sorted({str(gpu.get("name")) for gpu in gpus}))
    checks = [Check("driver", "ok", driver), Check("GPUs", "ok", f"{len(gpus)} × {names}")]
    links = [gpu.get("nvlink_links_active") for gpu in gpus]
    shown = ", ".join("n/a" if count is None else str(count) for count in links)
    if len(gpus) == 1:
        checks.append(Check("NVLink", "note", f"{shown} active links; one GPU has no peer here"))
    elif all(links):
        checks.append(Check("NVLink", "ok", f"active links a GPU: {shown}"))
    else:
        text = "pairs without NVLink talk over PCIe: see docs/nvlink_pcie_playbook.md"
        checks.append(Check("NVLink", "missing", f"active links a GPU: {shown}", text))
    return checks + [Check("NVML", "note", note) for note in notes]


def _software(python: str) -> list[Check]:
    try:
        versions = software_versions(python)
    except (OSError, subprocess.SubprocessError) as error:
        return [Check("runner python", "missing", f"{python}: {error}", "name another with --runner-python")]
    checks = [Check("runner python", "ok", f"{versions.get('python', 'unknown')} at {python}")]
    hints = {
        "torch": "no runner works: pip install torch, or name another with --runner-python",
        "transformer-engine": "--fp8-mode transformer-engine is refused: on a GPU host, "
        "pip install 'transformer-engine[pytorch]'",
    }
    for name, hint in hints.items():
        version = versions.get(name)
        checks.append(Check(name, "ok", version) if version else Check(name, "missing", "not installed", hint))
    return checks


def _tools() -> list[Check]:
    wanted = {
        "nsys": "traces are then made by the PyTorch profiler",
        "py-spy": "stacks of a hanging rank come from faulthandler only: pip install py-spy",
        "tmux": "runs survive a lost line all the same; the dashboard is then started again",
    }
    checks = []
    for name, hint in wanted.items():
        beside = Path(sys.executable).with_name(name)
        path = shutil.which(name) or (str(beside) if beside.exists() else None)
        checks.append(Check(name, "ok", path) if path else Check(name, "missing", "not found", hint))
    return checks


def _plugins() -> list[Check]:
    hint = "items that state its action are refused: repair or remove it"
    return [Check(f"plugin {name}", "missing", reason, hint) for name, reason in sorted(plugin_problems().items())]


def _session(options: argparse.Namespace) -> list[Check]:
    workspace = workspace_of(options)
    free = shutil.disk_usage(workspace).free / 1e9
    writable = os.access(workspace, os.W_OK)
    checks = [
        Check("workspace", "ok" if writable else "missing", f"{workspace}, {free:.0f} GB free")
        if writable
        else Check("workspace", "missing", f"{workspace} cannot be written", "choose another with --workspace")
    ]
    if client.logout_kills():
        hint = "loginctl enable-linger" if not shutil.which("systemd-run") else "runs are put into a scope of their own"
        checks.append(Check("logout", "note", "logind ends what you leave behind (KillUserProcesses=yes)", hint))
    else:
        checks.append(Check("logout", "ok", "detached runs survive it"))
    return checks
