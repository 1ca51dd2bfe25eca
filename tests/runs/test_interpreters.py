"""Which interpreter the runners get if nobody names one."""

import sys
from pathlib import Path

import pytest

from llmval_tui.runs import interpreters


def make_python(folder: Path, versions: str, name: str = "python3") -> str:
    """A program that answers like an interpreter with these versions (JSON), and notes each call in `calls`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\necho call >> '{folder}/calls'\necho '{versions}'\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a bundle: llmval's own interpreter has no torch, and the usual places are empty."""
    monkeypatch.setattr(interpreters, "own_has_torch", lambda: False)
    monkeypatch.setattr(interpreters, "_USUAL", ())
    monkeypatch.setattr(sys, "executable", "/nowhere/python")


def test_its_own_interpreter_is_taken_if_it_has_torch(monkeypatch, tmp_path) -> None:
    make_python(tmp_path, '{"python": "3.12.3", "torch": "2.13.0"}')
    monkeypatch.setenv("PATH", str(tmp_path))
    assert interpreters.own_has_torch()  # the tests need it anyway
    assert interpreters.runner_python_found() is None
    assert not (tmp_path / "calls").exists()


def test_the_first_one_with_torch_is_taken_in_a_fixed_order(without_torch, tmp_path) -> None:
    torch = '{"python": "3.12.3", "torch": "2.13.0"}'
    bare = make_python(tmp_path / "bare", '{"python": "3.12.3"}')
    started_by = make_python(tmp_path / "started_by", torch, "python3.12")
    active = make_python(tmp_path / "venv" / "bin", torch, "python")
    on_path = make_python(tmp_path / "path", torch)
    environment = {"PATH": f"relative:{Path(bare).parent}:{Path(on_path).parent}:{Path(on_path).parent}"}
    found = [one.path for one in interpreters.interpreters_with_torch(environment)]
    assert found == [on_path]
    environment |= {"LLMVAL_STARTED_BY": started_by, "VIRTUAL_ENV": str(tmp_path / "venv"), "CONDA_PREFIX": "/nowhere"}
    found = [one.path for one in interpreters.interpreters_with_torch(environment)]
    assert found == [started_by, active, on_path]


def test_one_that_is_too_old_for_the_runners_is_listed_and_not_taken(without_torch, monkeypatch, tmp_path) -> None:
    make_python(tmp_path / "old", '{"python": "3.10.13", "torch": "2.6.0"}')
    new = make_python(tmp_path / "new", '{"python": "3.11.0", "torch": "2.13.0"}')
    for name in ("LLMVAL_STARTED_BY", "VIRTUAL_ENV", "CONDA_PREFIX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path / 'old'}:{tmp_path / 'new'}")
    assert [one.is_too_old for one in interpreters.interpreters_with_torch()] == [True, False]
    assert interpreters.runner_python_found() == new
    monkeypatch.setenv("PATH", str(tmp_path / "old"))
    assert interpreters.runner_python_found() is None


@pytest.mark.parametrize("answer", ["no JSON", "", '["torch"]'])
def test_a_program_that_is_not_an_interpreter_is_passed_over(without_torch, tmp_path, answer) -> None:
    make_python(tmp_path, answer)
    assert list(interpreters.interpreters_with_torch({"PATH": str(tmp_path)})) == []


def test_python_and_python3_of_one_folder_are_asked_once(without_torch, tmp_path) -> None:
    path = make_python(tmp_path, '{"python": "3.12.3", "torch": "2.13.0"}')
    (tmp_path / "python").symlink_to(path)
    assert len(list(interpreters.interpreters_with_torch({"PATH": str(tmp_path)}))) == 1
    assert (tmp_path / "calls").read_text().count("call") == 1


def test_what_the_load_test_over_http_lacks_is_asked_once_in_a_while(monkeypatch, tmp_path) -> None:
    now = 100.0
    monkeypatch.setattr("llmval_tui.runs.interpreters.time.monotonic", lambda: now)
    python = make_python(tmp_path, "uvloop")
    assert [interpreters.missing_client_packages(python) for _ in range(5)] == [("uvloop",)] * 5
    assert (tmp_path / "calls").read_text().count("call") == 1
    make_python(tmp_path, "")  # somebody has installed it
    now += 20
    assert interpreters.missing_client_packages(python) == ()
    assert interpreters.missing_client_packages(make_python(tmp_path / "odd", '{"no": "answer"}')) == ()
    assert interpreters.missing_client_packages("/nowhere/python") == ()
    assert interpreters.missing_client_packages(sys.executable) == ()  # the tests need them anyway


def test_pip_is_advised_only_where_it_is(tmp_path) -> None:
    python = make_python(tmp_path / "own", "uvloop")
    assert interpreters.how_to_install(["httptools", "uvloop"], python) == f"{python} -m pip install httptools uvloop"
    bundle = make_python(tmp_path / "bundle", "httptools uvloop pip")
    assert interpreters.missing_client_packages(bundle) == ("httptools", "uvloop")
    advice = interpreters.how_to_install(["httptools", "uvloop"], bundle)
    assert advice == f"name a Python that has httptools and uvloop with --runner-python ({bundle} has no pip)"


def test_the_real_one(tmp_path) -> None:
    found = list(interpreters.interpreters_with_torch({"PATH": str(Path(sys.executable).parent)}))
    assert found[0].path == sys.executable and not found[0].is_too_old
