"""One cuDNN a process, where the system has another one than torch brings."""

import ctypes
import os
from pathlib import Path

VARIABLES = ("CUDNN_HOME", "CUDNN_PATH")  # where Transformer Engine 2.20 looks first (transformer_engine/common)
MAPS = Path("/proc/self/maps")


def load_torchs_cudnn() -> Path | None:
    """Load all parts of the cuDNN that torch has loaded, for Transformer Engine to use the same; the folder of it.

    Transformer Engine's library names every part of cuDNN, which the loader takes from the system unless it has been
    loaded under that name already. Parts of two versions do not find each other's symbols, or worse, do. Nothing is
    done where the environment names a cuDNN, or torch has none.

    Raises:
        OSError: a part does not load.
    """
    if any(os.environ.get(name) for name in VARIABLES):
        return None
    for line in MAPS.read_text().splitlines():
        path = Path("/" + line.partition("/")[2])
        if path.name.startswith("libcudnn.so"):
            for part in sorted(path.parent.glob("libcudnn*.so.[0-9]*")):
                ctypes.CDLL(str(part), mode=ctypes.RTLD_GLOBAL)
            os.environ[VARIABLES[0]] = str(path.parent)
            return path.parent
    return None
