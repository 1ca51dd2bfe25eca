"""The ready list for the fabric can be read, and its trial needs neither GPUs nor nodes."""

from pathlib import Path

from llmval_tui.actions.command.argv import parse_argv, value_of
from llmval_tui.actions.command.gpu_count import NPROC
from llmval_tui.actions.command.presets import apply
from llmval_tui.checklist.model import load

LIST = Path(__file__).parents[3] / "docs" / "lists" / "fabric.md"


def words_of(number: str, **values: str) -> list[str]:
    (span,) = load(LIST).step(number).spans
    for name, value in values.items():
        span = span.replace(f"<{name}>", value)
    return span.split()


def test_the_trial_measures_pairs_of_ranks_on_one_machine():
    argv, _ = apply("smoke", "collective_bandwidth.py", parse_argv(words_of("2.1", nodes="1", busbw="350")), 0)
    assert value_of(argv.arguments, "--pairs") == "rounds" and value_of(argv.arguments, "--ranks-per-node") == "1"
    assert value_of(argv.options, NPROC) == "4" and value_of(argv.arguments, "--min-busbw") is None
    assert value_of(argv.arguments, "--min-bytes") == value_of(argv.arguments, "--max-bytes") == "64K"


def test_over_several_nodes_the_nodes_stay_nodes():
    argv, _ = apply("smoke", "collective_bandwidth.py", parse_argv(words_of("2.1", nodes="4", busbw="350")), 0)
    assert value_of(argv.arguments, "--ranks-per-node") is None and value_of(argv.options, "--nnodes") == "4"


def test_each_node_alone_is_measured_first():
    assert "--pairs" not in words_of("1.1") and load(LIST).steps[0].number == "1.1"
