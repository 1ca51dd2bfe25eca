"""A process that the kernel killed for lack of memory is called that."""

from pathlib import Path

import pytest

from llmval_tui.runs.out_of_memory import Kills, kills


def files(root: Path, cgroup: str, counters: dict[str, str]) -> Path:
    for name, text in {"proc/self/cgroup": cgroup, **counters}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_version_2(tmp_path: Path) -> None:
    root = files(
        tmp_path,
        "0::/job\n",
        {
            "sys/fs/cgroup/job/memory.events": "low 0\noom 1\noom_kill 3\n",
            "sys/fs/cgroup/job/memory.max": f"{4 << 30}\n",
            "proc/vmstat": "nr_free 1\noom_kill 7\n",
        },
    )
    assert kills(root) == Kills(3, 7, 4 << 30)


def test_version_1_and_no_limit(tmp_path: Path) -> None:
    folder = "sys/fs/cgroup/memory/job"
    counters = {
        f"{folder}/memory.oom_control": "oom_kill_disable 0\noom_kill 2\n",
        f"{folder}/memory.limit_in_bytes": "9223372036854771712\n",
    }
    root = files(tmp_path, "5:devices:/\n4:memory:/job\n0::/\n", counters)
    assert kills(root) == Kills(2, None, None)


def test_unknown_counters(tmp_path: Path) -> None:
    assert kills(tmp_path) == Kills(None, None, None)
    assert Kills(None, None, None).since(Kills(1, 1, None)) is None


@pytest.mark.parametrize(
    ("now", "sentence"),
    [
        (Kills(1, 1, 2 << 30), "out of memory (cgroup limit of 2.0 GiB)"),
        (Kills(1, 1, None), "out of memory (cgroup limit)"),
        (Kills(0, 1, None), "out of memory (the host had none left)"),
        (Kills(0, 0, None), None),
    ],
)
def test_sentence(now: Kills, sentence: str | None) -> None:
    assert now.since(Kills(0, 0, None)) == sentence
