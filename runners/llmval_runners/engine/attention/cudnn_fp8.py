"""cuDNN's FP8 attention for prompts. PyTorch has no operator for it, so it is called through NVIDIA's Python frontend.

On Hopper, cuDNN takes E4M3 queries, keys and values with one scale each, and returns E4M3. A result in 16 bits, and
causal masks aligned at the end, need Blackwell. Source: cudnn-frontend,
`include/cudnn_frontend/node/sdpa_support_surface.h`.
"""

import functools
import importlib.util
from typing import Any

import torch
from llmval_runners.engine.attention.cudnn_sizes import CUDNN_MULTIPLE
from llmval_runners.engine.fp8 import E4M3_MAX
from llmval_runners.process.errors import Refused
from llmval_runners.process.install import how_to_install

PACKAGE = "nvidia-cudnn-frontend"
CAPABILITY = (9, 0)
E4M3 = torch.float8_e4m3fn
# The softmax's numerators are at most 1 and are rounded to E4M3 before the product with the values. Times 256 they use
# its range.
NUMERATOR_SCALE = 256.0
# A result is a weighted mean of values, so it is no larger than the largest value. Rounding to E4M3 can raise that
# value by 1/16.
RESULT_MAX = E4M3_MAX / (1 + 1 / 16)
_SCALARS = ("descale_q", "descale_k", "descale_v", "descale_s", "scale_s", "scale_o")


def is_default(device: torch.device, head_dim: int, page_size: int) -> bool:
    """Whether prompts over an FP8 cache run in FP8 unless asked otherwise.

    They do where it was measured, on Hopper with heads of 128, if the frontend is installed. `device` may be a CPU: a
    prediction for a GPU elsewhere, which is taken to be a Hopper with the frontend.
    """
    here = device.type == "cpu" or (
        torch.cuda.get_device_capability(device) == CAPABILITY and importlib.util.find_spec("cudnn") is not None
    )
    return here and head_dim == 128 and CUDNN_MULTIPLE % page_size == 0


@functools.cache
def fp8_sdpa(device: torch.device) -> "Fp8Sdpa":
    """The device's only instance, because its plans are expensive. Raises Refused as `Fp8Sdpa` does."""
    return Fp8Sdpa(device)


class Fp8Sdpa:
    """cuDNN's FP8 attention. Makes one plan per size, which takes up to a second."""

    def __init__(self, device: torch.device) -> None:
        """Raises Refused if the GPU is too old, or the frontend is not installed."""
        if torch.cuda.get_device_capability(device) < CAPABILITY:
            raise Refused(
                f"FP8 attention needs compute capability {CAPABILITY[0]}.{CAPABILITY[1]} or later, and this GPU is "
                f"{torch.cuda.get_device_name(device)}: pass --prefill-attention bf16."
            )
        try:
            import cudnn  # after torch, so that it finds torch's cuDNN
        except ImportError as error:
            raise Refused(
                f"--prefill-attention fp8 needs the package {PACKAGE} ({error}): {how_to_install(PACKAGE)}, or pass "
                "--prefill-attention bf16."
            ) from None
        self._cudnn: Any = cudnn
        self._device = device
        self.version = cudnn.backend_version_string()
        with torch.cuda.device(device):
            self._handle = cudnn.create_handle()
        # A tensor for each scalar: cuDNN expects them at addresses that are multiples of 16.
        self._one = torch.ones(1, device=device)
        self._numerator = torch.full((1,), NUMERATOR_SCALE, device=device)
        self._numerator_back = self._numerator.reciprocal()
        # cuDNN must write the largest numerator and the largest value of the result somewhere.
        self._largest = (torch.empty(1, device=device), torch.empty(1, device=device))
        self._plans: dict[tuple[torch.Size, torch.Size, bool], tuple[Any, int]] = {}

    def __call__(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        scale: torch.Tensor,
        causal: bool,
        out: torch.Tensor,
        logs: torch.Tensor,
    ) -> None:
        """Attention to keys and values whose scale is 1.

        Args:
            q: E4M3 [queries, heads, head dim], contiguous.
            k: E4M3 [KV heads, keys, head dim], contiguous, as is `v`.
            v: see `k`.
            scale: float32 [1], on the device: the result is stored times this.
            causal: query i attends to keys 0 to i; otherwise to all keys.
            out: receives the result, E4M3 as `q`, to be divided by `scale`; contiguous.
            logs: receives the natural logarithm of the softmax's sum, float32 [heads, queries]; contiguous.
        """
        key = (q.shape, k.shape, causal)
        if key not in self._plans:
            self._plans[key] = self._plan(*key)
        graph, workspace = self._plans[key]
        self._cudnn.set_stream(self._handle, torch.cuda.current_stream(q.device).cuda_stream)
        one = self._one
        scalars = (one, one, one, self._numerator_back, self._numerator, scale)
        tensors = [q, k, v, *scalars, out, logs, *self._largest]
        graph.execute(
            dict(enumerate(tensors, start=1)),
            torch.empty(max(workspace, 1), dtype=torch.uint8, device=q.device),
            handle=self._handle,
        )

    def _plan(self, q: torch.Size, k: torch.Size, causal: bool) -> tuple[Any, int]:
        """A graph ready to run, and the bytes of its workspace. Raises Refused if cuDNN does not support the sizes."""
        kinds = self._cudnn.data_type
        (queries, heads, dim), (kv_heads, keys, _) = q, k
        graph = self._cudnn.pygraph(
            io_data_type=kinds.FP8_E4M3,
            intermediate_data_type=kinds.FLOAT,
            compute_data_type=kinds.FLOAT,
            handle=self._handle,
        )
        rows = {"dim": (1, heads, queries, dim), "stride": (queries * heads * dim, dim, heads * dim, 1)}
        cached = {"dim": (1, kv_heads, keys, dim), "stride": (kv_heads * keys * dim, keys * dim, dim, 1)}
        single = {"dim": (1, 1, 1, 1), "stride": (1, 1, 1, 1)}
        operands = [
            graph.tensor(uid=uid, data_type=kinds.FP8_E4M3, **layout)
            for uid, layout in enumerate((rows, cached, cached), start=1)
        ]
        scalars = {
            name: graph.tensor(uid=uid, data_type=kinds.FLOAT, **single) for uid, name in enumerate(_SCALARS, start=4)
        }
        outputs = graph.sdpa_fp8(
            *operands, **scalars, attn_scale=dim**-0.5, use_causal_mask=causal, generate_stats=True
        )  # fmt: skip
        logs = {"dim": (1, heads, queries, 1), "stride": (heads * queries, queries, 1, 1)}
        layouts = ((rows, kinds.FP8_E4M3), (logs, kinds.FLOAT), (single, kinds.FLOAT), (single, kinds.FLOAT))
        for uid, (output, (layout, kind)) in enumerate(zip(outputs, layouts, strict=True), start=10):
            output.set_uid(uid).set_output(True).set_dim(layout["dim"]).set_stride(layout["stride"]).set_data_type(kind)
        try:
            graph.build([self._cudnn.heur_mode.A, self._cudnn.heur_mode.FALLBACK])
        except (self._cudnn.cudnnGraphNotSupportedError, RuntimeError) as error:
            raise Refused(
                f"cuDNN {self.version} has no FP8 attention for {heads} heads over {kv_heads} of {dim}, {queries} "
                f"queries and {keys} keys ({str(error).splitlines()[0]}): pass --prefill-attention bf16."
            ) from error
        return graph, graph.get_workspace_size()


def result_scale(largest: torch.Tensor) -> torch.Tensor:
    """The factor, float32 [1], that stretches a result with values up to `largest` over all of E4M3's range."""
    return RESULT_MAX / largest.float().clamp(min=1e-6).reshape(1)


def as_e4m3(x: torch.Tensor) -> torch.Tensor:
    """E4M3 with scale 1, contiguous. E4M3 has no infinity: values too large are clamped, or they would become NaN."""
    return x.clamp(-E4M3_MAX, E4M3_MAX).to(E4M3, memory_format=torch.contiguous_format)
