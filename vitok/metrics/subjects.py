"""A trained tokenizer as the subject of an evaluation."""

from dataclasses import dataclass

import torch
from torch import Tensor

from vitok.baselines.subject import Coder
from vitok.config import Recipe
from vitok.models.tokenizer import Tokenizer


@dataclass(frozen=True)
class Trained:
    """Reconstructs from the mean of the posterior, in the precision of its training, as the evaluations within a run do."""

    name: str
    recipe: Recipe
    state: dict[str, Tensor]

    def open(self, device: torch.device) -> Coder:
        model = Tokenizer(self.recipe.tokenizer)
        model.load_state_dict(self.state)
        model.to(device).eval()

        def code(pixels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
            with torch.autocast(device.type, torch.bfloat16, enabled=self.recipe.precision == "bf16"):
                output = model(pixels, sample=False).pixels
            return output.float(), {}

        return code
