"""Before a study starts: checks that it can run here, makes the folder, and writes `run.json` with all settings."""

import os
import platform
import shlex
import shutil
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from llmval_runners.compile_study.bundle import finish, redact
from llmval_runners.compile_study.bundle.layout import Layout
from llmval_runners.compile_study.options import StudyOptions
from llmval_runners.engine.shapes import CPU_PARAMETERS, SHAPES, ModelShape, weight_bytes_on
from llmval_runners.process.errors import Refused
from llmval_runners.process.files import make_folder, replace_bytes, write_json

DEFAULT_MODEL = "llama40b"
STANDALONE = "repro.py"
_PARTIAL = """This bundle is partial: its study has not ended, or the process that completes the bundle was killed.

Each file here is complete. run.json holds the settings; watch/ how far each rank came; logs/ the output of the ranks;
verdict.json, evidence.stall*.json and stacks/, if they exist, the evidence of a stall. When no process of the study
runs any more, `torch_compile_repro.py --repack FOLDER` makes a result and an archive from it.
"""
_STANDALONE_SETTINGS = (
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


def resolve(options: StudyOptions) -> tuple[StudyOptions, ModelShape]:
    """The options with the model and device decided, and the model's shape.

    Raises:
        Refused: unknown model, missing device or compiler, a shape that the ranks do not divide, or too little memory.
    """
    import torch
    from llmval_runners.compile_study.run.model import dtype_for, shape_of

    if options.checkpoint is None and options.model is None:
        options = replace(options, model=DEFAULT_MODEL)
    if options.checkpoint is None and options.model not in SHAPES:
        raise Refused(
            f"there is no model shape called {options.model!r}: pass --model {', '.join(SHAPES)}, or --checkpoint DIR."
        )
    shape, ranks = shape_of(options), options.tensor_parallel_gpus
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if options.device == "cuda" and not gpus:
        raise Refused(
            "--device cuda was asked for, and torch finds no CUDA device here: pass --device cpu, or repair the "
            "driver (nvidia-smi)."
        )
    if options.device == "auto":
        options = replace(options, device="cuda" if gpus else "cpu")
    if options.device == "cpu" and shape.parameters > CPU_PARAMETERS:
        raise Refused(
            f"{shape.name} has {shape.parameters / 1e9:.1f} B parameters, {shape.parameters * 4:,} bytes in "
            f"float32, and this run is on a CPU: "
            "run it on the GPU node, or pass --model tiny to try the study here."
        )
    if options.device == "cuda" and ranks > gpus:
        raise Refused(
            f"--tensor-parallel-gpus {ranks} needs {ranks} GPUs, and this machine has {gpus}: pass "
            f"--tensor-parallel-gpus {gpus} or fewer."
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
    shape.check_context(options.sequence_length, "a shorter --sequence-length")
    if options.device == "cuda":
        # Compare with the device's total memory: reading its free memory would open a CUDA context on each GPU.
        element = dtype_for(torch.device(options.device)).itemsize
        needed = weight_bytes_on(shape, ranks, element, element)
        memory = min(torch.cuda.get_device_properties(index).total_memory for index in range(ranks))
        if needed > memory:
            raise Refused(
                f"the weights of {shape.name} need {needed:,} bytes on each of {ranks} GPUs, which have {memory:,}: "
                f"use more GPUs."
            )
    uses_inductor = not options.skip_compile and options.backend == "inductor"
    if uses_inductor and options.device == "cpu" and cxx_compiler() is None:
        raise Refused(
            "Inductor needs a C++ compiler on a CPU, and there is no g++ or clang++ here: install one, or pass "
            "--backend aot_eager."
        )
    return options, shape


def _workload_json(options: StudyOptions, shape: ModelShape) -> dict[str, Any]:
    """The workload as the result describes it."""
    import torch
    from llmval_runners.compile_study.run.model import dtype_for

    on_gpu = options.device == "cuda"
    return {
        "model": shape.name,
        "parameters": shape.parameters,
        "weights": str(options.checkpoint) if options.checkpoint else f"random, seed {options.seed}",
        "dtype": str(dtype_for(torch.device(options.device))).removeprefix("torch."),
        "device": options.device,
        "device_name": torch.cuda.get_device_name(0) if on_gpu else platform.processor() or platform.machine(),
        "sequence_length": options.sequence_length,
        "batch_size": options.batch_size,
        "tensor_parallel_gpus": options.tensor_parallel_gpus,
        "steps": options.steps,
    }


def prepare(options: StudyOptions, argv: list[str]) -> tuple[Layout, StudyOptions]:
    """Make the folder with `run.json`, the standalone script and the commands. Returns the resolved options too.

    An earlier study in the folder is moved aside, never mixed with this one. Raises Refused as `resolve` does.
    """
    import torch

    options, shape = resolve(options)
    assert options.output_dir is not None  # `options.parse` refuses a study without it
    layout = Layout(options.output_dir.absolute())
    make_folder(layout.root, only_check=True)
    notes = _move_earlier_study(layout)
    make_folder(layout.root)
    layout.make()
    replace_bytes(layout.partial, _PARTIAL.encode())
    cache = str(options.cache_dir.absolute()) if options.cache_dir else tempfile.mkdtemp(prefix="llmval-compile-cache-")
    standalone = f"torchrun --nproc_per_node={options.tensor_parallel_gpus} {STANDALONE}"
    nccl: tuple[int, ...] = torch.cuda.nccl.version() if options.device == "cuda" else ()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    run = {
        "v": 1,
        "started_utc": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "started_mono_s": time.monotonic(),
        "boot_id": finish.boot_id(),
        "command": shlex.join([Path(sys.executable).name, *argv]),
        "standalone_command": standalone,
        "ranks": options.tensor_parallel_gpus,
        "options": options.as_json(),
        "workload": _workload_json(options, shape),
        "cache_dir": cache,
        "keep_cache": options.cache_dir is not None,
        "environment": redact.allowed(os.environ),
        "versions": {
            "torch": torch.__version__,
            "cuda": torch.version.cuda,
            "nccl": ".".join(map(str, nccl)) or None,
            "python": platform.python_version(),
            "platform": platform.platform(),
            "compiler": cxx_compiler(),
        },
        "notes": notes,
    }
    replace_bytes(layout.root / STANDALONE, _standalone_script(options, shape).encode())
    replace_bytes(
        layout.root / "commands.txt",
        f"# this study\n{run['command']}\n\n# the standalone script, in an empty folder\n{standalone}\n".encode(),
    )
    write_json(layout.run, run, indent=1)
    return layout, options


def _standalone_script(options: StudyOptions, shape: ModelShape) -> str:
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
            "qkv_bias": shape.qkv_bias,
            "output_bias": shape.output_bias,
            "mlp_bias": shape.mlp_bias,
            "qk_norm": shape.qk_norm,
            "activation": shape.activation,
        },
        **{name: getattr(options, name) for name in _STANDALONE_SETTINGS},
    }
    return script(settings, f"{shape.name}, {options.backend}, mode {options.compile_mode}")


def _move_earlier_study(layout: Layout) -> list[str]:
    """Move an earlier study aside. Returns the notes for the result.

    Raises:
        Refused: the folder holds something else.
    """
    root = layout.root
    if not root.is_dir() or not any(root.iterdir()):
        return []
    if not layout.run.is_file():
        raise Refused(f"{root} is not empty and holds no earlier study: name another --output-dir.")
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(layout.run.stat().st_mtime))
    aside = root.with_name(f"{root.name}.earlier-{stamp}")
    if aside.exists():
        raise Refused(f"{root} holds an earlier study, and {aside} exists already: name another --output-dir.")
    root.rename(aside)
    return [f"an earlier study in this folder was moved to {aside.name}"]


def cxx_compiler() -> str | None:
    """The C++ compiler that Inductor would use on a CPU."""
    wanted = os.environ.get("CXX")
    return next((found for name in (wanted, "g++", "clang++") if name and (found := shutil.which(name))), None)
