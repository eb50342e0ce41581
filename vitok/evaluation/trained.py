"""A trained tokenizer as the subject of an evaluation."""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from vitok.config import Recipe, variants
from vitok.errors import UsageError
from vitok.evaluation.subject import Coder
from vitok.metrics.nested_prefix import Prefix
from vitok.models.tokenizer import Tokenizer


@dataclass(frozen=True)
class Trained:
    """A trained tokenizer. It reconstructs from the mean of the posterior, in the precision of its training, as the evaluations within a
    run do."""

    name: str
    recipe: Recipe
    state: dict[str, Tensor]
    prefix: Prefix | None = None  # of a nested code, all that is decoded

    @classmethod
    def read(cls, name: str, recipe: Recipe, path: Path) -> "Trained":
        """Read the weights. Raises `UsageError` for a file that is damaged, or of another tokenizer than the recipe's."""
        try:
            state = load_file(path)
        except (OSError, SafetensorError) as error:
            raise UsageError(f"{path} cannot be read: {error}") from None
        with torch.device("meta"):
            own = Tokenizer(recipe.tokenizer).state_dict()
        wrong = sorted(state.keys() ^ own.keys()) or [key for key in own if own[key].shape != state[key].shape]
        if wrong:
            raise UsageError(
                f"{path} is of another tokenizer than the recipe beside it: {wrong[0]} is missing, unknown or of another shape"
            )
        return cls(name, recipe, state)

    def first(self, tokens: int, size: int, frames: int) -> "Trained":
        """Return the tokenizer that reconstructs from the first tokens of its nested code alone (A.4), for samples of so many pixels and
        frames; for all tokens as it is. Raises `UsageError` for a tokenizer that is not nested, and for more tokens than there are."""
        cfg = self.recipe.tokenizer
        whole = math.prod(cfg.code_of((frames // cfg.stride, size // cfg.patch, size // cfg.patch)))
        if not cfg.shortest:
            raise UsageError(f"--tokens {tokens}: {variants.variant_name(cfg)} is not nested, all {whole} tokens of its code are needed")
        if not 1 <= tokens <= whole:
            raise UsageError(f"--tokens {tokens}: the code of {variants.variant_name(cfg)} has 1 to {whole}")
        if tokens == whole:
            return self
        prefix = Prefix(tokens, whole)
        return replace(self, name=f"{self.name}, {prefix}", prefix=prefix)

    def open(self, device: torch.device) -> Coder:
        """Open the tokenizer on a device."""
        model = Tokenizer(self.recipe.tokenizer)
        model.load_state_dict(self.state)
        model.to(device).eval()

        def code(pixels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
            with torch.autocast(device.type, torch.bfloat16, enabled=self.recipe.precision == "bf16"):
                output = model(pixels, sample=False, kept=self.prefix and self.prefix.of_each(pixels)).pixels
            return output.float(), {}

        return code
