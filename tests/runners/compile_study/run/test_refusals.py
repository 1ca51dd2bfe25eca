"""Bad input gets one sentence that says what to do instead, and nothing is written."""

from pathlib import Path

import pytest
from llmval_runners.compile_study.options import parse
from llmval_runners.compile_study.run.prepare import prepare, resolve
from llmval_runners.process.errors import Refused

TINY = ["--model", "tiny", "--sequence-length", "64", "--device", "cpu"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--device", "cpu"], "llama40b has 39.5 B parameters, 158,195,548,160 bytes"),
        ([*TINY, "--tensor-parallel-gpus", "3"], "pass --tensor-parallel-gpus"),
        (["--model", "tiny", "--device", "cpu", "--tensor-parallel-gpus", "2"], "longer than the 4096 positions"),
        (["--model", "lama"], "there is no model shape called 'lama'"),
    ],
)
def test_a_study_that_cannot_run_here_is_refused(flags: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(Refused, match=message):
        resolve(parse([*flags, "--output-dir", str(tmp_path)]))


@pytest.mark.parametrize(
    "flags",
    [
        [],
        ["--output-dir", "x", "--stall-after", "10", "--timeout", "10"],
        ["--output-dir", "x", "--skip-compile", "--skip-eager"],
        ["--output-dir", "x", "--skip-compile", "--ablate"],
        ["--output-dir", "x", "--compile-mode", "clever"],
    ],
)
def test_contradictory_flags_are_refused(flags: list[str]) -> None:
    with pytest.raises(Refused, match=":"):
        parse(flags)


def test_inductor_on_a_cpu_without_a_compiler_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    flags = [*TINY, "--tensor-parallel-gpus", "2", "--output-dir", str(tmp_path / "out")]
    with pytest.raises(Refused, match="C\\+\\+ compiler"):
        resolve(parse(flags))
    resolve(parse([*flags, "--backend", "aot_eager"]))


def test_a_foreign_folder_is_refused_and_an_earlier_study_is_moved_aside(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    flags = [*TINY, "--tensor-parallel-gpus", "2", "--output-dir", str(folder), "--cache-dir", str(tmp_path / "cache")]
    with pytest.raises(Refused, match="holds no earlier study"):
        prepare(parse(flags), flags)
    (folder / "mine.txt").unlink()
    first, _ = prepare(parse(flags), flags)
    (first.root / "mark").write_text("first")
    second, _ = prepare(parse(flags), flags)
    assert not (second.root / "mark").exists()
    assert [path.read_text() for path in tmp_path.glob("out.earlier-*/mark")] == ["first"]
