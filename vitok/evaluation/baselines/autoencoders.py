"""Pretrained autoencoders of Tables 2 and 3, through diffusers (an optional extra). Their weights are never pickles."""

import logging
import re
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vitok.errors import UsageError, VitokError
from vitok.evaluation.subject import Coder, by_frames
from vitok.models.checksum import weights_digest

CONFIG, WEIGHTS = "config.json", "diffusion_pytorch_model.safetensors"
AT_ONCE = 16  # images; the widest activations of one of 512 pixels are 134 MB each


@dataclass(frozen=True)
class Autoencoder:
    """A published autoencoder: its class in diffusers, its repository, its architecture."""

    name: str
    network: str  # a class of diffusers
    repo: str  # of the Hugging Face hub
    subfolder: str  # of the repository, "" for its root
    licence: str
    config: Mapping[str, Any]  # what of the class's arguments makes the architecture

    @property
    def factor(self) -> int:
        """Pixels of a side for one of the latent."""
        return side_factor(self.config)

    @property
    def pixels_per_channel(self) -> int:
        """Numbers of an image for each of its latent: Table 2 compares those with 48."""
        return 3 * self.factor**2 // self.config["latent_channels"]


KL = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
}
FLUX = KL | {"latent_channels": 16, "use_quant_conv": False, "use_post_quant_conv": False}
COSMOS = {
    "encoder_block_out_channels": (128, 256, 512, 512),
    "decode_block_out_channels": (256, 512, 512, 512),
    "attention_resolutions": (32,),
    "resolution": 1024,
    "num_layers": 2,
    "patch_size": 4,
    "latent_channels": 16,
    "spatial_compression_ratio": 8,
    "temporal_compression_ratio": 8,
}
CONSISTENCY = {
    "encoder_block_out_channels": (128, 256, 512, 512),
    "encoder_layers_per_block": 2,
    "latent_channels": 4,
    "decoder_block_out_channels": (320, 640, 1024, 1024),
    "decoder_layers_per_block": 3,
}

# Of the three kl-f8 decoders that Rombach et al.'s encoder has, ft-MSE is the one whose published COCO figures (rFID 4.70, PSNR
# 24.5, SSIM 0.71) are nearest to the "SD-VAE 2.x" of Table 2 (4.63, 24.82, 0.720). Of the Cosmos tokenizers diffusers reads only
# the video one: the CI16x16 that Table 2 must mean (48 pixels a channel) is a TorchScript program and is not among these.
AUTOENCODERS: dict[str, Autoencoder] = {
    "sd-vae": Autoencoder("SD-VAE", "AutoencoderKL", "stabilityai/sd-vae-ft-mse", "", "MIT", KL),
    "sdxl-vae": Autoencoder("SDXL-VAE", "AutoencoderKL", "stabilityai/sdxl-vae", "", "MIT", KL),
    "flux-vae": Autoencoder("Flux-VAE", "AutoencoderKL", "black-forest-labs/FLUX.1-schnell", "vae", "Apache-2.0", FLUX),
    "cosmos-cv8x8x8": Autoencoder(
        "Cosmos-CV8x8x8 on single frames", "AutoencoderKLCosmos", "nvidia/Cosmos-1.0-Tokenizer-CV8x8x8", "vae",
        "NVIDIA Open Model License", COSMOS,
    ),
    "consistency-decoder": Autoencoder(
        "Consistency Decoder", "ConsistencyDecoderVAE", "openai/consistency-decoder", "", "MIT", CONSISTENCY
    ),
}  # fmt: skip


def find_autoencoder(key: str) -> Autoencoder:
    """Return a published autoencoder by its key. Raises `UsageError`."""
    if key not in AUTOENCODERS:
        raise UsageError(f"unknown autoencoder {key!r}; known: {', '.join(AUTOENCODERS)}")
    return AUTOENCODERS[key]


@dataclass(frozen=True)
class Baseline:
    """A published autoencoder with its weights: a subject of an evaluation.

    `source` is a folder (of the network, or a copy of its repository) or a repository of the hub; the entry's own by default.
    Reconstructions are float32 and the same in every run: latents are the posterior's mean, and the consistency decoder, which samples,
    draws its noise from a generator seeded with the checksum of the image, whatever batch and device it is in.
    """

    key: str
    source: str = ""

    def __post_init__(self) -> None:
        entry = find_autoencoder(self.key)
        source = self.source or entry.repo
        # A worker has another working directory.
        object.__setattr__(self, "source", str(Path(source).resolve()) if Path(source).is_dir() else source)

    @property
    def name(self) -> str:
        """The name with the source: three networks go by the name of SD-VAE alone."""
        return f"{find_autoencoder(self.key).name} ({self.source})"

    def open(self, device: torch.device) -> Coder:
        """Open the network on a device. Raises `UsageError` (no such folder, no diffusers; later, sides that the network cannot halve)
        and `VitokError`."""
        network, vae = find_autoencoder(self.key).network, self._load().to(device)
        factor = side_factor(vae.config)

        def code(images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
            check_sides(self.name, factor, images.shape[-2], images.shape[-1])
            with torch.no_grad(), torch.autocast(device.type, enabled=False):
                parts = [_reconstruct(network, vae, part.to(device, torch.float32)) for part in images.split(AT_ONCE)]
            return torch.cat(parts), {}

        return by_frames(code)

    def digest(self) -> str:
        """Return the SHA-256 of the tensors as they are used, in float32: it tells two sources of one name apart."""
        return weights_digest(self._load().state_dict())

    def params(self) -> int:
        """Count the parameters of the network as it lies there."""
        return sum(parameter.numel() for parameter in self._load().parameters())

    def _load(self) -> Any:
        network = network_class(self.key)
        folder = self._folder()
        self._check(folder)
        try:
            with _silent():
                declared = network.load_config(folder, local_files_only=True).get("_class_name")
                if declared != network.__name__:
                    raise UsageError(f"{folder} holds {declared}, but {self.key} is {network.__name__}")
                vae, gaps = network.from_pretrained(
                    folder, local_files_only=True, use_safetensors=True, torch_dtype=torch.float32, low_cpu_mem_usage=False,
                    output_loading_info=True,
                )  # fmt: skip
        except VitokError:
            raise
        except Exception as error:  # of a broken file diffusers and safetensors raise many kinds
            raise self._unavailable(f"{folder}: {_line(error)}") from None
        strangers = [str(name) for names in gaps.values() for name in names]
        if strangers:  # diffusers would have made up what is missing
            raise VitokError(f"{folder}: config and weights are of different networks, beginning with {sorted(strangers)[0]}")
        return vae.eval().requires_grad_(False)

    def _folder(self) -> Path:
        """Return the folder of the two files, after a download if `source` is a repository."""
        subfolder = find_autoencoder(self.key).subfolder
        local = Path(self.source)
        if local.is_dir():
            return local / subfolder if (local / subfolder).is_dir() else local
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", self.source):
            raise UsageError(f"{self.source} is neither a folder nor the name of a repository (OWNER/NAME)")
        from huggingface_hub import hf_hub_download

        try:
            paths = [hf_hub_download(self.source, file, subfolder=subfolder or None) for file in (CONFIG, WEIGHTS)]
        except (OSError, ValueError) as error:
            raise self._unavailable(f"no folder {self.source}, and the hub's repository: {_line(error)}") from None
        return Path(paths[0]).parent

    def _check(self, folder: Path) -> None:
        absent = [file for file in (CONFIG, WEIGHTS) if not (folder / file).is_file()]
        pickles = sorted(path.name for path in folder.iterdir() if path.suffix in (".bin", ".ckpt", ".pt", ".pth"))
        if WEIGHTS in absent and pickles:
            raise self._unavailable(f"{folder} has no {WEIGHTS}, and {pickles[0]} is a pickle: opening it would run what is in it")
        if absent:
            raise self._unavailable(f"{folder} has no {' and no '.join(absent)}")

    def _unavailable(self, reason: str) -> VitokError:
        entry = find_autoencoder(self.key)
        files = " ".join(f"{entry.subfolder}/{file}".lstrip("/") for file in (CONFIG, WEIGHTS))
        return VitokError(
            f"no weights for {self.key}: {reason}. `hf download {entry.repo} {files} --local-dir DIR` where the hub is reached, "
            "then --path DIR"
        )


def network_class(key: str) -> Any:
    """The class of diffusers. Raises `UsageError` without it."""
    try:
        import diffusers
    except ImportError:
        raise UsageError(f"{key} needs diffusers: pip install 'vitok[baselines]'") from None
    return getattr(diffusers, find_autoencoder(key).network)


def side_factor(config: Mapping[str, Any]) -> int:
    """Pixels of a side for each position of the latent."""
    blocks = config.get("block_out_channels") or config["encoder_block_out_channels"]
    return config.get("spatial_compression_ratio") or 2 ** (len(blocks) - 1)


def check_sides(name: str, factor: int, height: int, width: int) -> None:
    """Raise `UsageError` for images whose sides the network cannot halve."""
    if height % factor or width % factor:
        raise UsageError(f"{name} takes images whose sides are multiples of {factor}, not {height} x {width}")


def encode(network: str, vae: Any, images: Tensor) -> Tensor:
    """(B, 3, H, W) -> the mean of the posterior, unscaled: scaling is for a diffusion model, and `decode` takes it as it is."""
    if network == "AutoencoderKLCosmos":
        images = images.unsqueeze(2)  # a clip of one frame, which its first latent frame codes alone
    return vae.encode(images).latent_dist.mode()


def _reconstruct(network: str, vae: Any, images: Tensor) -> Tensor:
    latents = encode(network, vae, images)
    if network == "ConsistencyDecoderVAE":
        # On the CPU, where a seed gives the same noise for every device.
        noise = [torch.Generator().manual_seed(_checksum(image)) for image in images]
        return vae.decode(latents, generator=noise).sample
    pixels = vae.decode(latents).sample
    return pixels.squeeze(2) if network == "AutoencoderKLCosmos" else pixels


def _checksum(image: Tensor) -> int:
    return zlib.crc32(((image + 1) * 127.5).round().clamp(0, 255).to("cpu", torch.uint8).numpy().tobytes())


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300].rstrip(". ")


@contextmanager
def _silent() -> Iterator[None]:
    """Without what diffusers has to say of a folder: it is all in the error."""
    logger = logging.getLogger("diffusers")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
