"""One rank: load, eager steps, compile, compiled steps.

Its figures are written after each, so that a kill keeps the rest.
"""

import argparse
import importlib
import math
import os
import statistics
import sys
import time
import traceback
from datetime import timedelta
from typing import Any

from llmval_runners.compile_study.bundle.layout import Layout
from llmval_runners.compile_study.watch.heartbeat import Heartbeat
from llmval_runners.process.events import EventLog
from llmval_runners.process.files import write_json


def prepare_environment(layout: Layout, rank: int, cache: str) -> None:
    """Before torch is imported: traces and caches where they belong. What else the operator has set stays."""
    layout.trace(rank).mkdir(parents=True, exist_ok=True)
    os.environ["TORCH_TRACE"] = str(layout.trace(rank))
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache
    # Inductor's Triton cache lies in `cache` too, unless this is set: a warm one would make the compile look fast.
    os.environ.pop("TRITON_CACHE_DIR", None)
    defaults = {
        "TORCH_FR_BUFFER_SIZE": "2000",
        "TORCH_NCCL_DUMP_ON_TIMEOUT": "1",
        "TORCH_NCCL_DEBUG_INFO_TEMP_FILE": str(layout.flight / "nccl_rank"),
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    if os.environ.get("LOCAL_WORLD_SIZE") == os.environ.get("WORLD_SIZE"):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # one node: its name need not resolve


def run(options: argparse.Namespace, layout: Layout, cache: str) -> int:
    """The exit code of this rank; on CUDA it does not return."""
    rank, size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    prepare_environment(layout, rank, cache)
    heart = Heartbeat(layout, rank).start()
    events = EventLog(rank, path=os.environ.get("LLMVAL_EVENTS") or os.devnull).start()
    try:
        study = _Study(options, layout, heart, events, rank, size)
        study.run()
    except Exception as error:  # noqa: BLE001  (the one place that turns any failure into a record and an exit code)
        traceback.print_exc()
        events.error(type(error).__name__, f"rank {rank}: {error}")
        write_json(
            layout.watch / f"rank{rank}.error.json",
            {
                "rank": rank,
                "phase": heart.phase,
                "type": type(error).__name__,
                "message": str(error)[:4000],
                "t_ns": time.time_ns(),
            },
            indent=1,
        )
        heart.close("failed")
        sys.stderr.flush()
        os._exit(1)  # not sys.exit: interpreter shutdown may wait for collectives of a rank that is gone
    heart.close("done")
    events.close()
    if study.device.type == "cuda":
        # Not by return: a process that ends in the ordinary way destroys NCCL's communicator too; see `_leave`.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
    return 0


class _Study:
    def __init__(
        self, options: argparse.Namespace, layout: Layout, heart: Heartbeat, events: EventLog, rank: int, size: int
    ) -> None:
        self.options, self.layout, self.heart, self.events = options, layout, heart, events
        self.rank, self.size = rank, size
        self.figures: dict[str, Any] = {"rank": rank, "phases": {}}

    def run(self) -> None:
        options = self.options
        self._phase("import torch")
        import torch
        from llmval_runners.compile_study.run import figures, inject
        from llmval_runners.compile_study.run.compiling import first_call
        from llmval_runners.compile_study.run.model import make_model, tokens_for

        torch.set_grad_enabled(False)
        self.device = (
            torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
            if options.device == "cuda"
            else torch.device("cpu")
        )
        self._phase("join")
        self._join(torch)
        injected = options.inject_hang if self.rank == options.inject_rank else None
        self._phase("load")
        if injected == "blocked_read":
            inject.blocked_read(self.layout)
        model = make_model(options, self.device, self.rank, self.size)
        tokens = tokens_for(options, model, self.device)
        if injected:
            inject.install(injected, self, model)

        def step() -> Any:
            torch.compiler.cudagraph_mark_step_begin()
            out = model(tokens)
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            return out

        eager = None
        if not options.skip_eager:
            figures.reset_peak(self.device)
            self._phase("eager warm-up")
            first, eager = self._timed(step)
            times, eager = self._steps("eager", step)
            self._record("eager", first_call_s=first, step_s=times, peak_memory=figures.peak_memory(self.device))
            eager = eager.clone()
        if not options.skip_compile:
            import_s = self._import_compiler()
            figures.reset_figures()
            figures.reset_peak(self.device)
            self._barrier(torch, "barrier before compile")
            self._phase("compile")
            out, first, ran = first_call(model, options.compile_mode, self._backend(), step)
            after_first = figures.compile_figures()
            self._phase("compiled warm-up")
            for _ in range(2):  # CUDA graphs are recorded at the second and third call
                step()
            self._barrier(torch, "barrier after compile")
            times, out = self._steps("compiled", step)
            self._record(
                "compiled",
                first_call_s=first,
                compile_s=max(0.0, first - statistics.median(times)),
                import_s=import_s,
                step_s=times,
                **ran,
                peak_memory=figures.peak_memory(self.device),
                at_first_call=after_first,
                at_end=figures.compile_figures(),
                difference=_difference(eager, out),
            )
        self._barrier(torch, "last barrier")
        self._phase("report")
        self._leave(torch)

    def _import_compiler(self) -> float:
        """Seconds to import Dynamo and Inductor: once a process, whatever is compiled, so in no compile time."""
        self._phase("import compiler")
        began = time.monotonic()
        importlib.import_module("torch._dynamo")
        if self._backend() == "inductor":
            importlib.import_module("torch._inductor.compile_fx")
        return time.monotonic() - began

    def _backend(self) -> str:
        """The one asked for. Where a hang is made on another rank, this one only has to wait, and skips Inductor."""
        others = self.options.inject_hang and self.rank != self.options.inject_rank
        return "aot_eager" if others and self.options.backend == "inductor" else self.options.backend

    def _join(self, torch: Any) -> None:
        if self.size == 1:
            return
        # Far longer than the run may take: a collective that gives up would destroy the evidence.
        timeout = timedelta(seconds=2 * self.options.timeout + 600)
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)
            torch.distributed.init_process_group("nccl", timeout=timeout, device_id=self.device)
        else:
            torch.distributed.init_process_group("gloo", timeout=timeout)

    def _leave(self, torch: Any) -> None:
        """NCCL's communicator is left to the end of the process, which `run` brings about by `os._exit`.

        To destroy it, NCCL waits until no CUDA graph holds one of its calls (pytorch#115388), and those of a compiled
        model live as long as it does: a hang of this runner's own making, in the very modes that are studied.
        """
        if self.size > 1 and self.device.type != "cuda":
            torch.distributed.destroy_process_group()

    def _steps(self, phase: str, step: Any) -> tuple[list[float], Any]:
        self._phase(phase)
        times, out = [], None
        for index in range(self.options.steps):
            self.heart.step = index + 1
            self.events.progress(index, self.options.steps, "steps", phase)
            seconds, out = self._timed(step)
            times.append(seconds)
        return times, out

    def _timed(self, step: Any) -> tuple[float, Any]:
        began = time.monotonic()
        out = step()
        return time.monotonic() - began, out

    def _barrier(self, torch: Any, name: str) -> None:
        self._phase(name, "barrier")
        if self.size > 1:
            torch.distributed.barrier(device_ids=[self.device.index] if self.device.type == "cuda" else None)

    def _phase(self, name: str, operation: str = "") -> None:
        self.heart.enter(name, operation)
        self.events.phase_name = name
        if not operation:
            self.events.phase(name)
        print(f"{time.strftime('%H:%M:%S')} rank {self.rank}: {name}", flush=True)

    def _record(self, name: str, **values: Any) -> None:
        self.figures["phases"][name] = values
        write_json(self.layout.figures(self.rank), self.figures, indent=1)


def _difference(eager: Any, compiled: Any) -> dict[str, Any] | None:
    """Of this rank's logits: largest difference, that over the largest logit, how often the best token is the same.

    Of logits that are not finite there are no such figures, and that they are not is what was found.
    """
    if eager is None:
        return None
    finite = {"finite": bool(compiled.isfinite().all()), "eager_finite": bool(eager.isfinite().all())}
    if not all(finite.values()):
        return {"max_abs": None, "max_relative": None, "same_best_token": None, **finite}
    largest = (eager - compiled).abs().max().item()
    if not math.isfinite(largest):  # of two large logits in half precision
        largest = (eager.double() - compiled.double()).abs().max().item()
    return {
        "max_abs": largest,
        "max_relative": largest / max(float(eager.abs().max()), 1e-30),
        "same_best_token": float((eager.argmax(-1) == compiled.argmax(-1)).float().mean()),
        **finite,
    }
