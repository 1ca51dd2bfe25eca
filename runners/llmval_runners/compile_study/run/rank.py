"""One rank: load, eager steps, compile, compiled steps. Figures are written after each part, so a kill keeps them."""

import importlib
import math
import os
import statistics
import sys
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from llmval_runners.compile_study.bundle.layout import Layout
from llmval_runners.compile_study.options import StudyOptions
from llmval_runners.compile_study.watch.heartbeat import Heartbeat
from llmval_runners.process.events import EventLog
from llmval_runners.process.files import write_json

if TYPE_CHECKING:
    import torch


def prepare_environment(layout: Layout, rank: int, cache: str) -> None:
    """Set the folders of traces and caches, before torch is imported. Other settings of the operator stay."""
    layout.trace(rank).mkdir(parents=True, exist_ok=True)
    os.environ["TORCH_TRACE"] = str(layout.trace(rank))
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache
    # Without this variable, Inductor's Triton cache is in `cache` too. A warm one would make the compile look fast.
    os.environ.pop("TRITON_CACHE_DIR", None)
    defaults = {
        "TORCH_FR_BUFFER_SIZE": "2000",
        "TORCH_NCCL_DUMP_ON_TIMEOUT": "1",
        "TORCH_NCCL_DEBUG_INFO_TEMP_FILE": str(layout.flight / "nccl_rank"),
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    if os.environ.get("LOCAL_WORLD_SIZE") == os.environ.get("WORLD_SIZE"):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # one node: its host name need not resolve


def run(options: StudyOptions, layout: Layout, cache: str) -> int:
    """The exit code of this rank. On CUDA, or after a failure, it ends the process and does not return."""
    rank, size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    prepare_environment(layout, rank, cache)
    heartbeat = Heartbeat(layout, rank).start()
    events = EventLog(rank, path=os.environ.get("LLMVAL_EVENTS") or os.devnull).start()
    try:
        work = RankRun(options, layout, heartbeat, events, rank, size)
        work.run()
    except Exception as error:  # noqa: BLE001  (any failure becomes a record and an exit code)
        traceback.print_exc()
        events.error(type(error).__name__, f"rank {rank}: {error}")
        write_json(
            layout.error(rank),
            {
                "rank": rank,
                "phase": heartbeat.phase,
                "type": type(error).__name__,
                "message": str(error)[:4000],
                "t_ns": time.time_ns(),
            },
            indent=1,
        )
        heartbeat.close("failed")
        sys.stderr.flush()
        os._exit(1)  # not sys.exit: interpreter shutdown may wait for collectives of a rank that is gone
    heartbeat.close("done")
    events.close()
    if work.device.type == "cuda":
        # Not by return: an ordinary exit destroys NCCL's communicator too; see `_destroy_group`.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
    return 0


class RankRun:
    """The work of one rank. `device` is set once torch is imported."""

    device: "torch.device"

    def __init__(
        self, options: StudyOptions, layout: Layout, heartbeat: Heartbeat, events: EventLog, rank: int, size: int
    ) -> None:
        self.options, self.layout, self.heartbeat, self.events = options, layout, heartbeat, events
        self.rank, self.size = rank, size
        self.figures: dict[str, Any] = {"rank": rank, "phases": {}}

    def run(self) -> None:
        options = self.options
        self._enter("import torch")
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
        self._enter("join")
        self._join()
        injected = options.inject_hang if self.rank == options.inject_rank else None
        self._enter("load")
        if injected == "blocked_read":
            inject.blocked_read(self.layout)
        model = make_model(options, self.device, self.rank, self.size)
        tokens = tokens_for(options, model, self.device)
        if injected:
            inject.install(injected, self.heartbeat, model)

        def step() -> torch.Tensor:
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            out: torch.Tensor = model(tokens)
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            return out

        eager = None
        if not options.skip_eager:
            figures.reset_peak(self.device)
            self._enter("eager warm-up")
            first, eager = _timed(step)
            times, eager = self._steps("eager", step)
            self._record("eager", first_call_s=first, step_s=times, peak_memory=figures.peak_memory(self.device))
            eager = eager.clone()
        if not options.skip_compile:
            import_s = self._import_compiler()
            figures.reset_figures()
            figures.reset_peak(self.device)
            self._barrier("barrier before compile")
            self._enter("compile")
            out, first, ran = first_call(model, options.compile_mode, self._backend(), step)
            after_first = figures.compile_figures()
            self._enter("compiled warm-up")
            for _ in range(2):  # CUDA graphs are recorded at the second and third call
                step()
            self._barrier("barrier after compile")
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
                difference=difference(eager, out),
            )
        self._barrier("last barrier")
        self._enter("report")
        self._destroy_group()

    def _import_compiler(self) -> float:
        """Seconds to import Dynamo and Inductor. They do not depend on the model, so they are not compile time."""
        self._enter("import compiler")
        began = time.monotonic()
        importlib.import_module("torch._dynamo")
        if self._backend() == "inductor":
            importlib.import_module("torch._inductor.compile_fx")
        return time.monotonic() - began

    def _backend(self) -> str:
        """The requested backend. If a hang is injected on another rank, this rank only waits, so it skips Inductor."""
        others = self.options.inject_hang and self.rank != self.options.inject_rank
        return "aot_eager" if others and self.options.backend == "inductor" else self.options.backend

    def _join(self) -> None:
        if self.size == 1:
            return
        import torch
        import torch.distributed as dist

        # Much longer than the run may take: a collective that times out would destroy the evidence.
        timeout = timedelta(seconds=2 * self.options.timeout + 600)
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)
            dist.init_process_group("nccl", timeout=timeout, device_id=self.device)
        else:
            dist.init_process_group("gloo", timeout=timeout)

    def _destroy_group(self) -> None:
        """Destroy the process group on a CPU. On CUDA, `run` ends the process by `os._exit` without destroying NCCL's.

        NCCL would wait until no CUDA graph holds one of its calls (pytorch#115388). A compiled model's graphs live as
        long as the model, so this runner itself would hang, in the very modes that it studies.
        """
        if self.size > 1 and self.device.type != "cuda":
            import torch.distributed as dist

            dist.destroy_process_group()

    def _steps(self, phase: str, step: "Callable[[], torch.Tensor]") -> "tuple[list[float], torch.Tensor]":
        self._enter(phase)
        times = []
        for index in range(self.options.steps):  # at least one, by the flag's type
            self.heartbeat.step = index + 1
            self.events.progress(index, self.options.steps, "steps", phase)
            seconds, out = _timed(step)
            times.append(seconds)
        return times, out

    def _barrier(self, name: str) -> None:
        self._enter(name, "barrier")
        if self.size > 1:
            import torch.distributed as dist

            dist.barrier(device_ids=[self.device.index] if self.device.type == "cuda" else None)

    def _enter(self, phase: str, operation: str = "") -> None:
        self.heartbeat.enter(phase, operation)
        self.events.phase_name = phase
        if not operation:
            self.events.phase(phase)
        print(f"{time.strftime('%H:%M:%S')} rank {self.rank}: {phase}", flush=True)

    def _record(self, name: str, **values: Any) -> None:
        self.figures["phases"][name] = values
        write_json(self.layout.figures(self.rank), self.figures, indent=1)


def _timed(step: "Callable[[], torch.Tensor]") -> "tuple[float, torch.Tensor]":
    began = time.monotonic()
    out = step()
    return time.monotonic() - began, out


def difference(eager: "torch.Tensor | None", compiled: "torch.Tensor") -> dict[str, Any] | None:
    """Compare this rank's logits: largest difference, the same relative to the largest logit, top-1 agreement.

    The figures are null if any logits are NaN or infinite; that is then the finding.
    """
    if eager is None:
        return None
    finite = {"finite": bool(compiled.isfinite().all()), "eager_finite": bool(eager.isfinite().all())}
    if not all(finite.values()):
        return {"max_abs": None, "max_relative": None, "same_best_token": None, **finite}
    largest = (eager - compiled).abs().max().item()
    if not math.isfinite(largest):  # two large logits in half precision
        largest = (eager.double() - compiled.double()).abs().max().item()
    return {
        "max_abs": largest,
        "max_relative": largest / max(float(eager.abs().max()), 1e-30),
        "same_best_token": float((eager.argmax(-1) == compiled.argmax(-1)).float().mean()),
        **finite,
    }
