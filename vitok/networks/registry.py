"""Registry of the pretrained networks that metrics and losses use: file, hash, licence, sources."""

from dataclasses import dataclass
from typing import Literal

from vitok.errors import UsageError


@dataclass(frozen=True)
class Network:
    """A pretrained network: the file of its weights, its hash and its sources."""

    name: str
    file: str  # file name in VITOK_WEIGHTS_DIR and in the cache
    sha256: str  # hash of the tensors (see `models.checksum`) if the file is safetensors, else of the file
    licence: str
    used_for: str
    sources: tuple[Literal["torch hub", "package index"], ...] = ()  # beside the two folders, in order
    url: str = ""  # download address; the page to get the file from if it can only be downloaded by hand

    @property
    def how(self) -> str:
        """The instructions for a user without the weights."""
        if self.file.endswith(".safetensors"):
            where = " or ".join(("the package index" if source == "package index" else source) for source in self.sources)
            return f"`vitok weights fetch {self.name}` where {where} is reached, and `vitok weights import {self.name} FILE` here"
        return f"download {self.url}, then `vitok weights import {self.name} FILE`"


NETWORKS = {
    network.name: network
    for network in (
        Network(
            "fid-inception", "weights-inception-2015-12-05-6726825d.pth",
            "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2", "Apache-2.0",
            "FID, IS, KID, precision, recall (Heusel et al. 2017; as torch-fidelity)", ("torch hub",),
            "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
        ),
        Network(
            "i3d", "i3d_torchscript.pt", "bec6519f66ea534e953026b4ae2c65553c17bf105611c746d904657e5860a5e2",
            "Apache-2.0 (Kinetics-400 I3D)", "FVD (Unterthiner et al. 2019; as StyleGAN-V and LARP)", (),
            "https://www.dropbox.com/s/ge9e5ujwgetktms/i3d_torchscript.pt",
        ),
        Network(
            "efficientnet-lite0", "efficientnet-lite0.safetensors",
            "b9f9e408690baf6fb2869c37c9e2bd719553d32fb565c3a679b133d182cb9c92", "Apache-2.0",
            "FD-EffLite0: the Fréchet distance where no file of Inception is at hand; not FID", ("package index",),
        ),
        Network(
            "dinov2-vitl14", "dinov2_vitl14_pretrain.pth", "d5383ea8f4877b2472eb973e0fd72d557c7da5d3611bd527ceeb1d7162cbf428",
            "Apache-2.0", "FD-DINOv2 (Stein et al. 2023; as EDM2)", ("torch hub",),
            "https://dl.fbaipublicfiles.com/dinov2/dinov2_vitl14/dinov2_vitl14_pretrain.pth",
        ),
        Network(
            "lpips-alexnet", "lpips-alexnet.safetensors", "de4948db27652c8bca777dd9eacbaf8d8e310e461e50703ad36c4e3899f1bd42",
            "BSD-2-Clause (LPIPS heads), BSD-3-Clause (torchvision trunk)", "LPIPS, the metric (Zhang et al. 2018)",
            ("torch hub", "package index"),
        ),
        Network(
            "lpips-vgg16", "lpips-vgg16.safetensors", "a6def0f2725ec72431b8b054ed34384acee359573af7a95780b69c8678456fc8",
            "BSD-2-Clause (LPIPS heads), BSD-3-Clause (torchvision trunk)", "LPIPS, the training loss (section 2.1); LPIPS-VGG16",
            ("torch hub", "package index"),
        ),
    )
}  # fmt: skip


def find_network(name: str) -> Network:
    """Return a network by name. Raises `UsageError` for an unknown one."""
    if name not in NETWORKS:
        raise UsageError(f"unknown network {name!r}; known: {', '.join(NETWORKS)}")
    return NETWORKS[name]
