"""Reads the output of gpu-burn, which ends with 0 if a GPU calculated wrongly.

Its last lines are `Tested 8 GPUs:` and a line of each, `GPU 0: OK` or `FAULTY`. A GPU whose process died is called OK
there, so the progress lines, which say `(DIED!)` and `(WARNING!)`, count too.
"""

import re

from llmval_tui.actions.tools.files import read_text_file
from llmval_tui.actions.tools.model import LeftFiles, Metric, Tool, ToolResult, format_gate, unreadable
from llmval_tui.runs.records import Gate, Outcome

_TESTED = re.compile(r"^Tested (\d+) GPUs?:\s*$", re.MULTILINE)
_GPU = re.compile(r"^\s*GPU (\d+): (OK|FAULTY)\s*$", re.MULTILINE)
_PROGRESS = re.compile(
    r"proc'd: (?P<rates>.*?)\s{2}errors: (?P<errors>.*?)\s{2}temps: (?P<temps>[^\r\n]*?)(?:\s{2}|[\r\n]|$)"
)
_RATE = re.compile(r"\((-?\d+) Gflop/s\)")
_WORK = re.compile(r"(\d+) \(-?\d+ Gflop/s\)")  # products of each GPU
_ERRORS = re.compile(r"(\d+)\s*(?:\((DIED|WARNING)!\))?")


class GpuBurn(Tool):
    """`gpu_burn SECONDS`, also `gpu-burn`."""

    name = "gpu-burn"
    versions = "without a version"

    def read(self, left: LeftFiles) -> ToolResult:
        text = read_text_file(left.stdout)
        tested = _TESTED.search(text)
        if tested is None:
            return unreadable(
                self, "no summary", "its output has no line “Tested … GPUs:”, so it did not reach its end"
            )
        asked = int(tested[1])
        states = dict(_GPU.findall(text[tested.end() :]))
        if not asked or len(states) != asked:
            return unreadable(self, "incomplete", f"its summary has {len(states)} of {asked} GPUs")
        progress = list(_PROGRESS.finditer(text))
        died, errors = set(), 0
        for match in progress:
            counts = _ERRORS.findall(match["errors"])
            died |= {str(gpu) for gpu, (_, state) in enumerate(counts) if state == "DIED"}
            errors = max(errors, *(int(number) for number, _ in counts), 0)
        faulty = {gpu for gpu, state in states.items() if state == "FAULTY"}
        bad = sorted(faulty | died, key=int)
        reason = ", ".join(f"GPU {gpu} {'died' if gpu in died else 'calculated wrongly'}" for gpu in bad)
        outcome = Outcome.FAIL if bad or errors else Outcome.PASS
        worked = {place for match in progress for place, work in enumerate(_WORK.findall(match["rates"])) if int(work)}
        if outcome is Outcome.PASS and len(worked) < asked:
            idle = f"{asked - len(worked)} of {asked} GPUs idle"
            return unreadable(self, idle, "a GPU that multiplied nothing was not tested")
        gate = Gate("GPUs", outcome, f"{asked - len(bad)} of {asked} right", "every GPU calculated right", reason)
        metrics = {
            "gpus.faulty": Metric(len(bad), ""),
            "gpus.total": Metric(asked, ""),
            "errors": Metric(errors, ""),
        }
        rates = [int(rate) for rate in _RATE.findall(progress[-1]["rates"])] if progress else []
        if rates and min(rates) > 0:
            metrics |= {"gflops.min": Metric(min(rates), ""), "gflops.max": Metric(max(rates), "")}
        gates = [format_gate(self, "its output names no version"), gate]
        return ToolResult(gates, metrics, f"gpu-burn: {asked - len(bad)} of {asked} GPUs calculated right")
