"""Every part of torch's cuDNN is loaded before Transformer Engine can ask the system for its own."""

import ctypes

import pytest
from llmval_runners.engine import cudnn_place


@pytest.fixture
def process(tmp_path, monkeypatch):
    """A process that has torch's cuDNN mapped; what it loads beside."""
    for name in cudnn_place.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(cudnn_place.VARIABLES[0], "")  # so that it is taken away again
    for name in ("libcudnn.so.9", "libcudnn_graph.so.9", "libcudnn_cnn.so.9", "libcublas.so.13"):
        (tmp_path / name).touch()
    maps = tmp_path / "maps"
    maps.write_text(f"7f00-7f01 r-xp 0 08:01 1  /lib/libc.so.6\n7f02-7f03 r-xp 0 08:01 2  {tmp_path}/libcudnn.so.9\n")
    loaded = []
    monkeypatch.setattr(cudnn_place, "MAPS", maps)
    monkeypatch.setattr(ctypes, "CDLL", lambda path, mode: loaded.append((path, mode)))
    return loaded


def test_all_parts_are_loaded_for_all_and_the_folder_is_named(process, tmp_path):
    assert cudnn_place.load_torchs_cudnn() == tmp_path
    parts = ("libcudnn.so.9", "libcudnn_cnn.so.9", "libcudnn_graph.so.9")
    assert process == [(str(tmp_path / name), ctypes.RTLD_GLOBAL) for name in parts]
    assert cudnn_place.os.environ["CUDNN_HOME"] == str(tmp_path)


def test_a_cudnn_that_the_environment_names_is_left_alone(process, monkeypatch):
    monkeypatch.setenv("CUDNN_PATH", "/opt/cudnn")
    assert cudnn_place.load_torchs_cudnn() is None and not process


def test_without_a_cudnn_nothing_is_done(process):
    cudnn_place.MAPS.write_text("7f00-7f01 r-xp 0 08:01 1  /lib/libc.so.6\n")
    assert cudnn_place.load_torchs_cudnn() is None and not process
