"""Which cuDNN a process uses, where the system has one and torch brings its own."""

import os
from pathlib import Path

VARIABLES = ("CUDNN_HOME", "CUDNN_PATH")  # where Transformer Engine 2.20 looks first (transformer_engine/common)


def name_torchs_cudnn() -> None:
    """Point Transformer Engine to the cuDNN that torch has loaded, unless the environment already names one.

    Left alone it takes the system's, and two versions of cuDNN's parts in one process do not find each other's symbols.
    """
    if any(os.environ.get(name) for name in VARIABLES):
        return
    for line in Path("/proc/self/maps").read_text().splitlines():
        path = line.partition("/")
        if path[1] and Path(path[2]).name.startswith("libcudnn.so"):
            os.environ[VARIABLES[0]] = str(Path("/" + path[2]).parent)
            return
