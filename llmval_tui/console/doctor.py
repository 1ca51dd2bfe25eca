"""`doctor`: checks what this node has and what is missing, and says what a missing part means."""

import argparse
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmval_tui.actions.command.runner_catalog import OPENAI_LOAD_TEST
from llmval_tui.actions.registry import plugin_problems
from llmval_tui.console.options import config_or_error, print_object, workspace_of
from llmval_tui.foundation.errors import ExitCode
from llmval_tui.foundation.paths import bundled
from llmval_tui.runs import client
from llmval_tui.runs.interpreters import CLIENT_PACKAGES, how_to_install, interpreters_with_torch
from llmval_tui.runs.inventory import gpu_inventory, software_versions

CHECKPOINT_S = 60.0  # for the headers of hundreds of files on a slow network file system


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the table."""

    name: str
    state: str  # "ok", "missing", "note"
    found: str
    consequence: str = ""  # what does not work without it, and what to do


def doctor(options: argparse.Namespace) -> int:
    """Print the checks. Exit code 2 if the runners refuse the checkpoint of `--checkpoint`, or a node does not answer.

    Any other missing part gives exit code 0, because only the steps that need it fail.
    """
    if options.nodes is not None:
        from llmval_tui.console.doctor_nodes import doctor_nodes

        return doctor_nodes(options)
    named = options.runner_python
    config, error = config_or_error(options)
    is_found = options.runner_python is not None and not (named or config.runner_python)
    checks = [
        *_gpus(),
        *_software(options.runner_python or sys.executable, ", the first one found with torch" if is_found else ""),
        *_other_interpreters(options.runner_python or sys.executable),
        *_tools(options.runner_python or sys.executable),
        *_plugins(),
        *_workspace(options),
    ]
    code = ExitCode.PASSED
    if options.checkpoint is not None:
        found = _checkpoint(options.checkpoint, options.runner_python or sys.executable)
        code = ExitCode.REFUSED if found[0].state == "missing" else code
        checks += found
    if error is not None:
        hint = "llmval and llmval run refuse to start until the file is corrected or removed; these checks ignore it"
        checks.insert(0, Check("settings", "missing", error, hint))
    if options.json:
        configuration = _configuration(options.runner_python or sys.executable)
        print_object("doctor", checks=checks, configuration=configuration)
        return code
    glyphs = {"ok": "+", "missing": "!", "note": "-"} if options.ascii else {"ok": "✓", "missing": "✗", "note": "!"}
    width = max(len(check.name) for check in checks)
    for check in checks:
        print(f"{glyphs[check.state]} {check.name:<{width}}  {check.found}")
        if check.consequence:
            print(f"  {'':<{width}}  → {check.consequence}")
    return code


def _configuration(python: str) -> dict[str, Any] | None:
    """What nodes are compared by; None if the runners' Python cannot be asked, which a check says."""
    from llmval_tui.fleet.configuration import collect

    try:
        return collect(python)
    except (OSError, subprocess.SubprocessError):
        return None


def _gpus() -> list[Check]:
    inventory = gpu_inventory()
    gpus = inventory.get("gpus") or []
    notes = [str(note) for note in inventory.get("notes", [])]
    reason = str(inventory.get("error") or (notes[0] if notes else "no NVIDIA GPU"))
    if not gpus:
        return [Check("GPUs", "missing", reason, "steps on GPUs are refused; --preset smoke runs on the CPU")]
    driver = str(inventory.get("driver_version") or "unknown")
    names = ", ".join(sorted({str(gpu.get("name")) for gpu in gpus}))
    checks = [Check("driver", "ok", driver), Check("GPUs", "ok", f"{len(gpus)} × {names}")]
    links = [gpu.get("nvlink_links_active") for gpu in gpus]
    shown = ", ".join("n/a" if count is None else str(count) for count in links)
    if len(gpus) == 1:
        checks.append(Check("NVLink", "note", f"{shown} active links; this is the only GPU"))
    elif all(links):
        checks.append(Check("NVLink", "ok", f"active links per GPU: {shown}"))
    else:
        text = "GPUs without NVLink communicate over PCIe: see docs/nvlink_pcie_playbook.md"
        checks.append(Check("NVLink", "missing", f"active links per GPU: {shown}", text))
    return checks + [Check("NVML", "note", note) for note in notes]


def _software(python: str, why: str) -> list[Check]:
    try:
        versions = software_versions(python)
    except (OSError, subprocess.SubprocessError) as error:
        return [Check("runner python", "missing", f"{python}: {error}", "name another Python with --runner-python")]
    checks = [Check("runner python", "ok", f"{versions.get('python', 'unknown')} at {python}{why}")]
    hints = {
        "torch": "no runner works: install torch into a Python on your PATH, or name one with --runner-python",
        "transformer-engine": "--fp8-mode transformer-engine is refused: on a GPU node, "
        + how_to_install(["'transformer-engine[pytorch]'"], python),
    }
    for name, hint in hints.items():
        version = versions.get(name)
        checks.append(Check(name, "ok", version) if version else Check(name, "missing", "not installed", hint))
    missing = [name for name in CLIENT_PACKAGES if name not in versions]
    found = ", ".join(f"{name} {versions[name]}" for name in CLIENT_PACKAGES if name in versions)
    hint = f"{OPENAI_LOAD_TEST} is refused: {how_to_install(missing, python)}"
    absent = f"{' and '.join(missing)} not installed"
    checks.append(Check("HTTP client", "missing", absent, hint) if missing else Check("HTTP client", "ok", found))
    return checks


def _other_interpreters(taken: str) -> list[Check]:
    """The other interpreters here that have torch."""
    checks = []
    for one in interpreters_with_torch():
        if one.path == taken:
            continue
        found = f"torch {one.torch} in Python {one.python} at {one.path}"
        if one.is_too_old:
            checks.append(Check("other torch", "note", found, "the runners need Python 3.11 or newer"))
        else:
            checks.append(Check("other torch", "ok", found, f"--runner-python {one.path} takes it"))
    return checks


def _checkpoint(folder: str, python: str) -> list[Check]:
    """What the runners' gate says about a checkpoint. Nothing of it is loaded."""
    command = [python, str(bundled("runners") / "checkpoint_check.py"), str(Path(folder).expanduser())]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=CHECKPOINT_S, check=False)
        found = json.loads(done.stdout) if done.returncode == 0 else None
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        return [Check("checkpoint", "missing", f"{python}: {error}", "name another Python with --runner-python")]
    if found is None:
        lines = done.stderr.strip().splitlines() or ["the check ended without a reason"]
        return [Check("checkpoint", "missing", lines[-1].removeprefix("refused: "))]
    stored = found["quantization"] or ", ".join(found["dtypes"])
    count = found["parameters"]
    size = f"{count / 1e9:.3g} B" if count >= 10**7 else f"{count:,}"
    about = f"{found['architecture']}, {size} parameters in {stored}; runs {found['on_gpu']}"
    checks = [Check("checkpoint", "ok", about)]
    reason = f"a longer one is refused: the model {found['context_reason']}" if found["context_reason"] else ""
    state = "note" if reason else "ok"
    checks.append(Check("context", state, f"up to {found['context_tokens']:,} tokens", reason))
    for ranks, memory in found["ranks"].items():
        gib, fp8 = memory["weight_bytes_16_bit"] / 2**30, memory["weight_bytes_fp8"] / 2**30
        kv = f"KV cache {memory['kv_bytes_per_token_16_bit']:,} bytes a token"
        each = f"weights {gib:.2f} GiB each in 16 bits ({fp8:.2f} in FP8), {kv}"
        checks.append(Check(f"{ranks} GPU{'s' if ranks != '1' else ''}", "ok", each))
    return checks


def _tools(python: str) -> list[Check]:
    wanted = {
        "nsys": "traces come from the PyTorch profiler instead",
        "py-spy": f"the stacks of a hung rank come from faulthandler alone: {how_to_install(['py-spy'], python)}",
        "tmux": "runs survive a lost connection anyway; start the dashboard again after it",
    }
    checks = []
    for name, hint in wanted.items():
        in_venv = Path(python).with_name(name)
        path = shutil.which(name) or (str(in_venv) if in_venv.exists() else None)
        checks.append(Check(name, "ok", path) if path else Check(name, "missing", "not found", hint))
    return checks


def _plugins() -> list[Check]:
    hint = "checklist items with its action are refused: repair or remove the plugin"
    return [Check(f"plugin {name}", "missing", reason, hint) for name, reason in sorted(plugin_problems().items())]


def _workspace(options: argparse.Namespace) -> list[Check]:
    workspace = workspace_of(options)
    free = shutil.disk_usage(workspace).free / 1e9
    writable = os.access(workspace, os.W_OK)
    checks = [
        Check("workspace", "ok" if writable else "missing", f"{workspace}, {free:.0f} GB free")
        if writable
        else Check("workspace", "missing", f"{workspace} is not writable", "choose another with --workspace")
    ]
    if client.killed_at_logout():
        hint = (
            "run loginctl enable-linger"
            if not shutil.which("systemd-run")
            else "llmval starts each run in its own systemd scope"
        )
        checks.append(
            Check("logout", "note", "logind kills your processes when you log out (KillUserProcesses=yes)", hint)
        )
    else:
        checks.append(Check("logout", "ok", "detached runs keep running after it"))
    return checks
