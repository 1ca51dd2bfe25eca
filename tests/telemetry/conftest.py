import sys
from collections.abc import Callable, Iterator
from importlib import util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from llmval_tui.telemetry.nvml import NvmlSource


def _beside(name: str) -> ModuleType:
    """A helper module of this folder; with import-mode=importlib the folder is not on the path."""
    full = f"telemetry_tests_{name}"
    if full not in sys.modules:
        spec = util.spec_from_file_location(full, Path(__file__).with_name(f"{name}.py"))
        assert spec and spec.loader
        sys.modules[full] = util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[full])
    return sys.modules[full]


@pytest.fixture
def fake() -> ModuleType:
    return _beside("fake_pynvml")


@pytest.fixture
def synthetic() -> ModuleType:
    return _beside("synthetic")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> "Clock":
    made = Clock()
    monkeypatch.setattr("llmval_tui.telemetry.nvml.time.monotonic_ns", lambda: made.now_ns)
    return made


class Clock:
    now_ns = 1_000_000_000_000

    def step(self, seconds: float) -> None:
        self.now_ns += int(seconds * 1e9)


@pytest.fixture
def opened(
    fake: ModuleType, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., tuple[NvmlSource, Any]]]:
    """Puts a fake NVML with these GPUs in place; gives the source over it and the fake."""
    sources: list[NvmlSource] = []
    monkeypatch.setattr("llmval_tui.telemetry.nvml.in_own_pid_namespace", lambda: False)

    def make(
        *gpus: Any, fail: dict[tuple[str, int | None], int] | None = None, **options: Any
    ) -> tuple[NvmlSource, Any]:
        nvml = fake.FakeNvml(*gpus)
        nvml.fail |= fail or {}
        monkeypatch.setitem(sys.modules, "pynvml", nvml)
        source = NvmlSource(**options)
        source.open()
        sources.append(source)
        return source, nvml

    yield make
    for source in sources:
        source.close()
