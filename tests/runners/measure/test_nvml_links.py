"""The links of a GPU by NVML, against a fake whose signatures are checked against the real binding."""

import ctypes
import inspect
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from llmval_runners.collective import expected
from llmval_runners.measure.nvml_links import LinkFault, NoLinks, NvmlLinks, datasheet_rate, open_links

from tests.helpers.fake_pynvml import FakeGpu, FakeNvml


class Fabric(ctypes.Structure):
    _fields_ = (("clusterUuid", ctypes.c_uint8 * 16), ("cliqueId", ctypes.c_uint32), ("state", ctypes.c_uint32))


class Links(FakeNvml):
    """The fake with what only the runners read."""

    c_nvmlGpuFabricInfoV_t = Fabric
    version, speed_mb_per_s, fabric_state = 6, 26562, 0

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> FakeGpu:
        found = next((gpu for gpu in self.gpus if self.nvmlDeviceGetUUID(gpu) == uuid), None)
        if found is None:
            raise self.NVMLError(6)
        return found

    def nvmlDeviceGetNvLinkVersion(self, device: FakeGpu, link: int) -> int:
        self._enter("nvmlDeviceGetNvLinkVersion", device)
        return self.version

    def nvmlDeviceGetMaxPcieLinkGeneration(self, handle: FakeGpu) -> int:
        self._enter("nvmlDeviceGetMaxPcieLinkGeneration", handle)
        return 5

    def nvmlDeviceGetCurrPcieLinkWidth(self, handle: FakeGpu) -> int:
        return 16

    def nvmlDeviceGetGpuFabricInfoV(self, device: FakeGpu, gpuFabricInfo: Any) -> int:
        info = gpuFabricInfo._obj  # of ctypes.byref
        info.state, info.cliqueId = self.fabric_state, 7
        info.clusterUuid[0] = 0xAB
        return 0

    def nvmlDeviceGetFieldValues(self, handle: FakeGpu, fieldIds: list[Any]) -> list[Any]:
        if fieldIds[0][0] != 164:
            return super().nvmlDeviceGetFieldValues(handle, fieldIds)
        value = SimpleNamespace(uiVal=self.speed_mb_per_s)
        return [SimpleNamespace(fieldId=164, nvmlReturn=0, valueType=1, value=value)]


def uuids(nvml: Links) -> list[str]:
    return [nvml.nvmlDeviceGetUUID(gpu) for gpu in nvml.gpus]


def test_the_fake_has_the_signatures_of_the_binding() -> None:
    pynvml = pytest.importorskip("pynvml")
    for name, function in vars(Links).items():
        if name.startswith("nvml"):
            assert list(inspect.signature(function).parameters)[1:] == list(
                inspect.signature(getattr(pynvml, name)).parameters
            ), name
    assert pynvml.NVML_FI_DEV_NVLINK_GET_SPEED == 164
    assert (pynvml.NVML_NVLINK_VERSION_4_0, pynvml.NVML_NVLINK_VERSION_5_0) == (6, 7)
    assert {"clusterUuid", "cliqueId", "state"} <= {name for name, _ in pynvml.c_nvmlGpuFabricInfoV_t._fields_}


def test_a_gpu_behind_a_switch_has_its_links_and_line_rate() -> None:
    nvml = Links(FakeGpu(0), FakeGpu(1, down={5}))
    one, other = uuids(nvml)
    links = NvmlLinks(nvml)
    found = links.describe(one)
    assert found["nvlink"] == {
        "links": 18, "active": 18, "inactive": [], "generation": "4.0", "link_gb_per_s": 25.0,
        "reported_link_gb_per_s": 26.562, "to_switch": 18, "peers": {},
    }  # fmt: skip
    assert found["pcie"] == {"generation": 5, "width": 16, "gb_per_s": pytest.approx(63.008)}
    assert found["fabric"] is None
    assert links.describe(other)["nvlink"]["inactive"] == [5]
    assert links.path(one, other) == ("NV17", 17)
    gpus = [links.describe(uuid) | {"host": "a", "rank": rank} for rank, uuid in enumerate((one, other))]
    assert expected.line_rate_of_pair(gpus[0], gpus[1], "NV17", 17) == {
        "kind": "NVLink", "gb_per_s": 425.0, "reason": ""
    }  # fmt: skip


def test_direct_links_are_counted_by_their_other_end() -> None:
    nvml = Links(FakeGpu(0, links=4), FakeGpu(1, links=4))
    nvml.gpus[0].remote, nvml.gpus[1].remote = nvml.gpus[1].bus_id, nvml.gpus[0].bus_id
    links = NvmlLinks(nvml)
    assert links.path(*uuids(nvml)) == ("NV4", 4)
    assert links.describe(uuids(nvml)[0])["nvlink"]["peers"] == {nvml.gpus[1].bus_id: 4}


def test_the_counters_are_bytes() -> None:
    nvml = Links(FakeGpu(0, nvlink_kib=[3, 5]))
    assert NvmlLinks(nvml).traffic(uuids(nvml)[0]) == (3 * 1024, 5 * 1024)
    nvml.gpus[0].nvlink_kib = [0xFFFFFFFFFFFFFFFF, 0]
    with pytest.raises(LinkFault, match="the driver has no value"):
        NvmlLinks(nvml).traffic(uuids(nvml)[0])


def test_the_nvlink_domain_of_several_nodes_is_read() -> None:
    nvml = Links(FakeGpu(0))
    nvml.fabric_state = 3
    found = NvmlLinks(nvml).describe(uuids(nvml)[0])["fabric"]
    assert found == {"cluster_uuid": "ab" + 30 * "0", "clique_id": 7}


def test_what_the_driver_does_not_tell_is_none() -> None:
    nvml = Links(FakeGpu(0), FakeGpu(1))
    nvml.fail = {("nvmlDeviceGetNvLinkVersion", None): 3, ("nvmlDeviceGetMaxPcieLinkGeneration", None): 3}
    nvml.speed_mb_per_s = 12345
    found = NvmlLinks(nvml).describe(uuids(nvml)[0])
    assert (found["nvlink"]["generation"], found["nvlink"]["link_gb_per_s"]) == (None, None)
    assert found["pcie"]["gb_per_s"] is None
    with pytest.raises(LinkFault):
        NvmlLinks(nvml).describe("GPU-other")


@pytest.mark.parametrize(
    ("by_version", "reported", "rate"),
    [
        (25.0, 26.562, 25.0),
        (25.0, 53.125, 50.0),  # a version that an older driver numbers otherwise
        (None, 53.125, 50.0),
        (25.0, 13.0, 25.0),  # trained at half its rate: expected is what it should have
        (25.0, None, 25.0),
        (None, None, None),
    ],
)
def test_the_drivers_rate_decides_between_the_datasheets(
    by_version: float | None, reported: float | None, rate: float | None
) -> None:
    assert datasheet_rate(by_version, reported) == rate


def test_without_nvml_there_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_links(on_gpu=False) == NoLinks("these ranks are on CPUs")
    monkeypatch.setitem(sys.modules, "pynvml", None)
    found = open_links(on_gpu=True)
    assert isinstance(found, NoLinks) and "nvidia-ml-py is missing" in found.reason
