"""What a stage 1 step needs of a device's memory: arithmetic on the config, by what is kept until the backward pass.

All weights, gradients and moments are float32 (2.3: bf16 is autocast); ZeRO cuts them as its stages say. A block compiled by
torch keeps less than is counted here; CUDA's own context (about 0.5 GB) and its libraries' workspaces come on top.
"""

from vitok import variants
from vitok.accounting import cost
from vitok.config import Recipe, Resources, Tower

FLOAT, HALF, INDEX = 4, 2, 8  # bytes
BUCKET = 25_000_000  # elements of ZeRO's collectives: an all-reduce of 100 MB runs at the speed of the links
STAGE0_BUCKET = 500_000_000  # elements of DeepSpeed's all-reduce without ZeRO


def step_memory(recipe: Recipe, resources: Resources) -> dict[str, float]:
    """Bytes on one device at the peak of a step, by term, and "peak", their sum.

    The peak comes either at the end of the forward pass, when all activations are kept, or when all gradients are there.
    """
    cfg, stage, workers = recipe.tokenizer, resources.zero, resources.workers
    params = cost(cfg).params
    samples = recipe.batch_size // (workers * resources.accumulation)
    kept = _kept(params, stage, workers, resources.offload) | ({"average": FLOAT * params / workers} if recipe.ema else {})
    forward = {
        "activations": samples * _activations(recipe, resources.recompute),
        "lpips": samples * cfg.frames * lpips_bytes(recipe.loss.lpips_network, cfg.size) if recipe.loss.lpips else 0.0,
        "bf16 weights": HALF * params if recipe.precision == "bf16" else 0.0,
    }
    if stage == 3:
        forward["gathered"] = _gathered(params, workers)
    backward = {"gradients": _gradients(params, stage, workers)}
    peak = max((forward, backward), key=lambda terms: sum(terms.values()))
    terms = kept | {name: value for name, value in peak.items() if value}
    return terms | {"peak": sum(terms.values())}


def _kept(params: int, stage: int, workers: int, offload: bool) -> dict[str, float]:
    """From one step to the next. With ZeRO the optimizer has its own copy of the weights."""
    if stage == 0:
        return {"weights": FLOAT * params, "moments": 2 * FLOAT * params}
    optimizer = 0.0 if offload else 3 * FLOAT * params / workers
    return {"weights": FLOAT * params / (workers if stage == 3 else 1), "optimizer": optimizer} | (
        {"gradient buffers": 2 * FLOAT * params / workers} if stage == 3 else {}
    )


def _gradients(params: int, stage: int, workers: int) -> float:
    """All of them, and the flat copy that is reduced (stage 0) or that the optimizer takes."""
    if stage == 0:
        return FLOAT * (params + min(params, STAGE0_BUCKET))
    if stage == 1:
        return FLOAT * (params + params / workers)
    bucket = FLOAT * min(params, BUCKET)
    return bucket + 2 * FLOAT * params / workers if stage == 2 else bucket + _gathered(params, workers)


def _gathered(params: int, workers: int) -> float:
    """Weights of ZeRO-3 that are whole for a while."""
    return FLOAT * min(params, 2 * BUCKET)


def _activations(recipe: Recipe, recompute: float) -> float:
    """Bytes that one sample keeps for the backward pass."""
    cfg, half = recipe.tokenizer, recipe.precision == "bf16"
    tubelet = 3 * cfg.stride * cfg.patch**2
    ends = 2 * (HALF if half else FLOAT) * tubelet * cfg.tokens  # patches in and out
    pixels = 4 * FLOAT * 3 * cfg.frames * cfg.size**2  # the input, the output, their difference and its copy in order
    return ends + pixels + sum(_tower(tower, cfg.tokens, half, recompute) for tower in (cfg.encoder, cfg.decoder))


def _tower(tower: Tower, tokens: int, half: bool, recompute: float) -> float:
    again = round(tower.blocks * recompute)
    block = _block(tower, half)
    kept = (tower.blocks - again) * block + again * FLOAT * tower.width
    return tokens * (kept + (block if again else 0) + (FLOAT + (HALF if half else FLOAT)) * tower.width)


def _block(tower: Tower, half: bool) -> float:
    """Bytes a token: the stream before attention and before the MLP; the outputs of both norms; q, k, v, then q and k turned; what
    attention gives and its copy in order; of the MLP gate, up, silu(gate) and their product. And the norms' statistics."""
    width, hidden = tower.width, tower.hidden
    stream, inner = 2 * width, 9 * width + 4 * hidden
    return FLOAT * stream + (HALF if half else FLOAT) * inner + FLOAT * (4 + tower.heads)


def lpips_bytes(trunk: str, size: int) -> float:
    """Of one image: every convolution's output after its ReLU, the places of the maxima; at each tap the normalised features of
    both images and their difference."""
    total, channels, side = 0.0, 3, size
    for layer in variants.PERCEPTUAL[trunk]:
        if isinstance(layer, str):
            total += 3 * FLOAT * channels * side * side
        elif len(layer) == 2:
            side = (side - layer[0]) // layer[1] + 1
            total += (FLOAT + INDEX) * channels * side * side
        else:
            channels, kernel, stride, padding = layer
            side = (side + 2 * padding - kernel) // stride + 1
            total += FLOAT * channels * side * side
    return total
