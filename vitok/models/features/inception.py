"""The FID Inception: the 2015 TensorFlow network that FID was defined on (Heusel et al. 2017), as torch-fidelity runs it.

Architecture, weight format, resize and forward pass are those of torch-fidelity's `FeatureExtractorInceptionV3`. torchvision's
Inception is another network: other weights, 1000 classes instead of 1008, poolings that count the padding, an antialiased resize.
"""

import io
import textwrap

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from vitok.errors import VitokError
from vitok.models.features.folding import StateDict
from vitok.models.features.output import NetworkFeatures


class Inception(nn.Module):
    """torch-fidelity's network for inference, each batch norm folded into its convolution, in channels_last.

    The features are torch-fidelity's up to float32 rounding: folded or not, they are about 3e-7 of their norm from the same network
    in float64. On two CPU cores this form takes 0.6 times as long; `python -m tests.benchmarks.metrics inception` measures both.

    `state` has the keys and shapes of weights-inception-2015-12-05-6726825d.pth; it is copied. Raises `VitokError` for others.
    """

    PREPARED = "uint8, TensorFlow 1's bilinear resize to 299 x 299, (x - 128) / 128"

    def __init__(self, state: StateDict) -> None:
        # Imported by those who measure with it: torchvision and torch's compiler come along, which takes 1.5 s.
        from torch_fidelity.feature_extractor_inceptionv3 import BasicConv2d, FeatureExtractorInceptionV3

        super().__init__()
        # The constructor unpickles the file of weights that it is given, or downloads one. It is given these tensors, written here.
        file = io.BytesIO()
        torch.save(state, file)
        file.seek(0)
        try:
            network = FeatureExtractorInceptionV3("fid-inception", ["2048", "logits_unbiased"], feature_extractor_weights_path=file)
        except RuntimeError as error:
            raise VitokError(f"weights of another network than the FID Inception: {textwrap.shorten(str(error), 200)}") from None
        for layer in network.modules():
            if isinstance(layer, BasicConv2d):  # folded in float64, so that each weight is rounded once
                layer.conv = fuse_conv_bn_eval(layer.conv.double(), layer.bn.double()).float()
                layer.add_module("bn", nn.Identity())
        self.network = network.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> NetworkFeatures:
        """Return the features of images (B, 3, H, W) uint8: pooled (B, 2048), for FID, KID, precision and recall; logits (B, 1008)
        without the bias of the last layer, from which the Inception Score of Salimans et al. 2016 takes its classes.

        Raises `ValueError` for another type or shape."""
        return NetworkFeatures(*self.network(images))
