"""The lists that llmval exists for load as written, and one tick changes one byte."""

from datetime import datetime
from pathlib import Path

import pytest

from llmval_tui.checklist.command import parse_command
from llmval_tui.checklist.model import load, parse
from llmval_tui.checklist.write_mark import set_mark
from llmval_tui.foundation.errors import Refused

ROOT = Path(__file__).parents[2]
OWN = ROOT / "docs" / "llm_validation_checklist.md"
OPERATORS = ROOT.parent / "shared" / "operator" / "llm_validation_checklist.md"
NUMBERS = ["1.1", "1.2", "1.3", "1.4", "2.1", "2.2", "2.3", "2.4", "3.1", "3.2", "3.3", "4.1", "4.2", "4.3"]
FIRST_SPAN = {
    "1.1": "docs/nvlink_pcie_playbook.md",
    "1.2": "torchrun --nproc_per_node=8 ",
    "1.4": "docs/performance_baseline.md",
    "2.1": "--compile-mode smart",
    "2.2": "python ",
    "2.4": "docs/TODO.md",
    "3.1": "python ",
    "3.2": "python ",
    "3.3": "docs/power_efficiency_baselines.md",
    "4.1": "python ",
    "4.2": "docs/long_context_playbook.md",
    "4.3": "docs/TODO.md",
}
FLAGS = {
    "1.2": "--duration 300 --target-qps 28 --attention-backend flex --fp8-mode transformer-engine "
    "--output-json artifacts/inference/full_mesh_20260102.json",
    "2.2": "--model llama40b --sequence-length 8192 --batch-size 4 --tensor-parallel-gpus 8 "
    "--output-dir artifacts/torch_compile_repro_20260102",
    "3.1": "--sequence-length 4096 --model-layers 32 48 --model-d-model 5120 6144 --model-heads 40 48 "
    "--model-d-ff 20480 24576 --batch-size 2 3 4 --modes fp16 bf16 fp8_te --skip-compile --attention-backend sdpa "
    "--output-dir power_results/20260102",
    "3.2": "power_results/<date>/*.json --output artifacts/power/summary_<date>.json",
    "4.1": "--sequence-lengths 32768 65536 --tensor-parallel-gpus 8 "
    "--output-json artifacts/long_context/results_20260102.json",
}


@pytest.fixture(params=["fixture", "operator", "own"])
def path(request: pytest.FixtureRequest, operator_list: Path, tmp_path: Path) -> Path:
    if request.param == "fixture":
        return operator_list
    source = OPERATORS if request.param == "operator" else OWN
    if request.param == "operator" and not source.exists():
        pytest.skip("the operator's own file is not beside this checkout; the fixture holds the same items")
    copy = tmp_path / "copy.md"
    copy.write_bytes(source.read_bytes())
    return copy


def test_four_sections_fourteen_items(path: Path) -> None:
    checklist = load(path)
    assert [section.number for section in checklist.sections] == ["1", "2", "3", "4"]
    assert [step.number for step in checklist.steps] == NUMBERS
    assert not any(step.checked for step in checklist.steps)
    for number, span in FIRST_SPAN.items():
        assert checklist.step(number).spans[0].startswith(span), number
    assert checklist.step("1.3").spans[0].endswith("/capture_fp8_flexattention_traces.sh")
    assert checklist.step("2.3").spans == ()


@pytest.mark.parametrize("number", FLAGS)
def test_commands_have_the_operators_flags(path: Path, number: str) -> None:
    step = load(path).step(number)
    command = parse_command(step.spans[0], now=datetime(2026, 1, 2), environment={})
    words = [word.value for word in command.words]
    script = next(index for index, word in enumerate(words) if word.endswith(".py"))
    assert words[script + 1 :] == FLAGS[number].split()


def test_a_tick_changes_exactly_one_byte(path: Path) -> None:
    before = path.read_bytes()
    for step in load(path).steps:
        set_mark(path, step.key, checked=True)
        after = path.read_bytes()
        assert [at for at, (old, new) in enumerate(zip(before, after, strict=True)) if old != new] == [step.mark_offset]
        assert set_mark(path, step.key, checked=False).checked is False
        assert path.read_bytes() == before


def test_a_number_that_no_step_has_is_not_searched_as_text(tmp_path) -> None:
    checklist = parse(b"- [ ] Kernel 5.10\n- [ ] Other\n", tmp_path / "l.md")
    with pytest.raises(Refused, match="has no step"):
        checklist.step("10")
    assert checklist.step("kernel 5.10").number == "1.1"
