"""The best rates of the device, measured in the same process as the rows that are compared with them."""

import statistics
import time
from collections.abc import Callable
from functools import partial

import torch


def seconds(work: Callable[[], object], device: torch.device, repeats: int = 3) -> float:
    """Median seconds of `work` over `repeats` runs, after one warm-up run; measured by CUDA events on a GPU."""
    work()
    taken: list[float] = []
    for _ in range(repeats):
        if device.type == "cuda":
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]  # torch leaves it untyped
            start.record()
            work()
            end.record()
            end.synchronize()
            taken.append(float(start.elapsed_time(end)) / 1e3)
        else:
            begun = time.perf_counter()
            work()
            taken.append(time.perf_counter() - begun)
    return statistics.median(taken)


def ceilings(device: torch.device, dtype: torch.dtype) -> dict[str, float]:
    """The rates on random data: `copy_bytes_per_s` (bytes read plus written) and `gemm_flops` in `dtype`.

    GPUs with FP8 also get `gemm_fp8_flops`. On a GPU the copy is far larger than a hardware cache. On a CPU all sizes
    are small: they only show that the code works.
    """
    on_cuda = device.type == "cuda"
    source = torch.randn(2**30 if on_cuda else 2**22, device=device).to(dtype)
    target = torch.empty_like(source)
    rate = 2 * source.numel() * dtype.itemsize / seconds(partial(target.copy_, source), device, 5)
    del source, target
    size, products = (8192, 10) if on_cuda else (256, 1)
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))

    def multiply() -> None:
        for _ in range(products):
            a @ b

    found = {"copy_bytes_per_s": rate, "gemm_flops": 2 * size**3 * products / seconds(multiply, device, 5)}
    if on_cuda and torch.cuda.get_device_capability(device) >= (8, 9):
        one = torch.ones((), device=device)
        a8, b8 = a.to(torch.float8_e4m3fn), b.to(torch.float8_e4m3fn)

        def multiply8() -> None:
            for _ in range(products):
                torch._scaled_mm(a8, b8.t(), scale_a=one, scale_b=one, out_dtype=dtype, use_fast_accum=True)

        found["gemm_fp8_flops"] = 2 * size**3 * products / seconds(multiply8, device, 5)
    return found
