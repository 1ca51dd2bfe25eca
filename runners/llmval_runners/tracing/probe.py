"""Prints the GPUs and versions of this node as JSON. Run it as its own process: CUDA holds GPU memory until exit."""

import json
from typing import Any

import torch
from llmval_runners.engine import fp8


def probe() -> dict[str, Any]:
    """GPUs, versions, and whether Transformer Engine loads: an installed one may not match torch and CUDA."""
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    version, problem = None, None
    if gpus:
        try:
            version = fp8.load_transformer_engine("a trace with --fp8-mode auto").version
        except Exception as error:  # noqa: BLE001  (a broken installation may raise anything; it is reported)
            cause = error.__cause__ or error  # a refusal says what to do, and only its cause matters here
            problem = f"{type(cause).__name__}: {cause}".splitlines()[0][:200]
    return {
        "gpus": gpus,
        "fp8": gpus > 0 and torch.cuda.get_device_capability() >= fp8.CAPABILITY,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "transformer_engine": version,
        "transformer_engine_problem": problem,
    }


if __name__ == "__main__":
    print(json.dumps(probe()))
