import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest

from llmval_tui.telemetry.nvml.source import NvmlSource
from tests.helpers import fake_pynvml
from tests.helpers import synthetic as synthetic_samples


@pytest.fixture
def fake() -> ModuleType:
    return fake_pynvml


@pytest.fixture
def synthetic() -> ModuleType:
    return synthetic_samples


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> "Clock":
    made = Clock()
    monkeypatch.setattr("llmval_tui.telemetry.nvml.source.time.monotonic_ns", lambda: made.now_ns)
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
    monkeypatch.setattr("llmval_tui.telemetry.nvml.source.in_own_pid_namespace", lambda: False)

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
