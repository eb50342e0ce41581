"""Inception Score (Salimans et al. 2016): high if the classifier is certain of each image and the classes of all images vary."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

SPLITS, SEED = 10, 2020  # torch-fidelity's


class ScoreOverSplits(NamedTuple):
    """The Inception Score: mean and standard deviation over the splits."""

    mean: float
    deviation: float  # over the splits


class InceptionScore:
    """Accumulator of the Inception Score of `count` samples, which come in any order; memory grows with the classes alone.

    The splits are torch-fidelity's: sample number i is in the same split. Accumulators of parts of a set merge.
    """

    def __init__(self, count: int, classes: int) -> None:
        order = np.random.RandomState(SEED).permutation(count)
        self.split = np.empty(count, np.int8)
        for number in range(SPLITS):
            self.split[order[number * count // SPLITS : (number + 1) * count // SPLITS]] = number
        self.seen = torch.zeros(SPLITS, dtype=torch.float64)
        self.certainty = torch.zeros(SPLITS, dtype=torch.float64)  # sum over samples of sum p log p
        self.classes = torch.zeros(SPLITS, classes, dtype=torch.float64)  # sum over samples of p

    def add(self, numbers: np.ndarray, logits: Tensor) -> None:
        """Add the logits (B, K) of the samples with these numbers, 0 .. count - 1."""
        log_p = logits.detach().cpu().double().log_softmax(1)
        p, split = log_p.exp(), torch.from_numpy(self.split[numbers].astype(np.int64))
        self.seen.index_add_(0, split, torch.ones(len(split), dtype=torch.float64))
        self.certainty.index_add_(0, split, (p * log_p).sum(1))
        self.classes.index_add_(0, split, p)

    def merge(self, other: "InceptionScore") -> None:
        """Add the samples of another part of the set."""
        self.seen += other.seen
        self.certainty += other.certainty
        self.classes += other.classes

    def score(self) -> ScoreOverSplits:
        """Return the mean and the deviation over splits of exp(the mean divergence of a sample's classes from those of its split).

        A split whose samples were all unusable is left out.
        """
        there = self.seen > 0
        marginal = self.classes[there] / self.seen[there].unsqueeze(1)
        divergence = self.certainty[there] / self.seen[there] - torch.special.xlogy(marginal, marginal).sum(1)
        scores = divergence.exp().numpy()
        return ScoreOverSplits(float(scores.mean()), float(scores.std()))
