"""Before anything starts: whether it can run here at all, the folder, and `run.json` with all that was asked."""

import argparse
import os
import platform
import shlex
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from llmval_runners.compile_study.bundle import finish, redact
from llmval_runners.compile_study.bundle.layout import Layout
from llmval_runners.engine.shapes import CPU_PARAMETERS, SHAPES, ModelShape
from llmval_runners.process.errors import Refused
from llmval_runners.process.files import replace_bytes, write_json

DEFAULT_MODEL = "llama40b"
STANDALONE = "repro.py"
_PARTIAL = """This bundle is partial: its study has not come to its end, or what writes the end was killed.

Each file here is whole. run.json says what was asked; watch/ how far each rank came; logs/ what they said;
verdict.json, evidence.stall*.json and stacks/, where they are there, what was seen of a stall. Once nothing of the
study runs any more, `torch_compile_repro.py --repack FOLDER` makes a result and an archive of it.
"""
_STANDALONE = (
    "batch_size",
    "sequence_length",
    "steps",
    "seed",
    "compile_mode",
    "backend",
    "skip_compile",
    "device",
    "stall_after",
)


def resolve(options: argparse.Namespace) -> tuple[ModelShape, dict[str, Any]]:
    """Fill in what `auto` stands for, refuse what cannot run here; the shape, and the workload as the result states it.

    Raises:
        Refused: unknown model, no device for it, ranks that do not divide it, too long, or no compiler.
    """
    import torch
    from llmval_runners.compile_study.run.model import dtype_for

    if options.checkpoint is None and options.model is None:
        options.model = DEFAULT_MODEL
    if options.checkpoint is None and options.model not in SHAPES:
        raise Refused(
            f"there is no model shape called {options.model!r}: pass --model {', '.join(SHAPES)}, or --checkpoint DIR."
        )
    from llmval_runners.compile_study.run.model import shape_of

    shape, ranks = shape_of(options), options.tensor_parallel_gpus
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if options.device == "cuda" and not there:
        raise Refused(
            "--device cuda was asked for, and torch finds no CUDA device here: pass --device cpu, or repair the "
            "driver (nvidia-smi)."
        )
    if options.device == "auto":
        options.device = "cuda" if there else "cpu"
    dtype = dtype_for(torch.device(options.device))
    if options.device == "cpu" and shape.parameters > CPU_PARAMETERS:
        raise Refused(
            f"{shape.name} has {shape.parameters / 1e9:.1f} B parameters, {shape.parameters * 4:,} bytes in "
            f"float32, and this run is on a CPU: "
            "run it on the GPU node, or pass --model tiny to try the study here."
        )
    if options.device == "cuda" and ranks > there:
        raise Refused(
            f"--tensor-parallel-gpus {ranks} needs {ranks} GPUs, and this machine has {there}: pass "
            f"--tensor-parallel-gpus {there} or fewer."
        )
    try:
        shape.check_tensor_parallel(ranks)
    except Refused as refusal:
        raise Refused(str(refusal).replace("--nproc_per_node", "--tensor-parallel-gpus")) from None
    if options.sequence_length > shape.max_positions:
        raise Refused(
            f"--sequence-length {options.sequence_length} is longer than the {shape.max_positions} positions of "
            f"{shape.name}: pass at most that."
        )
    if options.device == "cuda":
        # The device's size, not what is free of it: asking for that opens a CUDA context on each GPU.
        need = shape.parameters * dtype.itemsize // ranks
        size = min(torch.cuda.get_device_properties(index).total_memory for index in range(ranks))
        if need > size:
            raise Refused(
                f"the weights of {shape.name} need {need:,} bytes on each of {ranks} GPUs, which have {size:,}: "
                f"use more GPUs."
            )
    if not options.skip_compile and options.backend == "inductor" and options.device == "cpu" and compiler() is None:
        raise Refused(
            "Inductor needs a C++ compiler on a CPU, and there is no g++ or clang++ here: install one, or pass "
            "--backend aot_eager."
        )
    workload = {
        "model": shape.name,
        "parameters": shape.parameters,
        "weights": str(options.checkpoint) if options.checkpoint else f"random, seed {options.seed}",
        "dtype": str(dtype).removeprefix("torch."),
        "device": options.device,
        "device_name": torch.cuda.get_device_name(0)
        if options.device == "cuda"
        else platform.processor() or platform.machine(),
        "sequence_length": options.sequence_length,
        "batch_size": options.batch_size,
        "tensor_parallel_gpus": ranks,
        "steps": options.steps,
    }
    return shape, workload


def prepare(options: argparse.Namespace, argv: list[str]) -> Layout:
    """The folder with `run.json`, standalone script and commands; an earlier study is moved aside, never mixed in."""
    import torch

    shape, workload = resolve(options)
    layout = Layout(options.output_dir.absolute())
    notes = _make_room(layout)
    layout.make()
    replace_bytes(layout.partial, _PARTIAL.encode())
    cache = str(options.cache_dir.absolute()) if options.cache_dir else tempfile.mkdtemp(prefix="llmval-compile-cache-")
    standalone = f"torchrun --nproc_per_node={options.tensor_parallel_gpus} {STANDALONE}"
    environment = redact.allowed(os.environ)
    run = {
        "v": 1,
        "started_utc": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "started_mono_s": time.monotonic(),
        "boot_id": finish.boot_id(),
        "command": shlex.join([Path(sys.executable).name, *argv]),
        "standalone_command": standalone,
        "ranks": options.tensor_parallel_gpus,
        "options": {name: str(value) if isinstance(value, Path) else value for name, value in vars(options).items()},
        "workload": workload,
        "cache_dir": cache,
        "keep_cache": options.cache_dir is not None,
        "environment": environment,
        "versions": {
            "torch": torch.__version__,
            "cuda": torch.version.cuda,
            "nccl": ".".join(map(str, torch.cuda.nccl.version())) if options.device == "cuda" else None,
            "python": platform.python_version(),
            "platform": platform.platform(),
            "compiler": compiler(),
        },
        "notes": notes,
    }
    replace_bytes(layout.root / STANDALONE, _standalone(options, shape).encode())
    replace_bytes(
        layout.root / "commands.txt",
        f"# this study\n{run['command']}\n\n# the standalone script, in an empty folder\n{standalone}\n".encode(),
    )
    write_json(layout.run, run, indent=1)
    return layout


def _standalone(options: argparse.Namespace, shape: ModelShape) -> str:
    from llmval_runners.compile_study.run.standalone import script

    settings = {
        "dimensions": {
            "layers": shape.layers,
            "hidden": shape.hidden,
            "heads": shape.heads,
            "kv_heads": shape.kv_heads,
            "head_dim": shape.head_dim,
            "ffn": shape.ffn,
            "vocab": shape.vocab,
            "ranks": options.tensor_parallel_gpus,
            "norm_eps": shape.norm_eps,
        },
        **{name: getattr(options, name) for name in _STANDALONE},
    }
    return script(settings, f"{shape.name}, {options.backend}, mode {options.compile_mode}")


def _make_room(layout: Layout) -> list[str]:
    """Move an earlier study in the folder aside; refuse a folder that holds something else."""
    root = layout.root
    if root.exists() and not root.is_dir():
        raise Refused(f"{root} is a file: name a folder for --output-dir.")
    if not root.is_dir() or not any(root.iterdir()):
        return []
    if not layout.run.is_file():
        raise Refused(f"{root} is not empty and holds no earlier study: name another --output-dir.")
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(layout.run.stat().st_mtime))
    aside = root.with_name(f"{root.name}.earlier-{stamp}")
    if aside.exists():
        raise Refused(f"{root} holds an earlier study, and {aside} is there already: name another --output-dir.")
    root.rename(aside)
    return [f"an earlier study in this folder was moved to {aside.name}"]


def compiler() -> str | None:
    """The C++ compiler that Inductor would use on a CPU."""
    wanted = os.environ.get("CXX")
    return next((found for name in (wanted, "g++", "clang++") if name and (found := shutil.which(name))), None)
