"""lm-evaluation-harness: its scores by task, metric and filter, and what makes them unknown."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmval_tui.actions.tools.by_command import tool_of
from llmval_tui.actions.tools.model import ToolResult
from llmval_tui.runs.records import Outcome
from tests.helpers.tool_results import changed, gate, outcome, read

COMMAND = "lm_eval --model local-completions --tasks gsm8k,hellaswag --output_path artifacts/acc"


def left(folder: Path, change: Callable[[Any], None] = lambda value: None, command: str = COMMAND) -> ToolResult:
    return read(command, changed("lm_eval.json", folder / "results_2026-01-02T03-04-05.json", change))


def test_scores_have_the_names_of_task_metric_and_filter(tmp_path: Path) -> None:
    result = left(tmp_path)
    assert outcome(result) is Outcome.PASS
    values = {name: metric.value for name, metric in result.metrics.items()}
    assert values["gsm8k.exact_match.strict-match"] == pytest.approx(0.7901, abs=1e-4)
    assert values["gsm8k.exact_match"] == values["exact_match"] == values["gsm8k.exact_match.strict-match"], "the worst"
    assert values["hellaswag.acc"] == values["acc"] == 0.5719
    assert not any("stderr" in name for name in values)
    assert gate(result, "samples").measured == "11361 of 11361"


def test_the_worst_of_a_perplexity_is_the_highest(tmp_path: Path) -> None:
    def change(value: Any) -> None:
        value["results"]["wiki"] = {"word_perplexity,none": 8.1, "word_perplexity,other": 9.2}
        value["higher_is_better"]["wiki"] = {"word_perplexity": False}

    assert left(tmp_path, change).metrics["wiki.word_perplexity"].value == 9.2

    def unknown(value: Any) -> None:
        change(value)
        del value["higher_is_better"]

    metric = left(tmp_path, unknown).metrics["wiki.word_perplexity"]
    assert metric.value is None and "name one" in metric.reason


def test_several_tasks_with_a_metric_have_no_one_value(tmp_path: Path) -> None:
    def change(value: Any) -> None:
        value["results"]["arc"] = {"acc,none": 0.4}

    result = left(tmp_path, change)
    assert result.metrics["acc"].value is None and result.metrics["arc.acc"].value == 0.4


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda value: value["results"]["gsm8k"].update({"exact_match,strict-match": float("nan")}), "strict-match"),
        (lambda value: value["results"]["gsm8k"].update({"exact_match,strict-match": "0.9"}), "strict-match"),
        (lambda value: value.update(results={}), "no score"),
        (lambda value: value.update(results={"mmlu": {"alias": "mmlu", " ,none": " "}}), "no score"),
        (lambda value: value.update(results={"gsm8k": {"bypass,none": 999}}), "no score"),
        (lambda value: value.pop("results"), "lacks results"),
        (lambda value: value.pop("n-samples"), "does not count"),
        (lambda value: value.update({"n-samples": [1]}), "does not count"),
        (lambda value: value["n-samples"]["gsm8k"].update(effective=0), "does not count"),
        (lambda value: value["n-samples"]["gsm8k"].update(effective=10), "left out"),
    ],
)
def test_what_is_missing_is_inconclusive(tmp_path: Path, change: Callable[[Any], None], words: str) -> None:
    result = left(tmp_path, change)
    assert outcome(result) is Outcome.INCONCLUSIVE
    assert any(words in one.reason for one in result.gates)


def test_a_limit_of_the_command_is_as_written(tmp_path: Path) -> None:
    result = left(tmp_path, lambda value: value["n-samples"]["gsm8k"].update(effective=10), COMMAND + " --limit 10")
    assert outcome(result) is Outcome.PASS and "--limit 10" in gate(result, "samples").measured


@pytest.mark.parametrize(
    ("command", "advice"),
    [
        ("lm_eval --tasks gsm8k", "add --output_path artifacts/NAME"),
        ("python3 -m lm_eval --tasks gsm8k --output_path a.json", "name a folder"),
        (COMMAND, None),
    ],
)
def test_the_flag_that_the_result_needs(command: str, advice: str | None) -> None:
    tool = tool_of(command.split())
    assert tool is not None and tool.name == "lm_eval"
    assert (tool.missing_flag() is None) if advice is None else advice in str(tool.missing_flag())
    assert outcome(read(command)) is Outcome.INCONCLUSIVE


@pytest.mark.parametrize("command", ["lm_eval ls tasks", "lm_eval --tasks list", "lm_eval --help", "lm_eval validate"])
def test_without_an_evaluation_there_is_no_result(command: str) -> None:
    assert tool_of(command.split()) is None
