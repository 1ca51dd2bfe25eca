"""A made-up recording with moving values, for tests, screenshots and benchmarks of the telemetry display."""

import argparse
import math
import random
from collections.abc import Iterator
from pathlib import Path

from llmval_tui.telemetry.sample import GpuSample, HostSample, Sample

GIB = 1 << 30
EPOCH_NS = 1_760_000_000_000_000_000  # wall clock at monotonic 0


def synthetic(
    gpus: int, seconds: float, seed: int, *, interval_s: float = 1.0, start_ns: int = 10**12
) -> Iterator[Sample]:
    """Samples of a busy node with `gpus` GPUs. They depend only on the seed."""
    rng = random.Random(seed)
    phases = [rng.uniform(0, 6.28) for _ in range(gpus)]
    energy_j = [rng.uniform(1e6, 9e6) for _ in range(gpus)]
    for number in range(int(seconds / interval_s) + 1):
        second = number * interval_s
        mono_ns = start_ns + int(second * 1e9)
        found = []
        for index, phase in enumerate(phases):
            load = min(1.0, max(0.0, 0.7 + 0.25 * math.sin(second / 7 + phase) + rng.gauss(0, 0.03)))
            power = 90 + 600 * load
            energy_j[index] += power * interval_s
            link = 300 * load + rng.uniform(0, 9)
            found.append(
                GpuSample(
                    index=index,
                    uuid=f"GPU-synthetic-{index}",
                    name="NVIDIA H200",
                    sm_util_percent=100 * load,
                    sm_util_source="gpm",
                    sm_occupancy_percent=40 * load,
                    tensor_util_percent=60 * load,
                    dram_util_percent=80 * load,
                    memory_used_bytes=int((40 + 90 * load) * GIB),
                    memory_total_bytes=141 * GIB,
                    power_w=power,
                    power_instant_w=power + rng.gauss(0, 10),
                    power_limit_w=700.0,
                    energy_j=energy_j[index],
                    energy_mono_ns=mono_ns,
                    temperature_c=35 + 40 * load + index,
                    sm_clock_mhz=1980 - 300 * load,
                    memory_clock_mhz=3201.0,
                    throttle_reasons=["sw_power_cap"] if load > 0.93 else [],
                    nvlink_tx_gb_per_s=link,
                    nvlink_rx_gb_per_s=link + rng.uniform(-2, 2),
                    pcie_tx_gb_per_s=2 * load,
                    pcie_rx_gb_per_s=3 * load,
                    processes=[4000 + index],
                )
            )
        busy = 50 + 40 * math.sin(second / 11)
        host = HostSample(
            cpu_percent=busy,
            cpu_count=192,
            load_1m=busy * 1.92,
            memory_used_bytes=int((300 + busy) * GIB),
            memory_total_bytes=2048 * GIB,
            network_tx_mb_per_s=busy / 3,
            network_rx_mb_per_s=busy / 2,
            disk_free_bytes=900 * GIB - number * 4096,
        )
        yield Sample(t_ns=EPOCH_NS + mono_ns, mono_ns=mono_ns, host=host, gpus=found)


def write(path: Path, gpus: int, seconds: float, seed: int = 0, *, interval_s: float = 1.0) -> None:
    """A whole recording into `path`."""
    with path.open("wb") as file:
        file.writelines(sample.to_line() for sample in synthetic(gpus, seconds, seed, interval_s=interval_s))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write a made-up recording.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--gpus", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--interval", type=float, default=1.0)
    chosen = parser.parse_args()
    write(chosen.out, chosen.gpus, chosen.seconds, chosen.seed, interval_s=chosen.interval)
