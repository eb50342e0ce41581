"""Timing of a step: seconds by phase, images a second, the share of the device's peak."""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

# Dense bf16 peaks without sparsity, TFLOP/s, of NVIDIA's data sheets; the longest name that fits decides.
PEAKS = {
    "H100 PCIe": 756, "H100": 989, "H200": 989, "GH200": 989, "B200": 2250, "A100": 312, "A10G": 70, "A10": 125, "L40S": 362,
    "L40": 181, "L4": 121, "RTX 4090": 165, "RTX A6000": 155, "V100": 125, "T4": 65,
}  # fmt: skip


class StepTimer:
    """The timer of a loop's phases: `with clock("data"): ...`. `phase` and `since` tell who looks from outside whether the loop goes on."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = defaultdict(float)
        self.phase, self.since, self.step = "start", time.time(), 0
        self._entered = time.perf_counter()

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        outer = self.phase
        self._enter(phase)
        try:
            yield
        finally:
            self._enter(outer)

    def split(self, steps: int) -> dict[str, float]:
        """Return the seconds a step since the last call, by phase, and with what lies between the phases as "step"."""
        self._enter(self.phase)
        values = {f"time/{phase}": seconds / steps for phase, seconds in self.spent.items() if phase != "start"}
        values["time/step"] = sum(self.spent.values()) / steps
        self.spent.update(dict.fromkeys(self.spent, 0.0))  # a phase that was once there is told, also as nothing
        return values

    def alive(self) -> None:
        """Tell that a phase that may take long goes on."""
        self.since = time.time()

    def _enter(self, phase: str) -> None:
        now = time.perf_counter()
        self.spent[self.phase] += now - self._entered
        self.phase, self.since, self._entered = phase, time.time(), now


def peak_flops(device: torch.device, precision: str) -> float:
    """Return the FLOP/s of a device: NVIDIA's figure for a known GPU, else the best of a few matrix products now."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        known = [key for key in PEAKS if key in name]
        if known and precision == "bf16":
            return PEAKS[max(known, key=len)] * 1e12
    side = 4096 if device.type == "cuda" else 1024
    best = 0.0
    for dtype in {torch.float32, torch.bfloat16 if precision == "bf16" else torch.float32}:
        a = torch.randn(side, side, device=device).to(dtype)
        for _ in range(5):
            began = time.perf_counter()
            result = a @ a
            float(result[0, 0])  # waits for the device
            best = max(best, 2 * side**3 / (time.perf_counter() - began))
    return best


def memory_peak(device: torch.device) -> float:
    """Most memory that this process has had, GB: of tensors on a GPU, resident on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e9
    raise OSError("no VmHWM in /proc/self/status")
