"""Device memory of a step of stage 1, or of a generator: arithmetic on the config, by the tensors that are kept until the backward pass.

All weights, gradients and moments are float32 (2.3: bf16 is autocast); ZeRO partitions them as its stages say. A block compiled by torch
keeps less than is counted here; CUDA's own context (about 0.5 GB) and the workspaces of its libraries come on top.
"""

from vitok.config import Generation, Recipe, Resources, Tower, Training, is_recomputed
from vitok.costs.flops import generator_cost, perceptual_layers, tokenizer_cost

FLOAT, HALF, INDEX = 4, 2, 8  # bytes
BUCKET = 25_000_000  # elements of ZeRO's collectives: an all-reduce of 100 MB runs at the speed of the links
STAGE0_BUCKET = 500_000_000  # elements of DeepSpeed's all-reduce without ZeRO


def step_memory(recipe: Training, resources: Resources) -> dict[str, float]:
    """Return the bytes on one device at the peak of a step, by term, and their sum "peak".

    The peak comes at the end of the forward pass, when LPIPS has its features of both images; or when the backward pass begins, with ZeRO's
    buckets; or at its end, when all gradients exist.
    """
    params, stage, workers = _params(recipe), resources.zero, resources.workers
    kept = _kept(params, stage, workers, resources.offload) | ({"average": FLOAT * params / workers} if recipe.ema else {})
    samples = recipe.batch_size // (workers * resources.accumulation)
    # One bucket for float32 gradients, one for bf16 gradients; ZeRO-3 makes two copies of the gradients that it reduces.
    buckets = FLOAT * bucket(params) * (2 if recipe.precision == "bf16" or stage == 3 else 1) if stage else 0.0
    moments = [
        {
            "activations": samples * (_activations(recipe, resources.recompute) + end),
            **_weights_in_use(recipe, stage, params),
            "buckets": more,
        }
        for end, more in ((_lpips(recipe, 3), 0.0), (_lpips(recipe, 1), buckets), (_again(recipe, resources.recompute), buckets))
    ]
    moments.append({"gradients": _gradients(params, stage, workers, buckets)})
    peak = max(moments, key=lambda terms: sum(terms.values()))
    terms = kept | {name: value for name, value in peak.items() if value}
    return terms | {"peak": sum(terms.values())}


def memory_warning(recipe: Training, resources: Resources) -> str | None:
    """Return a warning if a step will not fit a worker's device; None if it fits, or if that is unknown."""
    peak = step_memory(recipe, resources)["peak"] / 1e9
    if not resources.device_gb or peak < resources.device_gb or (isinstance(recipe, Recipe) and recipe.stage == 2):
        return None
    return (
        f"a step needs about {peak:.0f} GB of the {resources.device_gb:g} GB of a device: raise resources.accumulation "
        f"({resources.accumulation}) or resources.recompute ({resources.recompute:g})"
    )


def _kept(params: int, stage: int, workers: int, offload: bool) -> dict[str, float]:
    """Return the bytes kept from one step to the next, by term. With ZeRO the optimizer has its own copy of the weights."""
    if stage == 0:
        return {"weights": FLOAT * params, "moments": 2 * FLOAT * params}
    terms = {"weights": FLOAT * params / (workers if stage == 3 else 1), "optimizer": 0.0 if offload else 3 * FLOAT * params / workers}
    return terms | ({"gradient partition": FLOAT * (params / workers + bucket(params))} if stage == 3 else {})


def _weights_in_use(recipe: Training, stage: int, params: int) -> dict[str, float]:
    """Return the bytes of the weights' bf16 copies, and of the weights that ZeRO-3 has gathered."""
    copies = HALF * params if recipe.precision == "bf16" else 0.0
    return {"bf16 weights": copies, "gathered": FLOAT * min(params, 2 * BUCKET) if stage == 3 else 0.0}


def _gradients(params: int, stage: int, workers: int, buckets: float) -> float:
    """Return the bytes of all gradients and a flat copy: the one that is reduced (stage 0), or the one that the optimizer takes."""
    whole, share = FLOAT * params, FLOAT * params / workers
    if stage == 0:
        return whole + (FLOAT * min(params, STAGE0_BUCKET) if workers > 1 else 0.0)
    if stage == 1:
        return whole + max(share, buckets)
    if stage == 2:
        return share + max(share, buckets + (FLOAT * bucket(params) if workers > 1 else 0.0))
    return share + FLOAT * min(params, 2 * BUCKET)


def bucket(params: int) -> int:
    """Return the elements of one bucket of ZeRO's collectives: at most `BUCKET`, at most the (even) number of parameters."""
    return min(params + params % 2, BUCKET)


def _params(recipe: Training) -> int:
    """Return the number of trained parameters."""
    if isinstance(recipe, Generation):
        cfg = recipe.tokenizer.tokenizer
        return generator_cost(recipe.dit, cfg.tokens, cfg.channels, 0).params
    assert isinstance(recipe, Recipe)
    return tokenizer_cost(recipe.tokenizer).params


def _activations(recipe: Training, recompute: float) -> float:
    """Return the bytes that one sample keeps for the backward pass."""
    if isinstance(recipe, Generation):
        cfg = recipe.tokenizer.tokenizer
        latents = 6 * FLOAT * cfg.floats  # the sample, both noises, the prediction, its target, their difference
        return latents + _tower(recipe.dit, cfg.tokens, recipe.precision == "bf16", recompute, modulated=True)
    assert isinstance(recipe, Recipe)
    cfg, half = recipe.tokenizer, recipe.precision == "bf16"
    tubelet = 3 * cfg.stride * cfg.patch**2
    ends = 2 * (HALF if half else FLOAT) * tubelet * cfg.patches  # in and out
    pixels = 4 * FLOAT * 3 * cfg.frames * cfg.size**2  # the input, the output, their difference and its copy in order
    return ends + pixels + sum(_tower(tower, cfg.sequence, half, recompute) for tower in (cfg.encoder, cfg.decoder))


def _tower(tower: Tower, tokens: int, half: bool, recompute: float, modulated: bool = False) -> float:
    """Return the bytes that one sample keeps in a tower."""
    again = sum(is_recomputed(number, recompute) for number in range(tower.blocks))
    block = _block(tower, half, modulated)
    kept = (tower.blocks - again) * block + again * FLOAT * tower.width
    return tokens * (kept + (FLOAT + (HALF if half else FLOAT)) * tower.width)


def _block(tower: Tower, half: bool, modulated: bool) -> float:
    """Return the bytes a token keeps in a block.

    They are: the stream before attention and before the MLP; the outputs of both norms; q, k, v, then the rotated q and k; the output of
    attention and its contiguous copy; gate, up, silu(gate) and their product in the MLP; the statistics of the norms. `modulated` (adaLN)
    adds the outputs of both norms before modulation, and of both branches before their gates.
    """
    width, hidden = tower.width, tower.hidden
    stream, inner = 2 * width, 9 * width + 4 * hidden
    if modulated:
        stream, inner = stream + 2 * width, inner + 2 * width
    return FLOAT * stream + (HALF if half else FLOAT) * inner + FLOAT * (4 + tower.heads)


def _again(recipe: Training, recompute: float) -> float:
    """Return the bytes of one block whose activations are recomputed."""
    if not recompute:
        return 0.0
    half = recipe.precision == "bf16"
    if isinstance(recipe, Generation):
        return recipe.tokenizer.tokenizer.tokens * _block(recipe.dit, half, modulated=True)
    assert isinstance(recipe, Recipe)
    return recipe.tokenizer.sequence * _block(recipe.tokenizer.decoder, half, modulated=False)


def _lpips(recipe: Training, features: int) -> float:
    """Return the bytes that LPIPS keeps for one sample: every convolution's output after its ReLU, the positions of the maxima, and at each
    tap `features` tensors.

    These are the difference of the normalised features, those of the one image and those of the other.
    """
    if not isinstance(recipe, Recipe) or not recipe.loss.lpips:
        return 0.0
    each = {"convolution": FLOAT, "pooling": FLOAT + INDEX, "tap": features * FLOAT}
    layers = perceptual_layers(recipe.loss.lpips_network, recipe.tokenizer.size)
    return recipe.tokenizer.frames * sum(each[layer.kind] * layer.values for layer in layers)
