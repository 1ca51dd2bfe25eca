"""Capture a trace: with llmval's own script, whose defaults are decided beforehand, or with any other script."""

import re
import shutil
from datetime import UTC

from llmval_tui.actions.api import Context, Proposal
from llmval_tui.actions.command import presets
from llmval_tui.actions.command.argv import parse_argv, value_of
from llmval_tui.actions.command.environment import section_environment
from llmval_tui.actions.command.freeze import build
from llmval_tui.actions.command.gpu_count import TENSOR_PARALLEL, available_gpus, largest_power_of_two
from llmval_tui.actions.command.resolve import resolve_script
from llmval_tui.actions.command.runner_catalog import TRACE
from llmval_tui.actions.judges.trace import default_of, from_environment, same_flag_value, variable
from llmval_tui.actions.steps.command import CommandAction, proposal_of, required_command
from llmval_tui.checklist.command import parse_command

_PROFILER, _FOLDER = "--profiler", "--output-dir"
_NSIGHT = re.compile(r"\b(?:nsight|nsys)\b", re.IGNORECASE)


class TraceCapture(CommandAction):
    """A step with a command that writes a trace."""

    name = "trace_capture"
    title = "capture a trace"
    about = "Runs the item's profiling script on the GPUs and stores its trace."

    def propose(self, context: Context) -> Proposal:
        text = required_command(context)
        parsed = parse_command(text, now=context.now, environment=context.environment)
        if parsed.has_date:
            parsed = parsed.fill(context.now.strftime("%Y%m%d"))
        argv = parse_argv(list(parsed.argv))
        script = resolve_script(argv.script, context.workspace) if argv.script is not None else None
        if script is None or script.runner != TRACE:
            built = build(context, text)
            name = built.argv.script or built.argv.program
            return proposal_of(self.name, context, [built], f"Runs {name} and stores its trace.")
        in_command = from_environment(parsed.environment)
        around = {**context.environment, **section_environment(context.store, context.checklist, context.step)}
        decided = _decided(context)
        by_variable = {**from_environment(around), **in_command}
        if by_variable.get(_PROFILER) == "auto":
            del by_variable[_PROFILER]  # decided here, like the script would
        wanted = {**decided, **by_variable}
        extra = [word for flag, value in wanted.items() if value_of(argv.arguments, flag) is None
                 for word in (flag, value)]  # fmt: skip
        built = build(context, text, extra=tuple(extra))
        by_nsys = value_of(built.argv.arguments, "--profiler") == "nsys"
        changed = [flag for flag in by_variable if flag in extra and flag not in in_command]
        if not by_nsys and _NSIGHT.search(context.step.prose):
            why = "as TRACE_PROFILER says" if _PROFILER in changed else _why(context)
            built.deviations.append(f"a trace by PyTorch's profiler instead of Nsight Systems ({why})")
            changed = [flag for flag in changed if flag != _PROFILER]
        built.deviations.extend(_deviations(changed, wanted, decided, built.argv.arguments))
        tool = "Nsight Systems" if by_nsys else "PyTorch's profiler"
        return proposal_of(self.name, context, [built], f"Traces the engine under load with {tool}.")


def _decided(context: Context) -> dict[str, str]:
    """The script's defaults, decided now: the proposal then shows the exact command and its output folder."""
    gpus = available_gpus(context)
    found = {
        _FOLDER: f"artifacts/traces/{context.now.astimezone(UTC):%Y%m%dT%H%M%SZ}",
        _PROFILER: "nsys" if gpus and _nsys(context) else "torch",
    }
    if gpus or context.options.preset is None:
        most = largest_power_of_two(max(gpus, 1)) if context.options.preset is None else presets.most_ranks(gpus)
        found[TENSOR_PARALLEL[0]] = str(most)
    return found


def _deviations(
    changed: list[str], wanted: dict[str, str], decided: dict[str, str], arguments: tuple[str, ...]
) -> list[str]:
    """The defaults of the script that environment variables change, not the item."""
    found = []
    for flag in changed:
        value = wanted[flag]
        default = decided.get(flag) or default_of(flag, arguments)
        replaced = value_of(arguments, flag) != value  # by a preset, which has its own deviation
        if flag != _FOLDER and not replaced and (default is None or not same_flag_value(value, default)):
            instead = f" instead of {default}" if default is not None else ""
            found.append(f"{flag.removeprefix('--')} {value}{instead} ({variable(flag)} is set)")
    return found


def _nsys(context: Context) -> bool:
    return shutil.which("nsys", path=context.environment.get("PATH")) is not None


def _why(context: Context) -> str:
    if not available_gpus(context):
        return "the run uses the CPU"
    return "as the command asks" if _nsys(context) else "nsys is not on the PATH"
