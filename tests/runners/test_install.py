"""What a runner says of a package that is missing."""

import sys
from pathlib import Path

import pytest
from llmval_runners.process import install
from llmval_runners.process.install import how_to_install


def test_the_python_in_use_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/opt/v/bin/python")
    assert how_to_install("triton") == "run `/opt/v/bin/python -m pip install triton`"
    assert how_to_install("a[b]>=2", "c") == "run `/opt/v/bin/python -m pip install 'a[b]>=2' c`"


def test_a_python_without_pip_is_not_told_to_use_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/opt/v/bin/python")
    monkeypatch.setattr(install, "find_spec", lambda name: None)
    assert how_to_install("a", "b") == "use a Python that has a and b (/opt/v/bin/python has no pip)"


def test_no_runner_names_a_pip_of_no_python() -> None:
    sources = Path(install.__file__).parents[1].rglob("*.py")
    plain = [path for path in sources if "pip install" in path.read_text().replace("-m pip install", "")]
    assert plain == []
