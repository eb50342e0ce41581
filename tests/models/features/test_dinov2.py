"""DINOv2 against timm's ViT, with the same random weights."""

import numpy as np
import pytest
import torch
from timm.models.vision_transformer import VisionTransformer

from tests.models.features.test_efficientnet import resized_by_pillow
from tests.models.test_lpips import photographs
from vitok.errors import VitokError
from vitok.metrics.psnr_ssim import to_uint8
from vitok.models.features.dinov2 import DINOv2

WIDTH, DEPTH = 128, 2
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def reference(size: int) -> VisionTransformer:
    """timm calls every weight but the mask token as Meta does."""
    return VisionTransformer(
        size, patch_size=14, embed_dim=WIDTH, depth=DEPTH, num_heads=WIDTH // 64, init_values=1.0, num_classes=0, global_pool="token"
    ).eval()


def random_state() -> dict[str, torch.Tensor]:
    """Weights under which every part of the network counts in the features."""
    generator = torch.Generator().manual_seed(0)
    state = reference(518).state_dict() | {"mask_token": torch.zeros(1, WIDTH)}
    for name, value in state.items():
        value.normal_(0, 2 * value[0].numel() ** -0.5 if value.ndim in (2, 4) else 0.3, generator=generator)
        if name.endswith(("gamma", "norm1.weight", "norm2.weight", "norm.weight")):
            value += 1
    return state


def normalised(images: torch.Tensor) -> torch.Tensor:
    return ((images.double() / 255).movedim(1, -1) - torch.tensor(MEAN)).div(torch.tensor(DEVIATION)).movedim(-1, 1)


def cubic(x: np.ndarray) -> np.ndarray:
    """Keys' kernel (1981) with a = -0.75, torch's."""
    x, a = np.abs(x), -0.75
    near, far = (a + 2) * x**3 - (a + 3) * x**2 + 1, a * (x**3 - 5 * x**2 + 8 * x - 4)
    return np.where(x <= 1, near, np.where(x < 2, far, 0))


def positions_for_224(positions: np.ndarray) -> np.ndarray:
    """(1, 1370, D) -> (1, 257, D) in float64: output i of 16 looks at (i + 1/2) * 37 / 16.1 - 1/2, edges repeated."""
    taps = np.arange(-3, 40)
    matrix = cubic((np.arange(16)[:, None] + 0.5) * 37 / 16.1 - 0.5 - taps)
    rows = np.zeros((16, 37))
    np.add.at(rows.T, taps.clip(0, 36), matrix.T)
    grid = np.einsum("yi,xj,ijd->yxd", rows, rows, positions[0, 1:].reshape(37, 37, -1).astype(np.float64))
    return np.concatenate([positions[:, :1], grid.reshape(1, 256, -1)], 1)


def test_equals_timm() -> None:
    state, images = random_state(), to_uint8(photographs(224))  # nothing to resize
    theirs = reference(224)
    positions = torch.tensor(positions_for_224(state["pos_embed"].numpy()))
    theirs.load_state_dict({name: value for name, value in state.items() if name != "mask_token"} | {"pos_embed": positions})
    with torch.inference_mode():
        ours = DINOv2(state)(images)
        pooled = theirs.double()(normalised(images))
    assert ours.logits is None and ours.pooled.shape == (len(images), WIDTH) and ours.pooled.dtype == torch.float32
    # float32 against float64: 1.4e-6 of the largest feature apart, what timm itself loses in float32.
    assert (ours.pooled - pooled).abs().max() < 7e-6 * pooled.abs().max()
    assert pooled.std(0).mean() > 0.1 * pooled.std()  # such weights tell images apart


@pytest.mark.parametrize("size", [64, 256])
def test_input_is_resized_as_pillow_does_and_not_clamped(size: int) -> None:
    images = to_uint8(photographs(size))
    theirs = resized_by_pillow(images)
    assert theirs.max() > 255
    # torch's filter weights are float32, Pillow's float64: 5.4e-5 apart, 0.003 of a grey level.
    assert (DINOv2(random_state()).prepare(images) - normalised(theirs)).abs().max() < 2.5e-4


def test_positions_are_resized_as_metas_code_does() -> None:
    state = random_state()
    theirs = positions_for_224(state["pos_embed"].numpy())
    # float32 coordinates of up to 37 patches: 4e-6 apart. Without Meta's 0.1 they would be 0.4 apart.
    assert np.abs(DINOv2(state).positions.numpy() - theirs).max() < 2e-5


@pytest.mark.parametrize("name", ["cls_token", "norm.bias", "blocks.1.ls2.gamma", "register_tokens"])
def test_missing_and_unknown_weights_are_refused(name: str) -> None:
    state = random_state()
    if state.pop(name, None) is None:
        state[name] = torch.zeros(1)
    with pytest.raises(VitokError, match=name):
        DINOv2(state)
