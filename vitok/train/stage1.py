"""Stage 1 (section 2.3): the whole auto-encoder on L2 (or L1) + KL + LPIPS."""

from torch import Tensor

from vitok import losses
from vitok.models.blocks import prepare
from vitok.models.tokenizer import Tokenizer
from vitok.train.engine import Engine
from vitok.train.inputs import Inputs, mean_terms
from vitok.train.loop import learning_rate
from vitok.train.saved import Saved
from vitok.train.tokenizer import TokenizerTask, load_weights


class Stage1(TokenizerTask):
    def build(self, start: dict[str, Tensor] | None, saved: Saved | None) -> list[Engine]:
        model = Tokenizer(self.recipe.tokenizer)
        if start:
            model.load_state_dict(start)
        if saved:
            load_weights(model, saved, "tokenizer")
        prepare(model, self.resources.recompute, self.resources.compile)
        self.engine = Engine("tokenizer", model, self.recipe.optimizer, self.recipe, self.resources, self.place, self.recipe.ema)
        return [self.engine]

    def backward(self, inputs: Inputs, step: int) -> dict[str, Tensor]:
        count, each = self.resources.accumulation, list[dict[str, Tensor]]()
        for number in range(count):
            pixels, noise, kept = inputs.micro(number, count, self.place.device)
            output = self.engine(pixels, noise, kept=kept)
            terms = losses.stage1(output, pixels, self.recipe.loss, self.perceptual)
            self.engine.backward(terms["loss"])
            if number + 1 < count:
                self.engine.micro_step()
            each.append(terms)
            self.posterior = output.posterior
        return mean_terms(each)

    def rates(self, step: int) -> list[float]:
        return [learning_rate(self.recipe.optimizer, self.recipe.batch_size, step, self.recipe.steps)]

    def weights(self) -> dict[str, Tensor]:
        return self.engine.weights(averaged=True)
