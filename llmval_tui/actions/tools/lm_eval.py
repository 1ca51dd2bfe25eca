"""Reads the results of lm-evaluation-harness: `lm_eval --output_path DIR` writes `DIR/MODEL/results_TIME.json`.

`results` has for each task, and for each group that is averaged, `METRIC,FILTER` (a number from 0 to 1 for a share) and
`METRIC_stderr,FILTER`; `n-samples` has how many samples a task has and how many were evaluated. A score that is NaN, as
after answers without a number, proves nothing.
"""

from typing import Any

from llmval_tui.actions.tools.command_line import option
from llmval_tui.actions.tools.files import Unreadable, at, count, number, read_json_file
from llmval_tui.actions.tools.model import LeftFiles, Metric, Promise, Tool, ToolResult, format_gate, unreadable
from llmval_tui.runs.records import Gate, Outcome

PROGRAMS = ("lm_eval", "lm-eval")
NO_EVALUATION = frozenset({"-h", "--help", "list", "ls", "validate"})  # words with which it evaluates nothing
_NO_SCORE = ("bypass", "")  # what --predict_only and a group without an average have in place of one


class LmEval(Tool):
    """`lm_eval --model … --tasks … --output_path DIR`."""

    name = "lm_eval"
    versions = "0.4"

    def outputs(self) -> tuple[Promise, ...]:
        folder = option(self.arguments, "--output_path", "-o")
        return (Promise(folder, folder=True),) if folder and not folder.endswith(".json") else ()

    def missing_flag(self) -> str | None:
        if option(self.arguments, "--output_path", "-o"):
            return None if self.outputs() else "the file would get a name with its time: name a folder in --output_path"
        return "its scores would only be printed: add --output_path artifacts/NAME"

    def read(self, left: LeftFiles) -> ToolResult:
        files = [file for file in left.files if file.name.startswith("results_") and file.suffix == ".json"]
        if len(files) != 1:
            reason = self.missing_flag() or f"the run left {len(files)} files called results_*.json"
            return unreadable(self, f"{len(files)} result files", reason)
        try:
            value = read_json_file(files[0])
            if not isinstance(results := at(value, "results"), dict) or not isinstance(at(value, "configs"), dict):
                raise Unreadable(f"{files[0].name} lacks results or configs, so it is no result of lm_eval")
        except Unreadable as problem:
            return unreadable(self, "not readable", str(problem))
        scores = _scores(results)
        known = [metric for metric in scores.values() if metric.value is not None]
        unknown = [name for name, metric in scores.items() if metric.value is None]
        measured, bound = f"{len(known)} of {len(scores)} are numbers", "every score is a number"
        reason = f"no number: {', '.join(unknown)}"[:300] if unknown else "" if scores else "it has no score"
        outcome = Outcome.INCONCLUSIVE if reason else Outcome.PASS
        version = at(value, "lm_eval_version")
        gates = [
            format_gate(self, f"lm_eval {version}" if version else "its result names no version"),
            Gate("scores", outcome, measured, bound, reason),
            self._samples(value),
        ]
        metrics = scores | _unfiltered(scores, at(value, "higher_is_better"))
        shown = ", ".join(f"{name} {one.value:.4g}" for name, one in list(scores.items())[:3] if one.value is not None)
        return ToolResult(gates, metrics, f"lm_eval: {shown or 'no score'}")

    def _samples(self, value: Any) -> Gate:
        """Whether every sample of each task was evaluated, or as many as --limit says."""
        counts = at(value, "n-samples")
        tasks = counts.values() if isinstance(counts, dict) else ()
        pairs = [(count(at(one, "effective")), count(at(one, "original"))) for one in tasks]
        done, there = (sum(pair[place] or 0 for pair in pairs) for place in (0, 1))
        limit = option(self.arguments, "--limit", "-L")
        name, measured = "samples", f"{done} of {there}" + (f" (--limit {limit})" if limit else "")
        bound = "as many as --limit says" if limit else "every sample of each task"
        if not pairs or any(not part for pair in pairs for part in pair):
            return Gate(name, Outcome.INCONCLUSIVE, measured, bound, "the result does not count the samples of a task")
        if done != there and not limit:
            return Gate(name, Outcome.INCONCLUSIVE, measured, bound, "a part of the samples was left out")
        return Gate(name, Outcome.PASS, measured, bound)


def _scores(results: dict[str, Any]) -> dict[str, Metric]:
    """`gsm8k.exact_match.strict-match`, `mmlu.acc`: the filter `none` has no name."""
    found = {}
    for task, values in results.items():
        for key, value in values.items() if isinstance(values, dict) else ():
            metric, comma, kind = key.partition(",")
            if comma and metric.strip() not in _NO_SCORE and not metric.endswith("_stderr"):
                name = f"{task}.{metric}" + ("" if kind == "none" else f".{kind}")
                found[name] = Metric(number(value), "", "the result has no number for it")
    return found


def _unfiltered(scores: dict[str, Metric], better: Any) -> dict[str, Metric]:
    """`gsm8k.exact_match`: the worst of its filters; `exact_match`, if only one task has it."""
    found: dict[str, Metric] = {}
    of_metric: dict[str, list[Metric]] = {}
    for stem in dict.fromkeys(".".join(name.split(".")[:2]) for name in scores):
        task, _, metric = stem.partition(".")
        values = [one.value for name, one in scores.items() if name == stem or name.startswith(f"{stem}.")]
        numbers = [value for value in values if value is not None]
        higher = at(better, task, metric)
        if len(numbers) < len(values):
            found[stem] = Metric(None, "", "the result has no number for it")
        elif len(set(numbers)) > 1 and not isinstance(higher, bool):
            found[stem] = Metric(None, "", f"it has {len(values)} filters: name one, as in {stem}.strict-match")
        else:
            found[stem] = Metric(min(numbers) if higher is not False else max(numbers), "")
        of_metric.setdefault(metric, []).append(found[stem])
    for metric, ones in of_metric.items():
        several = Metric(None, "", f"{len(ones)} tasks have it: name one, as in TASK.{metric}")
        found[metric] = ones[0] if len(ones) == 1 else several
    return found
