"""Stage 2 (sections 2.3 and A.3): the encoder frozen, the decoder fine-tuned on the terms of stage 1 and a GAN."""

import torch
from torch import Tensor

from vitok import losses
from vitok.errors import VitokError
from vitok.models.blocks import configure_blocks
from vitok.models.checksum import weights_digest
from vitok.models.discriminator import Discriminator
from vitok.models.tokenizer import Reconstruction, Tokenizer
from vitok.train.checkpoint.format import Saved
from vitok.train.engine.deepspeed import Engine
from vitok.train.schedule import cosine_rate, cosine_schedule
from vitok.train.tasks.inputs import TokenizerInputs, mean_terms
from vitok.train.tasks.tokenizer import TokenizerTask, load_weights

LARGEST = 1e4  # of the adaptive weight (Esser et al. 2021)


class Stage2(TokenizerTask):
    """Two engines, each with its own cut: the decoder (of `tuned` "all", the whole tokenizer), and the discriminator.

    The generator's step goes through the discriminator's module without gradients for its weights; the discriminator's step
    goes through its engine on the detached output. Both see the same reconstruction; both update at the end of the step.
    """

    def build(self, start: dict[str, Tensor] | None, saved: Saved | None) -> list[Engine]:
        """Build the tokenizer with its frozen encoder, and the discriminator; return their engines."""
        recipe, resources = self.recipe, self.resources
        assert recipe.gan is not None and start is not None
        self.gan, self.whole, self.frozen = recipe.gan, recipe.gan.tuned == "all", encoder_digest(start)
        self.model = Tokenizer(recipe.tokenizer)
        self.model.load_state_dict(start)
        if not self.whole:
            self.model.encoder.requires_grad_(False).to(self.place.device)
        trained = self.model if self.whole else self.model.decoder
        if saved:
            load_weights(trained, saved, "tokenizer")
        configure_blocks(self.model, resources.recompute, resources.compile)
        if self.gan.adaptive:
            self.model.decoder.unembed.register_forward_pre_hook(self._keep_last_tokens)
        self.engine = Engine("tokenizer", trained, recipe.optimizer, recipe, resources, self.place, recipe.ema)
        self.judge = self._discriminator(saved) if self.gan.weight else None
        return [self.engine, *([self.judge] if self.judge else [])]

    def backward(self, inputs: TokenizerInputs, step: int) -> dict[str, Tensor]:
        """Run the generator's and the discriminator's forward and backward. Return the terms of both."""
        count, each = self.resources.accumulation, list[dict[str, Tensor]]()
        for number in range(count):
            pixels, noise, kept = inputs.micro(number, count, self.place.device)
            output = self._reconstruct(pixels, noise, kept)
            output = output._replace(pixels=output.pixels.view_as(output.pixels))  # see `_balance`
            terms = losses.stage1_loss(output, pixels, self.recipe.loss, self.perceptual)
            if self.judge:
                terms = self._fool(self.judge, output.pixels, terms, step)
            self.engine.backward(terms["loss"])
            if self.judge:
                terms |= self._tell_apart(self.judge, pixels, output.pixels.detach(), step)
            if number + 1 < count:
                for engine in self.engines:
                    engine.micro_step()
            each.append(terms)
            self.posterior = output.posterior
        return mean_terms(each)

    def rates(self, step: int) -> list[float]:
        """Return the learning rates of decoder and discriminator."""
        recipe = self.recipe
        rates = [cosine_rate(recipe.optimizer, recipe.batch_size, step, recipe.steps)]
        return rates + ([self.gan.lr * cosine_schedule(recipe.optimizer.warmup, step, recipe.steps)] if self.judge else [])

    def weights(self) -> dict[str, Tensor]:
        """Gather the tokenizer's weights: the encoder's as they were, the decoder's averaged."""
        tuned = self.engine.weights(averaged=True)
        if self.whole:
            return tuned
        encoder = {f"encoder.{name}": value.cpu() for name, value in self.model.encoder.state_dict().items()}
        weights = encoder | {f"decoder.{name}": value for name, value in tuned.items()}
        if encoder_digest(weights) != self.frozen:
            raise VitokError("the frozen encoder has changed")
        return weights

    def remark(self, weights: dict[str, Tensor]) -> str:
        """Return a word on the encoder, if its weights have changed although it is frozen."""
        if self.whole:
            return f"the encoder was tuned too: SHA-256 {self.frozen} before, {encoder_digest(weights)} after"
        return f"the encoder is as it was: SHA-256 {self.frozen} before, {encoder_digest(weights)} after"

    def _discriminator(self, saved: Saved | None) -> Engine:
        recipe, cfg = self.recipe, self.recipe.tokenizer
        together = self.gan.frames == "together" and cfg.frames > 1
        model = Discriminator(cfg.size, self.gan.base_channels, 3 if together else 2, cfg.frames if together else 1)
        if saved:
            load_weights(model, saved, "discriminator")
        # Without weight decay: the weights of equalised layers have the size that they began with.
        optimizer = recipe.optimizer.model_copy(update={"weight_decay": 0.0})
        # Never stage 3: R1 differentiates through its gradients, for which all weights must stay in place.
        resources = self.resources.model_copy(update={"zero": min(2, self.resources.zero)})
        return Engine("discriminator", model, optimizer, recipe, resources, self.place)

    def _reconstruct(self, pixels: Tensor, noise: Tensor, kept: Tensor | None) -> Reconstruction:
        if self.whole:
            return self.engine(pixels, noise, kept=kept)
        video = pixels.unsqueeze(2) if pixels.ndim == 4 else pixels
        with torch.no_grad(), self.engine.autocast():
            posterior = self.model.encode(video)
        output = self.engine(posterior.sample(noise), self.model.grid(video), kept)
        return Reconstruction(output.squeeze(2) if pixels.ndim == 4 else output, posterior)

    def _fool(self, judge: Engine, fake: Tensor, terms: dict[str, Tensor], step: int) -> dict[str, Tensor]:
        """The terms with the generator's. The weight rises to its value over the ramp (2.3)."""
        judge.module.requires_grad_(False)
        with judge.autocast():
            adversarial = losses.hinge_generator(judge.module(self._seen(fake))[0])
        judge.module.requires_grad_(True)
        ramp = self.gan.ramp * self.recipe.steps
        weight = torch.tensor(self.gan.weight * min(1.0, (step + 1) / ramp) if ramp else self.gan.weight, device=fake.device)
        if self.gan.adaptive:
            ratio = self._balance(terms["loss"], adversarial, fake)
            weight = weight * ratio
            terms = terms | {"gan/adaptive": ratio}
        return terms | {"loss": terms["loss"] + weight * adversarial, "gan/generator": adversarial, "gan/weight": weight}

    def _tell_apart(self, judge: Engine, real: Tensor, fake: Tensor, step: int) -> dict[str, Tensor]:
        """The discriminator's backward pass, and how well it does: a collapse shows in its logits and its accuracy."""
        penalised = bool(self.gan.r1) and step % self.gan.r1_every == 0
        of_real, of_fake, *penalty = judge(self._seen(real), self._seen(fake).to(real.dtype), penalty=penalised)
        loss = losses.hinge_discriminator(of_real, of_fake)
        terms = {
            "gan/discriminator": loss, "gan/logit_real": of_real.mean(), "gan/logit_fake": of_fake.mean(),
            "gan/accuracy_real": (of_real > 0).float().mean(), "gan/accuracy_fake": (of_fake < 0).float().mean(),
        }  # fmt: skip
        if self.gan.r1:
            terms["gan/r1"] = self.gan.r1_every * (penalty[0] if penalised else torch.zeros_like(loss))  # on average over the steps: R1
            loss = loss + self.gan.r1 * terms["gan/r1"]
        judge.backward(loss)
        return terms

    def _balance(self, loss: Tensor, adversarial: Tensor, fake: Tensor) -> Tensor:
        """The ratio of the gradients of the two at the last layer, the mean over ranks. From `fake` on to the layer the way is
        gone once more, beside the engine, which takes any gradient through its outputs for its own backward pass."""
        last, grid = self.model.decoder.unembed, self.model.config.grid
        with torch.enable_grad(), self.engine.autocast():
            again = last(self.last_tokens.detach(), grid)
        norms: list[Tensor] = []
        for value in (loss, adversarial):
            (gradient,) = torch.autograd.grad(value, fake, retain_graph=True)
            (of_layer,) = torch.autograd.grad(again, last.weight, gradient.reshape_as(again).to(again.dtype), retain_graph=True)
            norms.append(of_layer.float().norm())
        ratio = (norms[0] / (norms[1] + 1e-4)).clamp(0, LARGEST)
        if self.place.world > 1:
            torch.distributed.all_reduce(ratio)
        return ratio / self.place.world

    def _keep_last_tokens(self, _: object, arguments: tuple[Tensor, ...]) -> None:
        self.last_tokens = arguments[0]

    def _seen(self, pixels: Tensor) -> Tensor:
        """Return what the discriminator sees of pixels (B, 3, [T,] S, S): images (N, 3, S, S)."""
        return losses.flatten_frames(pixels) if self.gan.frames == "each" else pixels


def encoder_digest(weights: dict[str, Tensor]) -> str:
    """SHA-256 of a tokenizer's encoder."""
    return weights_digest({name: value for name, value in weights.items() if name.startswith("encoder.")})
