"""The rows of the Telemetry pane at every width: no figure is cut, and nothing touches the left edge."""

from dataclasses import replace

import pytest

from llmval_tui.telemetry.sample import Sample
from llmval_tui.terminal.glyphs import UNICODE
from llmval_tui.tui.data.screen_state import ScreenState
from llmval_tui.tui.panes.telemetry import telemetry_rows
from llmval_tui.tui.settings import LaunchSettings
from tests.helpers.tui_builder import T0, Workspace, sample


def hot(second: float) -> Sample:
    """A node with figures as wide as they come: over 1,000 W, three digits of GB/s each way, a GPU with an XID."""
    found = sample(second)
    gpus = [
        replace(gpu, power_w=1012.0, power_limit_w=1400.0, nvlink_tx_gb_per_s=512.0, nvlink_rx_gb_per_s=229.0)
        for gpu in found.gpus
    ]
    gpus[3] = replace(gpus[3], xid=79, throttle_reasons=["hw_thermal_slowdown", "sw_power_cap"])
    return replace(found, gpus=gpus)


def figures(text: str) -> set[str]:
    return {word for word in text.split() if any(character.isdigit() for character in word)}


@pytest.mark.parametrize("height", [50, 22, 12])
def test_no_figure_is_cut_and_no_row_touches_the_edge(workspace: Workspace, height: int) -> None:
    state = ScreenState(LaunchSettings(workspace.root, workspace.checklist), now=lambda: T0 + 9.0)
    state.telemetry.extend([hot(second) for second in range(10)])

    def shown(width: int) -> list[str]:
        return [row.plain for row in telemetry_rows(state, width, height, UNICODE)]

    whole = shown(200)
    for width in range(56, 130):
        rows = shown(width)
        assert len(rows) == len(whole)
        for row, full in zip(rows, whole, strict=True):
            assert row.startswith(" "), row
            assert "…" not in row, row
            assert figures(row[:width]) <= figures(full), row


def test_parts_that_do_not_fit_are_omitted_from_the_end(workspace: Workspace) -> None:
    state = ScreenState(LaunchSettings(workspace.root, workspace.checklist), now=lambda: T0 + 9.0)
    state.telemetry.extend([hot(second) for second in range(10)])
    rows = [row.plain for row in telemetry_rows(state, 79, 22, UNICODE)]
    first, ill = (next(row for row in rows if row.startswith(f" GPU {index}")) for index in (0, 5))
    assert "NVLink in 229 out 512 GB/s" in first
    assert "throttled: sw_power_cap" in ill and "GiB" in ill and "NVLink" not in ill
    host = next(row for row in rows if row.startswith(" Host"))
    assert "network in 0.40 out 1.20 MB/s" in host and "disk" not in host


def dense_rows(workspace: Workspace, gpus: int, height: int, width: int = 79) -> list[str]:
    state = ScreenState(LaunchSettings(workspace.root, workspace.checklist), now=lambda: T0 + 9.0)
    found = [sample(second, gpus) for second in range(10)]
    lame = [replace(gpu, throttle_reasons=["sw_power_cap"] if gpu.index in (2, 3, 5) else []) for gpu in found[-1].gpus]
    lame[1] = replace(lame[1], xid=79, nvlink_rx_gb_per_s=1.0, nvlink_tx_gb_per_s=2.0)
    state.telemetry.extend([*found[:-1], replace(found[-1], gpus=lame)])
    return [row.plain for row in telemetry_rows(state, width, height, UNICODE)]


@pytest.mark.parametrize("width", [60, 79, 120])
def test_dense_rows_have_aligned_columns_with_names(workspace: Workspace, width: int) -> None:
    rows = dense_rows(workspace, 16, 24, width)
    heading = next(row for row in rows if "util 0 to 100 %" in row)
    gpus = [row for row in rows if row.startswith(" GPU ")][1:]
    assert len(gpus) == 16
    for column, unit in (("memory", "GiB"), ("power", "W"), ("temp", "°C")):
        ends = {row.index(f" {unit}") + 1 + len(unit) for row in gpus}
        assert ends == {heading.index(column) + len(column)}
    assert ("NVLink in/out" in heading) == ("GB/s" in gpus[0]) == (width > 60)


def test_each_sign_in_dense_rows_is_explained(workspace: Workspace) -> None:
    rows = dense_rows(workspace, 16, 24)
    assert [row[7] for row in rows if row.startswith(" GPU ")][1:] == [" ", "!", "!", "!", " ", "!", *" " * 10]
    assert " ! XID 79: GPU 1" in [row.rstrip() for row in rows]
    assert " ! throttled: sw_power_cap: GPU 2-3, 5" in [row.rstrip() for row in rows]


def test_the_heading_is_omitted_for_the_last_gpu(workspace: Workspace) -> None:
    # 16 GPUs, the source above, the host in two rows below: 19 rows are just enough for all of them.
    assert not any("util 0 to 100 %" in row for row in dense_rows(workspace, 16, 19))
    assert any("util 0 to 100 %" in row for row in dense_rows(workspace, 16, 20))


def test_an_idle_gpu_is_not_throttled_and_its_processes_are_counted(workspace: Workspace) -> None:
    found = sample(9.0)
    gpus = list(found.gpus)
    gpus[0] = replace(gpus[0], throttle_reasons=["gpu_idle"], processes=[])
    gpus[1] = replace(gpus[1], tensor_util_percent=34.0, dram_util_percent=29.0, processes=[11, 12])
    gpus[2] = replace(gpus[2], processes=[11], foreign_processes=[4242])
    state = ScreenState(LaunchSettings(workspace.root, workspace.checklist), now=lambda: T0 + 9.0)
    state.telemetry.extend([replace(found, gpus=gpus)])
    rows = [row.plain for row in telemetry_rows(state, 100, 60, UNICODE)]
    idle, busy, shared = (next(row for row in rows if row.startswith(f" GPU {index}")) for index in range(3))
    assert "throttled" not in idle and "  idle  1980 MHz" in idle and "no process" in idle
    assert "tensor 34 %  DRAM 29 %" in busy and "2 processes" in busy
    assert "not of this run: pid 4242" in shared
    narrow = [row.plain for row in telemetry_rows(state, 60, 12, UNICODE)]  # a row a GPU: signs, explained below
    assert not any("gpu_idle" in row for row in narrow)
    assert any(row.startswith(" ! processes that are not of this run: GPU 2") for row in narrow)


def test_the_peak_of_host_memory_has_the_unit_of_its_figure(workspace: Workspace) -> None:
    state = ScreenState(LaunchSettings(workspace.root, workspace.checklist), now=lambda: T0 + 9.0)
    for second, used in ((8, 420), (9, 7)):
        one = sample(second)
        assert one.host is not None
        host = replace(one.host, memory_used_bytes=used * 2**30, memory_total_bytes=504 * 2**30)
        state.telemetry.extend([replace(one, host=host)])
    (shown,) = (row.plain for row in telemetry_rows(state, 120, 50, UNICODE) if " cpu " in row.plain)
    assert shown.split("memory")[1].split()[-2:] == ["7/504G", "▲420"]
