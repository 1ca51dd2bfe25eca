"""The standalone script of the bundle: it reproduces the run from an empty folder and needs torch only.

Its middle is the text of `workload.py`.
"""

import pprint
from pathlib import Path
from typing import Any

from llmval_runners.compile_study.run import workload

_HEAD = '''"""Reproduction, standalone: {title}

    torchrun --nproc_per_node={ranks} repro.py

Needs torch alone. Uses random weights, and prints the seconds of each step, eager and compiled, until it hangs.
With TORCH_TRACE=DIR it writes traces for tlparse. TORCHINDUCTOR_FORCE_DISABLE_CACHES=1 makes each run a cold one.
"""

import faulthandler
import os
import sys
import time
from datetime import timedelta

SETTINGS = {settings}

'''

_TAIL = """

def main() -> None:
    s = SETTINGS
    faulthandler.enable()
    faulthandler.dump_traceback_later(s["stall_after"], repeat=True)  # shows again and again where it hangs
    rank, size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if size != s["dimensions"]["ranks"]:
        sys.exit(f"run it with: torchrun --nproc_per_node={s['dimensions']['ranks']} {sys.argv[0]}")
    torch.set_grad_enabled(False)
    device = torch.device("cpu")
    if s["device"] == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
        torch.cuda.set_device(device)
    if size > 1:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=timedelta(hours=6))
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    model = random_model(Dimensions(**s["dimensions"]), device, dtype, s["seed"], rank, world_group(size))
    generator = torch.Generator().manual_seed(s["seed"])
    shape = (s["batch_size"], s["sequence_length"])
    tokens = torch.randint(s["dimensions"]["vocab"], shape, generator=generator).to(device)

    def step(name):
        began = time.monotonic()
        torch.compiler.cudagraph_mark_step_begin()
        out = model(tokens)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        print(f"rank {rank}: {name} {time.monotonic() - began:.3f} s", flush=True)
        return out

    for index in range(s["steps"]):
        eager = step(f"eager step {index}").clone()
    if not s["skip_compile"]:
        if size > 1:
            dist.barrier()
        if s["compile_mode"] == "smart":
            for block in model.blocks:
                block.compile(fullgraph=True, dynamic=False, backend=s["backend"])
        elif s["backend"] == "inductor":
            model.compile(mode=s["compile_mode"])
        else:
            model.compile(backend=s["backend"])
        for index in range(s["steps"] + 1):
            compiled = step(f"compiled step {index}" + (" (compiles)" if index == 0 else ""))
        print(f"rank {rank}: largest difference {float((eager - compiled).abs().max()):.3e}", flush=True)
    if size > 1:
        dist.barrier()
    print(f"rank {rank}: done, it did not hang", flush=True)
    sys.stderr.flush()
    os._exit(0)  # destroying the process group can wait for CUDA graphs, or abort if another rank has ended


if __name__ == "__main__":
    main()
"""


def script(settings: dict[str, Any], title: str) -> str:
    """The text of the script. `settings`: plain values, as the script's `main` reads them."""
    text = Path(workload.__file__).read_text()
    _, _, body = text.partition('"""\n\n')  # without the docstring, which mentions this project's engine
    head = _HEAD.format(
        title=title,
        ranks=settings["dimensions"]["ranks"],
        settings=pprint.pformat(settings, width=110, sort_dicts=False),
    )
    return head + body.rstrip() + "\n" + _TAIL
