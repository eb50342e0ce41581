"""Networks whose real weights no package carries, with random ones: for tests against references that take the same."""

from pathlib import Path
from unittest import mock

import torch
from torch import Tensor, nn
from torch_fidelity import feature_extractor_inceptionv3 as reference


def fidelity_inception(state: dict[str, Tensor] | None, features: list[str]) -> nn.Module:
    """torch-fidelity's own network; `state` None: with what its modules are born with."""
    given = mock.patch.object(reference, "load_state_dict_from_url", lambda *_, **__: state)
    unloaded = mock.patch.object(reference.FeatureExtractorInceptionV3, "load_state_dict", lambda *_, **__: None)
    with given:
        if state is not None:
            return reference.FeatureExtractorInceptionV3("standin", features)
        with unloaded:
            return reference.FeatureExtractorInceptionV3("standin", features)


def inception_state(seed: int = 0) -> dict[str, Tensor]:
    """Weights under which features of different images differ, and neither vanish nor explode."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        state = fidelity_inception(None, ["2048"]).state_dict()
    for name, value in state.items():
        if name.endswith("conv.weight"):
            value.normal_(0, (2.0 / value[0].numel()) ** 0.5, generator=generator)
        elif name.endswith("running_var"):
            value.uniform_(0.8, 1.2, generator=generator)
        elif name.endswith(("bn.bias", "running_mean")) or name == "fc.weight":
            value.normal_(0, 0.2, generator=generator)
    return state


def inception_file(folder: Path, seed: int = 0) -> Path:
    """The same as a file that torch-fidelity opens."""
    path = folder / "inception.pth"
    torch.save(inception_state(seed), path)
    return path


class Detector(nn.Module):
    """What StyleGAN-V's TorchScript file takes and gives, with a random convolution in place of I3D."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv3d(3, 400, (2, 16, 16), (2, 16, 16))

    def forward(self, x: Tensor, rescale: bool = False, resize: bool = False, return_features: bool = False) -> Tensor:
        if rescale:
            x = 2 * (x / 255) - 1
        if resize:
            x = nn.functional.interpolate(x, size=(x.shape[2], 224, 224), mode="trilinear", align_corners=False)
        features = self.convolution(x).mean(dim=(2, 3, 4))
        return features if return_features else features.softmax(1)


def detector_file(folder: Path) -> Path:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        script = torch.jit.script(Detector())
    script.save(str(folder / "i3d_torchscript.pt"))
    return folder / "i3d_torchscript.pt"
