"""The measurement of one batch: one decode and one reconstruction feed every metric, on one device."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from vitok.errors import VitokError
from vitok.losses import flatten_frames
from vitok.metrics.psnr_ssim import psnr, ssim, to_uint8
from vitok.metrics.registry import Metric, required_networks
from vitok.models.features.i3d import FRAMES
from vitok.models.features.output import NetworkFeatures
from vitok.models.lpips import LPIPS
from vitok.networks import weights
from vitok.networks.sources import Payload

Columns = dict[str, np.ndarray]  # a row a sample
TOGETHER = 64  # images that a network sees at once: the frames of a batch of clips are many
CODER_VALUE = "said "  # before the name of a value that the subject itself tells of a sample
OUTSIDE = "outside"  # the share of a reconstruction's values that lie outside of [-1, 1], before they are cut off


class Measurer:
    """The networks of some metrics, on a device. `payloads` has the weights of each; `both`: of the originals too, whose
    features nobody has at hand; `name` tells the sample that a view shows. Measures in float32 without TF32, under any autocast."""

    def __init__(
        self, metrics: Sequence[Metric], payloads: dict[str, Payload], device: torch.device, both: bool, name: Callable[[int], str]
    ) -> None:
        self.metrics, self.device, self.both, self.name = metrics, device, both, name
        self.networks = {name: weights.build_network(name, payloads[name]).to(device) for name in required_networks(metrics)}
        self.scored = {metric.network for metric in metrics if metric.statistic == "score"}

    def __call__(self, numbers: np.ndarray, originals: Tensor, outputs: Tensor | None) -> Columns:
        """A row for each of the views with these numbers. Originals (B, 3, [T,] H, W) uint8; outputs the same in floats, nominally in
        [-1, 1], or None where there is nothing to compare. Column "<network>/output" is (B, N, D): N frames, or one clip.

        Raises `VitokError` that names the samples for an output of another size, and for one that is not finite."""
        cudnn = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
        with torch.inference_mode(), torch.autocast(self.device.type, enabled=False), cudnn:
            if outputs is None:
                return self._features("original", originals)
            self._check(numbers, originals, outputs)
            cut = to_uint8(outputs)
            columns = self._paired(originals, cut) | {OUTSIDE: outputs.abs().gt(1).flatten(1).float().mean(1).cpu().numpy()}
            columns |= self._features("output", cut)
            return columns | (self._features("original", originals) if self.both else {})

    def _check(self, numbers: np.ndarray, originals: Tensor, outputs: Tensor) -> None:
        if outputs.shape != originals.shape:
            shapes = f"{tuple(outputs.shape[1:])} for an original of {tuple(originals.shape[1:])}"
            raise VitokError(f"{self.name(int(numbers[0]))}: a reconstruction of {shapes}")
        finite = outputs.isfinite().flatten(1).all(1).cpu().numpy()
        if not finite.all():
            bad = [self.name(int(number)) for number in numbers[~finite][:5]]
            more = f" and {(~finite).sum() - 5} others" * bool((~finite).sum() > 5)
            raise VitokError(f"the reconstruction holds values that are not finite: {', '.join(bad)}{more}")

    def _paired(self, originals: Tensor, outputs: Tensor) -> Columns:
        """Per image, and of a clip the mean over its frames."""
        x, y = flatten_frames(outputs), flatten_frames(originals)
        columns: Columns = {}
        for metric in self.metrics:
            if metric.statistic == "psnr":
                value = psnr(x, y)
            elif metric.statistic == "ssim":
                value = ssim(x, y)
            elif metric.statistic == "lpips":
                network = self.networks[metric.network]
                assert isinstance(network, LPIPS)
                pairs = zip(x.split(TOGETHER), y.split(TOGETHER), strict=True)
                value = torch.cat([network(a.float() / 127.5 - 1, b.float() / 127.5 - 1) for a, b in pairs])
            else:
                continue
            columns[metric.name] = value.view(len(originals), -1).double().mean(1).cpu().numpy()
        return columns

    def _features(self, side: str, images: Tensor) -> Columns:
        columns: Columns = {}
        for name in required_networks(metric for metric in self.metrics if not metric.paired):
            pooled, logits = self._looked_at(self.networks[name], images, name == "i3d")
            columns[f"{name}/{side}"] = pooled.view(len(images), -1, pooled.shape[1]).cpu().numpy()
            if name in self.scored and side == "output":
                assert logits is not None
                columns[f"{name}/logits"] = logits.view(len(images), -1, logits.shape[1]).cpu().numpy()
        return columns

    def _looked_at(self, network: nn.Module, images: Tensor, clips: bool) -> NetworkFeatures:
        if clips:
            return network(images)
        parts = [network(part) for part in flatten_frames(images).split(TOGETHER)]
        logits = None if parts[0].logits is None else torch.cat([part.logits for part in parts])
        return NetworkFeatures(torch.cat([part.pooled for part in parts]), logits)


def require_frames(metrics: Sequence[Metric], frames: int) -> None:
    """Raise `VitokError` for metrics of clips on fewer frames than their network takes."""
    if (clips := [metric.name for metric in metrics if metric.video]) and frames < FRAMES:
        raise VitokError(f"{', '.join(clips)}: I3D takes clips of {FRAMES} frames at least, not {frames}")
