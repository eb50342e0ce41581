"""Count the parameters and multiply-accumulates of an autoencoder by the paper's accounting (`vitok.costs.flops`), from its architecture
alone."""

from collections.abc import Iterable
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from vitok.costs.flops import MACS_PER_NORM_ELEMENT, TokenizerCost
from vitok.evaluation.baselines.autoencoders import check_sides, encode, find_autoencoder, network_class

CONSISTENCY_STEPS = 2  # of OpenAI's decoder, each a pass through its whole UNet


def cost(key: str, size: int) -> TokenizerCost:
    """Parameters, and multiply-adds of one image of size x size: a linear, a convolution, QK^T and AV at one each, and `NORM`
    an element of a normalisation. Raises `UsageError` for an unknown key, a side that the network cannot take, no diffusers."""
    entry = find_autoencoder(key)
    check_sides(entry.name, entry.factor, size, size)
    network = network_class(key)
    with torch.device("meta"):
        vae, images = network(**entry.config).to("meta"), torch.empty(1, 3, size, size)  # .to: Cosmos keeps its wavelets elsewhere
    with torch.no_grad():
        with MultiplyAdds() as encoder:
            latents = encode(entry.network, vae, images)
        with MultiplyAdds() as decoder:
            _decode(entry.network, vae, latents, size)
    return TokenizerCost(
        encoder_params=_numel(p for name, p in vae.named_parameters() if name.startswith(("encoder.", "quant_conv."))),
        decoder_params=_numel(p for name, p in vae.named_parameters() if not name.startswith(("encoder.", "quant_conv."))),
        encoder_macs=encoder.total,
        decoder_macs=decoder.total,
    )


class MultiplyAdds(TorchFunctionMode):
    """Counts, in `total`, what is called while it is entered, in modules or as functions."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        output = func(*args, **(kwargs or {}))
        if func is F.linear or func in (torch.conv2d, torch.conv3d):
            self.total += output.numel() * args[1][0].numel()
        elif func is torch.conv_transpose3d:
            self.total += args[0].numel() * args[1][0].numel()
        elif func is F.scaled_dot_product_attention:
            query, key, value = args[:3]
            self.total += prod(query.shape[:-1]) * key.shape[-2] * (query.shape[-1] + value.shape[-1])
        elif func in (F.group_norm, F.layer_norm, F.rms_norm):
            self.total += MACS_PER_NORM_ELEMENT * output.numel()
        return output


def _decode(network: str, vae: Any, latents: Tensor, size: int) -> None:
    if network != "ConsistencyDecoderVAE":
        vae.decode(latents)
        return
    # Its UNet alone: the schedule around it compares numbers, which meta tensors do not have. Noise and latents beside each other.
    inputs = latents.new_empty(1, 3 + latents.shape[1], size, size)
    for _ in range(CONSISTENCY_STEPS):
        vae.decoder_unet(inputs, torch.zeros((), dtype=torch.long, device="meta"))


def _numel(parameters: Iterable[Tensor]) -> int:
    return sum(p.numel() for p in parameters)
