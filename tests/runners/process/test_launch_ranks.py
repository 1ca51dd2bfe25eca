"""Plain Python that starts the ranks itself: what is shown, what is kept, and the exit code."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
CHILD = Path(__file__).with_name("children") / "ends_with.py"
PROGRAM = (
    "import sys; from pathlib import Path; from llmval_runners.process.launch_ranks import launch; "
    "sys.exit(launch(sys.argv[2:], 2, Path(sys.argv[1])))"
)


def started(folder: Path, codes: str, saying: str) -> tuple[int, str, list[Path]]:
    """(exit code, what it said, what is left in the folder for temporary files)."""
    environment = os.environ | {"PYTHONPATH": str(ROOT / "runners"), "TMPDIR": str(folder)}
    environment.pop("LLMVAL_RUN_FOLDER", None)
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(CHILD), codes, saying],
        env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    return ended.returncode, ended.stderr, list(folder.glob("llmval-*"))


@pytest.mark.parametrize(
    ("codes", "saying", "code"),
    [("", "0,1", 0), ("0=1", "0", 1), ("0=3,1=3", "0", 3), ("0=2,1=2", "0", 2)],
    ids=["good", "failed verdict", "inconclusive verdict", "refused"],
)
def test_where_rank_0_has_said_everything_nothing_is_left_and_nothing_is_added(
    tmp_path: Path, codes: str, saying: str, code: int
) -> None:
    ended, said, left = started(tmp_path, codes, saying)
    assert (ended, left) == (code, [])
    assert said == "words of rank 0\n", "torch's own lines about the ranks it ends say nothing more"


def test_the_output_of_another_rank_is_kept_after_a_failure_and_its_place_is_said(tmp_path: Path) -> None:
    ended, said, left = started(tmp_path, "1=1", "0,1")
    assert ended == 1 and len(left) == 1
    assert said.endswith(f"rank 1 failed first: exit code 1; the output of all ranks is in {left[0] / 'logs'}\n")
    assert (left[0] / "logs" / "main.rank1.stderr.log").read_text() == "words of rank 1\n"


def test_a_rank_that_was_killed_is_named(tmp_path: Path) -> None:
    ended, said, left = started(tmp_path, "0=-9", "0")
    assert (ended, left) == (1, [])
    assert said == "words of rank 0\nrank 0 failed first: SIGKILL\n"


def test_a_reader_that_has_gone_ends_no_rank(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT / "runners"), "TMPDIR": str(tmp_path)}
    environment.pop("LLMVAL_RUN_FOLDER", None)
    reads, writes = os.pipe()
    os.close(reads)
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(CHILD), "", "0"],
        env=environment, stdout=subprocess.PIPE, stderr=writes, text=True, timeout=300, check=False,
    )  # fmt: skip
    os.close(writes)
    assert ended.returncode == 0


def test_no_room_for_the_output_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from llmval_runners.process import launch_ranks
    from llmval_runners.process.errors import Refused

    def full(prefix: str) -> str:
        raise OSError(28, "No space left on device", "/tmp")

    monkeypatch.setattr(tempfile, "mkdtemp", full)
    monkeypatch.delenv("LLMVAL_RUN_FOLDER", raising=False)
    with pytest.raises(Refused, match="set TMPDIR"):
        launch_ranks.launch([], 2, CHILD)
