"""Answers of dcgm-exporters, of old and new versions."""

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from llmval_tui.telemetry.dcgm.exporters import Exporters, fetcher
from llmval_tui.telemetry.dcgm.exposition import _LABEL, _LINE, _rows, read_dcgm

# A part of the answer of version 4.x, and the same GPU as older versions wrote it.
NEW = """\
# HELP DCGM_FI_DEV_SM_CLOCK SM clock frequency (in MHz).
# TYPE DCGM_FI_DEV_SM_CLOCK gauge
DCGM_FI_DEV_SM_CLOCK{gpu="0",UUID="GPU-8b",pci_bus_id="00000000:8D:00.0",modelName="NVIDIA H100",hostname="node-a",DCGM_FI_DRIVER_VERSION="580.126.20"} 1980
DCGM_FI_DEV_MEMORY_TEMP{gpu="0", UUID="GPU-8b"} 9223372036854775794
# TYPE DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION counter
DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{gpu="0",UUID="GPU-8b",hostname="node-a"} 123456789
DCGM_FI_DEV_POWER_USAGE{gpu="0",UUID="GPU-8b",hostname="node-a"} 401.25
DCGM_FI_DEV_GPU_UTIL{gpu="0",UUID="GPU-8b",hostname="node-a"} 97
DCGM_FI_PROF_SM_ACTIVE{gpu="0",UUID="GPU-8b",hostname="node-a"} 0.82
DCGM_FI_PROF_NVLINK_TX_BYTES{gpu="0",gpu_uuid="GPU-8b",nvlink="0"} 3000000000
DCGM_FI_PROF_NVLINK_TX_BYTES{gpu="0",gpu_uuid="GPU-8b",nvlink="1"} 2000000000
DCGM_FI_DEV_FB_USED{gpu="0",UUID="GPU-8b",hostname="node-a"} 1024
DCGM_FI_DEV_FB_FREE{gpu="0",UUID="GPU-8b",hostname="node-a"} 2048
DCGM_FI_DEV_XID_ERRORS{gpu="0",UUID="GPU-8b",hostname="node-a",err_code="0",err_msg="No Error"} 0
"""  # noqa: E501
OLD = NEW.replace("hostname=", "Hostname=")


def gpu(text=NEW, node="asked"):
    (reading,) = read_dcgm(text, node, 7).values()
    return reading.gpus[0], reading


@pytest.mark.parametrize("text", [NEW, OLD])
def test_values_have_llmvals_units_and_the_node_its_name(text):
    assert list(read_dcgm(text, "asked")) == ["node-a"]
    one, reading = gpu(text)
    assert (one.index, one.uuid, one.name, reading.driver) == (0, "GPU-8b", "NVIDIA H100", "580.126.20")
    assert (one.sm_clock_mhz, one.power_w, one.energy_j, one.energy_mono_ns) == (1980, 401.25, 123456.789, 7)
    assert (one.sm_util_percent, one.sm_util_source) == (pytest.approx(82), "gpm")
    assert one.nvlink_tx_gb_per_s == pytest.approx(5)
    assert (one.memory_used_bytes, one.memory_total_bytes) == (1 << 30, 3 << 30)
    assert one.xid is None


def test_without_a_host_name_the_node_is_the_one_that_was_asked():
    assert list(read_dcgm(NEW.replace('hostname="node-a"', 'x="y"'), "asked")) == ["asked"]


def test_without_the_share_of_sms_the_share_of_time_is_shown():
    one, reading = gpu(NEW.replace("DCGM_FI_PROF_SM_ACTIVE", "DCGM_FI_PROF_OTHER"))
    assert (one.sm_util_percent, one.sm_util_source) == (97, "nvml")
    assert any("SM_ACTIVE" in note.message for note in reading.notes)


@pytest.mark.parametrize(
    "blank", ["9223372036854775794", "9.223372036854775794e+18", "140737488355328", "2147483632", "NaN", "+Inf"]
)
def test_a_blank_is_not_known(blank):
    one, _ = gpu(NEW.replace(" 401.25", f" {blank}"))
    assert one.power_w is None


def test_what_is_absent_is_null_with_a_reason():
    one, reading = gpu()
    assert one.throttle_reasons is None and one.dram_util_percent is None and one.foreign_processes is None
    text = " ".join(note.message for note in reading.notes)
    assert "CLOCKS_EVENT_REASONS" in text and "profiling needs root" in text and "foreign ones are not seen" in text


def test_throttle_reasons_and_an_old_xid():
    more = 'DCGM_FI_DEV_CLOCK_THROTTLE_REASONS{gpu="0",UUID="GPU-8b",hostname="node-a"} 132\n'
    one, reading = gpu(NEW.replace('err_msg="No Error"} 0', 'err_msg="x"} 79') + more)
    assert one.throttle_reasons == ["sw_power_cap", "hw_power_brake"] and one.xid == 79
    assert "last_xid" in [note.code for note in reading.notes]


def test_mig_instances_are_added_up_where_that_means_something():
    rows = ""
    for instance, used, active in (("1", 100, 0.5), ("2", 300, 0.9)):
        labels = f'gpu="0",UUID="GPU-8b",GPU_I_PROFILE="3g.40gb",GPU_I_ID="{instance}",Hostname="m"'
        rows += f"DCGM_FI_DEV_FB_USED{{{labels}}} {used}\nDCGM_FI_DEV_POWER_USAGE{{{labels}}} 200\n"
        rows += f"DCGM_FI_PROF_SM_ACTIVE{{{labels}}} {active}\n"
    one, reading = gpu(rows)
    assert one.memory_used_bytes == 400 << 20 and one.power_w == 200 and one.sm_util_percent is None
    assert "mig" in [note.code for note in reading.notes]


def test_the_eight_gpus_of_a_node_keep_their_order():
    text = "".join(NEW.replace('gpu="0"', f'gpu="{at}"').replace("GPU-8b", f"GPU-{at}") for at in range(7, -1, -1))
    (reading,) = read_dcgm(text, "x").values()
    assert [one.index for one in reading.gpus] == list(range(8))


def test_a_gpu_that_pods_share_is_counted_once():
    shared = NEW + NEW.replace('gpu="0"', 'gpu="0",pod="b"')
    assert gpu(shared)[0] == gpu()[0]


def test_rows_of_two_hosts_stay_apart_also_if_one_was_asked():
    text = NEW.replace("gpu_uuid=", 'hostname="node-a",gpu_uuid=')
    found = read_dcgm(text + text.replace("node-a", "node-b").replace("GPU-8b", "GPU-9"), "node-a")
    assert {host: [one.uuid for one in reading.gpus] for host, reading in found.items()} == {
        "node-a": ["GPU-8b"], "node-b": ["GPU-9"],
    }  # fmt: skip


@pytest.mark.parametrize("value", ["4294967.295", "-1", "1e18"])
def test_what_no_gpu_has_is_not_known(value):
    one, reading = gpu(NEW.replace(" 401.25", f" {value}"))
    assert one.power_w is None and one.sm_clock_mhz == 1980
    assert [note.code for note in reading.notes].count("implausible") == 1


def test_a_time_may_have_a_fraction_and_a_number_may_not_be_a_word():
    assert gpu(NEW.replace(" 401.25", " 401.25 1700000000.123"))[0].power_w == 401.25
    with pytest.raises(ValueError, match=r"POWER_USAGE.*has no number"):
        gpu(NEW.replace(" 401.25", " none"))


@pytest.mark.parametrize("text", ["", "<html>no</html>", "# HELP up x\nup 1\n", 'DCGM_FI_DEV_GPU_UTIL{gpu="0"} x y\n'])
def test_an_answer_that_is_not_of_an_exporter_is_refused(text):
    with pytest.raises(ValueError):
        read_dcgm(text, "x")


def test_lines_are_read_as_by_the_library():
    from prometheus_client.parser import text_string_to_metric_families

    odd = 'DCGM_FI_DEV_POWER_USAGE{gpu="1",UUID="GPU-9",modelName="a \\"b\\" \\\\ c\\n,}d"} 1.5e2 1700000000000\n'
    text = "\n".join(line for line in (NEW + odd).splitlines() if not line.startswith("#")) + "\n"
    families = text_string_to_metric_families(text)
    theirs = {(s.name, tuple(sorted(s.labels.items()))): s.value for f in families for s in f.samples}
    mine = {(name, tuple(sorted(row.labels.items()))): row.value for name, row in _rows(text)}
    assert mine.items() <= theirs.items() and len(mine) == len(theirs) - 1  # the memory's temperature is not wanted
    assert _LINE and _LABEL


class _Answers(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path != "/metrics":
            self.send_error(404)
            return
        self.send_response(200)
        self.end_headers()
        self.wfile.write(NEW.encode())

    def log_message(self, *_):
        pass


@pytest.fixture
def port():
    server = HTTPServer(("127.0.0.1", 0), _Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


def test_an_exporter_is_asked_over_http(port):
    exporters = Exporters(["127.0.0.1"], f"http://{{node}}:{port}/metrics")
    exporters.ask_all()
    found = exporters.newest()["127.0.0.1"]
    assert found.problem is None and found.reading.gpus[0].power_w == 401.25 and found.arrived_s is not None
    other = Exporters(["127.0.0.1"], f"http://{{node}}:{port}/other")
    other.ask_all()
    assert other.newest()["127.0.0.1"].problem == "its exporter answers 404"


def test_a_node_that_stops_answering_keeps_its_last_values():
    texts = iter([NEW, OSError("no route to host")])

    def fetch(node):
        if isinstance(found := next(texts), OSError):
            raise found
        return found

    exporters = Exporters(["n1"], "", fetch=fetch)
    exporters.ask_all()
    before = exporters.newest()["n1"]
    exporters.ask_all()
    after = exporters.newest()["n1"]
    assert after.reading is before.reading and after.arrived_s == before.arrived_s
    assert "no route to host" in after.problem


def test_a_local_address_is_asked_on_the_node_by_ssh(tmp_path):
    script = tmp_path / "ssh"
    script.write_text(f"#!/bin/sh\necho \"$@\" > {tmp_path}/asked\ncat <<'E'\n{NEW}E\n")
    script.chmod(0o755)
    fetch = fetcher("http://localhost:9400/metrics", ssh=[str(script)])
    assert read_dcgm(fetch("n7"), "n7")["node-a"].gpus
    asked = (tmp_path / "asked").read_text()
    assert asked.startswith("-- n7 curl") and asked.endswith("http://localhost:9400/metrics\n")
    script.write_text("#!/bin/sh\necho 'Host key verification failed.' >&2\nexit 255\n")
    exporters = Exporters(["n7"], "", fetch=fetch)
    exporters.ask_all()
    assert "Host key verification failed" in exporters.newest()["n7"].problem


@pytest.mark.parametrize("address", ["node:9400", "http://exporter:9400/metrics", "ftp://{node}/x"])
def test_an_address_that_cannot_be_meant_is_refused(address):
    with pytest.raises(ValueError):
        fetcher(address)
