"""The project's own documents hold what llmval reads and writes in them."""

import re
from pathlib import Path

import pytest

from llmval_tui.checklist.ledger import Entry, entries, record
from llmval_tui.checklist.model import load

DOCS = Path(__file__).parents[2] / "docs"


def test_every_document_that_the_list_names_is_there() -> None:
    named = {
        span for step in load(DOCS / "llm_validation_checklist.md").steps for span in step.spans if span.endswith(".md")
    }
    assert named == {
        "docs/nvlink_pcie_playbook.md", "docs/performance_baseline.md", "docs/power_efficiency_baselines.md",
        "docs/long_context_playbook.md", "docs/TODO.md",
    }  # fmt: skip
    assert all((DOCS.parent / name).is_file() for name in named)


@pytest.mark.parametrize(
    ("name", "block"),
    [
        ("performance_baseline.md", "baseline"),
        ("power_efficiency_baselines.md", "power"),
        ("long_context_playbook.md", "findings"),
        ("TODO.md", "ledger"),
    ],
)
def test_markers_stand_once_and_in_order(name: str, block: str) -> None:
    found = re.findall(rf"^<!-- llmval:{block}:(begin|end) -->$", (DOCS / name).read_text(), re.MULTILINE)
    assert found == ["begin", "end"]


def test_environment_blocks_never_touch_multicast() -> None:
    text = (DOCS / "nvlink_pcie_playbook.md").read_text()
    blocks = dict(re.findall(r"<!-- llmval:env (\w+) -->\n```bash\n(.*?)```", text, re.DOTALL))
    assert blocks["nvlink"].splitlines() == [
        "export NCCL_P2P_LEVEL=NVL",
        "export NCCL_P2P_DISABLE=0",
        "export NCCL_IB_DISABLE=1",
        "export NCCL_SHM_DISABLE=0",
    ]
    assert set(blocks) == {"nvlink", "nodes", "pcie"}
    for block in blocks.values():  # https://docs.nvidia.com/deeplearning/nccl/user-guide/docs/env.html
        assert set(re.findall(r"_LEVEL=(\w+)", block)) <= {"LOC", "NVL", "PIX", "PXB", "PHB", "SYS"}
    assert not re.search("NVLS|MULTICAST", "".join(blocks.values()))


def test_the_ledger_of_the_shipped_document_takes_a_line(tmp_path: Path) -> None:
    todo = tmp_path / "docs" / "TODO.md"
    todo.parent.mkdir()
    before = (DOCS / "TODO.md").read_bytes()
    todo.write_bytes(before)
    entry = Entry("1.2", "Section", "text", "pass", "2026-01-02T03:04:05Z", "host", "run-1")
    record(todo, entry, tmp_path)
    head, _, tail = before.partition(b"<!-- llmval:ledger:end -->")
    after = todo.read_bytes()
    assert after.startswith(head) and after.endswith(b"<!-- llmval:ledger:end -->" + tail)
    assert entries(todo) == [entry]
