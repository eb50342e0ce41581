"""Parameters, multiply-adds, training FLOPs and hours of tokenizers and generators.

The paper's "GFLOPs" are multiply-adds: one for each of a linear, a convolution, QK^T and AV, plus 5 for every element of a LayerNorm. With
that, Tables 1 to 4 are reproduced to the printed digit.

`tokenizer_cost` is arithmetic on the config, in microseconds and without torch; `count_tokenizer` counts a real model on the meta
device. A test holds them equal.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, NamedTuple

from vitok.config import Generation, Recipe, Resources, TokenizerConfig, Tower, Training, variants

if TYPE_CHECKING:
    from torch import nn

MACS_PER_NORM_ELEMENT = 5  # multiply-adds for each element of a LayerNorm


@dataclass(frozen=True)
class TokenizerCost:
    """Parameters of a tokenizer, and multiply-adds of one forward pass of one sample."""

    encoder_params: int
    decoder_params: int
    encoder_macs: int
    decoder_macs: int

    @property
    def params(self) -> int:
        """Parameters of both towers."""
        return self.encoder_params + self.decoder_params

    @property
    def macs(self) -> int:
        """Multiply-adds of both towers."""
        return self.encoder_macs + self.decoder_macs


def tokenizer_cost(cfg: TokenizerConfig) -> TokenizerCost:
    """Compute the cost of a tokenizer from its config."""
    tubelet = 3 * cfg.stride * cfg.patch**2
    rows = cfg.table_grid[0] * cfg.table_grid[1] * cfg.table_grid[2]
    encoder, decoder, patches, tokens, moments = cfg.encoder, cfg.decoder, cfg.patches, cfg.tokens, 2 * cfg.channels
    learned = bool(cfg.latent_tokens) * decoder.width + bool(cfg.shortest) * cfg.channels  # the patch token and the mask token
    return TokenizerCost(
        encoder_params=_embedding_params(encoder, tubelet, rows + cfg.latent_tokens)
        + _tower_params(encoder)
        + (encoder.width + 1) * moments,
        decoder_params=_tower_params(decoder) + (cfg.channels + 1) * decoder.width + decoder.width * tubelet + 3 + learned,
        encoder_macs=encoder.width * (patches * tubelet + tokens * moments) + _tower_macs(encoder, cfg.sequence),
        decoder_macs=decoder.width * (patches * tubelet + tokens * cfg.channels) + _tower_macs(decoder, cfg.sequence),
    )


@dataclass(frozen=True)
class TowerSize:
    """A row of Table 1: one tower with the embedding of 16 x 16 patches and a table of 256 positions, at 256 tokens."""

    name: str
    width: int
    blocks: int
    heads: int
    params: int
    macs: int


def tower_sizes() -> list[TowerSize]:
    """Compute the cost of every named tower size, as Table 1 has it."""
    rows: list[TowerSize] = []
    for name, tower in variants.SIZES.items():
        params = _embedding_params(tower, 768, 256) + _tower_params(tower)
        macs = 256 * tower.width * 768 + _tower_macs(tower, 256)
        rows.append(TowerSize(name, tower.width, tower.blocks, tower.heads, params, macs))
    return rows


def count_tokenizer(model: "nn.Module", *inputs: object) -> TokenizerCost:
    """Count the cost of a `models.Tokenizer` by running it on `inputs` (one sample, on the meta device) with hooks on its modules."""
    macs = {"encoder": 0, "decoder": 0}
    for name in macs:
        _count(model.get_submodule(name), name, macs)
    model(*inputs)
    params = {name: sum(p.numel() for p in model.get_submodule(name).parameters()) for name in macs}
    return TokenizerCost(params["encoder"], params["decoder"], macs["encoder"], macs["decoder"])


def _count(part: "nn.Module", name: str, macs: dict[str, int]) -> None:
    """Register hooks by which every forward pass of a module adds its multiply-adds to macs[name]."""
    from torch import Tensor, nn

    from vitok.models.blocks import RotaryAttention
    from vitok.models.tokenizer import TubeletEmbedding, TubeletUnembedding

    def count(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(module, TubeletUnembedding):
            macs[name] += args[0].numel() * module.weight[0].numel()
        elif isinstance(module, nn.Linear | TubeletEmbedding):
            macs[name] += output.numel() * module.weight[0].numel()
        elif isinstance(module, nn.LayerNorm):
            macs[name] += MACS_PER_NORM_ELEMENT * output.numel()
        elif isinstance(module, RotaryAttention):  # QK^T and AV; its linears count themselves
            macs[name] += 2 * output.numel() * output.shape[1]

    for module in part.modules():
        module.register_forward_hook(count)


class GeneratorCost(NamedTuple):
    """Parameters of a DiT, and multiply-adds of one forward pass of one sample."""

    params: int
    macs: int


def generator_cost(tower: Tower, tokens: int, channels: int, classes: int) -> GeneratorCost:
    """Compute the cost of a DiT from its config. adaLN is counted as it runs: once a sample, not once a token."""
    width, hidden, frequencies = tower.width, tower.hidden, variants.TIME_FREQUENCIES
    block = 4 * width * width + width + (width + 1) * 2 * hidden + (hidden + 1) * width + 6 * width * (width + 1)
    ends = (channels + 1) * width + (width + 1) * channels + 2 * width * (width + 1)
    time = (frequencies + 1) * width + (width + 1) * width
    condition = (frequencies + width) * width + 6 * tower.blocks * width * width + 2 * width * width
    return GeneratorCost(
        params=tower.blocks * block + ends + time + ((classes + 1) * width if classes else 0),
        macs=_tower_macs(tower, tokens) + 2 * tokens * width * channels + condition,
    )


def count_generator(model: "nn.Module", *inputs: object) -> GeneratorCost:
    """Count the cost of a `models.DiT` by running it on `inputs` (one sample, on the meta device)."""
    macs = {"dit": 0}
    _count(model, "dit", macs)
    model(*inputs)
    return GeneratorCost(sum(p.numel() for p in model.parameters()), macs["dit"])


def perceptual_macs(trunk: str, size: int) -> int:
    """Return the multiply-adds of one image of size x size through the convolutions of LPIPS; its heads are below a thousandth."""
    return sum(layer.macs for layer in perceptual_layers(trunk, size))


class PerceptualLayer(NamedTuple):
    """A layer of LPIPS's trunk on one image: a convolution with its ReLU, a pooling, or a tap of the features there."""

    kind: Literal["convolution", "pooling", "tap"]
    values: int  # channels x side x side of its output
    macs: int


def perceptual_layers(trunk: str, size: int) -> Iterator[PerceptualLayer]:
    """Yield the layers of LPIPS's trunk ("alexnet" or "vgg16") for an image of size x size."""
    channels, side = 3, size
    for layer in variants.PERCEPTUAL[trunk]:
        macs, kind = 0, "tap"
        if not isinstance(layer, str) and len(layer) == 2:
            kind, side = "pooling", (side - layer[0]) // layer[1] + 1
        elif not isinstance(layer, str):
            out, kernel, stride, padding = layer
            kind, side = "convolution", (side + 2 * padding - kernel) // stride + 1
            macs, channels = side * side * out * channels * kernel * kernel, out
        yield PerceptualLayer(kind, channels * side * side, macs)


def discriminator_macs(size: int, base: int, frames: int = 1, together: bool = False) -> int:
    """Return the multiply-adds of `models.discriminator` on one image of size x size or, with `together`, on one clip by 3D convolutions.

    Its blur is included, with one multiply-add a pixel and tap.
    """
    widths, side, depth = variants.discriminator_channels(size, base), size, frames
    kernel = 27 if together else 9
    total = depth * side * side * 3 * widths[0]
    for inputs, outputs in pairwise(widths):
        total += depth * side * side * inputs * (kernel * (inputs + outputs) + 9)
        side, depth = side // 2, -(-depth // 2) if together else depth
    total += depth * side * side * kernel * (widths[-1] + 1) * widths[-1]
    return total + depth * variants.LAST_SIDE**2 * widths[-1] * widths[-1] + widths[-1]


def step_macs(recipe: Training) -> dict[str, int]:
    """Return the multiply-adds of a training step for each sample, by term.

    A backward pass costs two forward passes; one through a network whose weights stay (LPIPS; the discriminator in the generator's step);
    none through a frozen encoder. LPIPS runs on the target too, the discriminator on the target and twice on the reconstruction. R1, every
    few steps, is left out.
    """
    if isinstance(recipe, Generation):
        cfg = recipe.tokenizer.tokenizer
        return {"dit": 3 * generator_cost(recipe.dit, cfg.tokens, cfg.channels, 0).macs}
    assert isinstance(recipe, Recipe)
    cfg, gan = recipe.tokenizer, recipe.gan
    price = tokenizer_cost(cfg)
    frozen = gan is not None and gan.tuned == "decoder"
    terms = {"encoder": (1 if frozen else 3) * price.encoder_macs, "decoder": 3 * price.decoder_macs}
    if recipe.loss.lpips:
        terms["lpips"] = 3 * cfg.frames * perceptual_macs(recipe.loss.lpips_network, cfg.size)
    if gan and gan.weight:
        together = gan.frames == "together" and cfg.frames > 1
        once = discriminator_macs(cfg.size, gan.base_channels, cfg.frames if together else 1, together)
        terms["discriminator"] = 8 * once * (1 if together else cfg.frames)
    return terms


def step_flops(recipe: Training) -> float:
    """Return the FLOPs of a training step of the whole batch: two a multiply-add."""
    return 2.0 * sum(step_macs(recipe).values()) * recipe.batch_size


def training_flops(recipe: Training) -> float:
    """Return the FLOPs of all steps of a run."""
    return step_flops(recipe) * recipe.steps


def sampling_flops(recipe: Generation) -> float:
    """Return the FLOPs of the samples by which a generator is evaluated: one pass of the DiT a step, two with guidance, and the decoder."""
    cfg, sampling = recipe.tokenizer.tokenizer, recipe.sampling
    passes = sampling.steps * (1 if sampling.cfg == 1 else 2)
    each = passes * generator_cost(recipe.dit, cfg.tokens, cfg.channels, 0).macs + tokenizer_cost(cfg).decoder_macs
    return 2.0 * sampling.count * each


def run_hours(recipe: Training, resources: Resources) -> float:
    """Return the expected hours of a run on its resources, from their peak and the expected utilisation.

    A generator's samples are included; the feature networks that evaluate them are not.
    """
    rate = resources.workers * resources.tflops * 1e12 * resources.utilisation
    flops = training_flops(recipe) + (sampling_flops(recipe) if isinstance(recipe, Generation) else 0.0)
    return flops / rate / 3600


def _embedding_params(tower: Tower, tubelet: int, rows: int) -> int:
    """Return the parameters of a patch embedding with a position table of that many rows."""
    return (tubelet + 1) * tower.width + rows * tower.width


def _tower_params(tower: Tower) -> int:
    """Return the parameters of a tower's blocks and its final norm."""
    width, hidden = tower.width, tower.hidden
    attention = 3 * width * width + (width + 1) * width
    mlp = (width + 1) * 2 * hidden + (hidden + 1) * width
    return tower.blocks * (attention + mlp + 4 * width) + 2 * width


def _tower_macs(tower: Tower, tokens: int) -> int:
    """Return the multiply-adds of a tower's blocks and its final norm."""
    width, hidden = tower.width, tower.hidden
    linear = 4 * width * width + 3 * width * hidden
    attention = 2 * tokens * width
    norms = 2 * tower.blocks + 1
    return tokens * (tower.blocks * (linear + attention) + norms * MACS_PER_NORM_ELEMENT * width)
