"""Baselines against diffusers itself, on networks of the same classes but few weights; their cost against torch's own counter."""

import pickle
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderKLCosmos, ConsistencyDecoderVAE
from safetensors.torch import load_file, save_file
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from tests.models.test_lpips import photographs
from vitok.costs.flops import MACS_PER_NORM_ELEMENT
from vitok.errors import UsageError, VitokError
from vitok.evaluation.baselines.autoencoders import AUTOENCODERS, WEIGHTS, Baseline, network_class
from vitok.evaluation.baselines.cost import cost

CPU = torch.device("cpu")


def tiny(kind: str) -> Any:
    torch.manual_seed(0)
    if kind == "kl":
        return AutoencoderKL(
            block_out_channels=(8, 16), down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
            norm_num_groups=4,
        )  # fmt: skip
    if kind == "cosmos":
        return AutoencoderKLCosmos(
            encoder_block_out_channels=(8, 8, 8), decode_block_out_channels=(8, 8, 8), num_layers=1, latents_mean=None, latents_std=None
        )
    return ConsistencyDecoderVAE(
        encoder_block_out_channels=(8, 8), encoder_down_block_types=("DownEncoderBlock2D",) * 2, encoder_norm_num_groups=4,
        decoder_block_out_channels=(16, 16), decoder_down_block_types=("ResnetDownsampleBlock2D",) * 2,
        decoder_up_block_types=("ResnetUpsampleBlock2D",) * 2, decoder_norm_num_groups=4, decoder_layers_per_block=1,
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small network of SD-VAE's class."""
    tiny("kl").save_pretrained(tmp_path, safe_serialization=True)
    return tmp_path


def test_reconstructs_as_diffusers_does(folder: Path) -> None:
    x = photographs(32)
    y, values = Baseline("sd-vae", str(folder)).open(CPU)(x)
    assert torch.equal(y, tiny("kl").eval()(x, sample_posterior=False).sample) and values == {}
    assert y.dtype == torch.float32 and not y.requires_grad


def test_cosmos_takes_images_as_clips_of_one_frame(tmp_path: Path) -> None:
    tiny("cosmos").save_pretrained(tmp_path, safe_serialization=True)
    x = photographs(32)
    y, _ = Baseline("cosmos-cv8x8x8", str(tmp_path)).open(CPU)(x)
    assert torch.equal(y, tiny("cosmos").eval()(x[:, :, None], sample_posterior=False).sample[:, :, 0])


def test_the_consistency_decoder_draws_the_noise_of_an_image_from_the_image(tmp_path: Path) -> None:
    tiny("consistency").save_pretrained(tmp_path, safe_serialization=True)
    coder = Baseline("consistency-decoder", str(tmp_path)).open(CPU)
    x = photographs(32)
    together, _ = coder(x)
    torch.manual_seed(1)
    backwards, _ = coder(x.flip(0))
    assert (together - backwards.flip(0)).abs().max() < 1e-4
    vae = tiny("consistency").eval()
    with torch.no_grad():
        first = vae.decode(vae.encode(x[:1]).latent_dist.mean, generator=torch.Generator().manual_seed(0)).sample
    assert first.shape == x[:1].shape and (first - together[:1]).abs().max() > 0.01


def test_a_clip_is_coded_frame_by_frame_in_whatever_portions(folder: Path) -> None:
    coder = Baseline("sd-vae", str(folder)).open(CPU)
    x = photographs(16).repeat(5, 1, 1, 1)
    clips = x.unflatten(0, (2, 10)).transpose(1, 2)
    assert (coder(clips)[0].transpose(1, 2).flatten(0, 1) - coder(x)[0]).abs().max() < 1e-5


def test_autocast_does_not_reach_inside(folder: Path) -> None:
    coder, x = Baseline("sd-vae", str(folder)).open(CPU), photographs(16)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(coder(x)[0], Baseline("sd-vae", str(folder)).open(CPU)(x)[0])


def test_a_copy_of_the_whole_repository_will_do(tmp_path: Path) -> None:
    tiny("kl").save_pretrained(tmp_path / "vae", safe_serialization=True)
    assert Baseline("flux-vae", str(tmp_path)).digest() == Baseline("flux-vae", str(tmp_path / "vae")).digest()


def test_weights_with_the_names_of_2022_are_read(folder: Path) -> None:
    """As the repository of ft-MSE has them: its attention is called query, key, value, proj_attn."""
    expected = Baseline("sd-vae", str(folder)).digest()
    state, old = load_file(folder / WEIGHTS), {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    for new, name in old.items():
        state = {key.replace(f".{new}.", f".{name}."): value for key, value in state.items()}
    save_file(state, folder / WEIGHTS, {"format": "pt"})
    assert Baseline("sd-vae", str(folder)).digest() == expected


def test_the_digest_is_of_the_tensors_in_float32(folder: Path) -> None:
    before = Baseline("sd-vae", str(folder)).digest()
    state = {key: value.bfloat16() for key, value in load_file(folder / WEIGHTS).items()}
    save_file(state, folder / WEIGHTS, {"format": "pt"})
    rounded = Baseline("sd-vae", str(folder)).digest()
    save_file({key: value.float() for key, value in state.items()}, folder / WEIGHTS, {"format": "pt"})
    assert before != rounded == Baseline("sd-vae", str(folder)).digest() and len(before) == 64


def test_the_name_states_the_source_and_it_can_be_pickled(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Baseline("sd-vae").name == "SD-VAE (stabilityai/sd-vae-ft-mse)"
    monkeypatch.chdir(folder.parent)
    baseline = pickle.loads(pickle.dumps(Baseline("sd-vae", folder.name)))
    assert baseline == Baseline("sd-vae", str(folder)) and baseline.name == f"SD-VAE ({folder})"


def test_sides_that_are_no_multiple_are_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match="multiples of 2, not 33 x 32"):
        Baseline("sd-vae", str(folder)).open(CPU)(torch.zeros(1, 3, 33, 32))
    with pytest.raises(UsageError, match="SD-VAE takes images whose sides are multiples of 8, not 250 x 250"):
        cost("sd-vae", 250)


def test_a_pickle_is_refused(tmp_path: Path) -> None:
    tiny("kl").save_pretrained(tmp_path, safe_serialization=False)
    assert not (tmp_path / WEIGHTS).exists()
    with pytest.raises(VitokError, match=r"diffusion_pytorch_model.bin is a pickle.*hf download stabilityai/sd-vae-ft-mse config.json"):
        Baseline("sd-vae", str(tmp_path)).open(CPU)


def test_a_folder_that_is_not_there_or_lacks_files_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="neither a folder nor the name of a repository"):
        Baseline("sd-vae", str(tmp_path / "none")).open(CPU)
    with pytest.raises(
        VitokError, match=r"has no config.json and no diffusion.*hf download black-forest-labs/FLUX.1-schnell vae/config.json"
    ):
        Baseline("flux-vae", str(tmp_path)).digest()


def test_a_hub_out_of_reach_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(VitokError, match=r"no folder nobody/nothing.*hf download") as caught:
        Baseline("sd-vae", "nobody/nothing").open(CPU)
    assert "\n" not in str(caught.value)


def test_a_network_of_another_class_is_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match="holds AutoencoderKL, but cosmos-cv8x8x8 is AutoencoderKLCosmos"):
        Baseline("cosmos-cv8x8x8", str(folder)).open(CPU)


def test_nothing_that_is_missing_is_made_up(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    state = load_file(folder / WEIGHTS)
    state.pop("decoder.conv_out.bias")
    save_file(state, folder / WEIGHTS, {"format": "pt"})
    with pytest.raises(VitokError, match=r"different networks, beginning with decoder.conv_out.bias"):
        Baseline("sd-vae", str(folder)).open(CPU)
    (folder / WEIGHTS).write_bytes(b"damaged")
    with pytest.raises(VitokError, match="no weights for sd-vae") as caught:
        Baseline("sd-vae", str(folder)).open(CPU)
    assert "\n" not in str(caught.value) and capfd.readouterr().err == ""


def test_without_diffusers_the_extra_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    for ask in (Baseline("sd-vae", str(folder)).digest, lambda: cost("sd-vae", 256)):
        with pytest.raises(UsageError, match=r"sd-vae needs diffusers: pip install 'vitok\[baselines\]'"):
            ask()


def test_an_unknown_autoencoder_is_said() -> None:
    for ask in (lambda: Baseline("cosmos-ci", "somewhere"), lambda: cost("cosmos-ci", 256)):
        with pytest.raises(UsageError, match="unknown autoencoder 'cosmos-ci'; known: sd-vae, sdxl-vae"):
            ask()


@pytest.mark.parametrize("key", AUTOENCODERS)
def test_cost_equals_the_flop_counter_and_five_for_each_element_of_a_norm(key: str) -> None:
    size, entry = 256, AUTOENCODERS[key]
    with torch.device("meta"):
        vae, x = network_class(key)(**entry.config).to("meta"), torch.zeros(1, 3, size, size)
    macs, elements = [], [0]
    for module in vae.modules():
        if isinstance(module, nn.GroupNorm):
            module.register_forward_hook(lambda _module, _args, output: elements.append(elements.pop() + output.numel()))
    frames = x[:, :, None] if "cosmos" in key else x
    latents = torch.zeros(1, entry.config["latent_channels"], *(() if frames.ndim == 4 else (1,)), size // 8, size // 8, device="meta")
    for half in ("encoder", "decoder"):
        elements[0] = 0
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            if half == "encoder":
                vae.encode(frames)
            elif key == "consistency-decoder":
                for _ in range(2):
                    vae.decoder_unet(torch.zeros(1, 7, size, size, device="meta"), torch.zeros((), device="meta", dtype=torch.long))
            else:
                vae.decode(latents)
        macs.append(counter.get_total_flops() // 2 + MACS_PER_NORM_ELEMENT * elements[0])
    ours = cost(key, size)
    assert [ours.encoder_macs, ours.decoder_macs] == macs
    assert ours.params == sum(p.numel() for p in vae.parameters())


def test_what_is_known_of_the_sd_vae() -> None:
    price = cost("sd-vae", 256)
    assert (price.encoder_params, price.decoder_params) == (34_163_664, 49_490_199)
    assert {key: entry.pixels_per_channel for key, entry in AUTOENCODERS.items()} == {
        "sd-vae": 48, "sdxl-vae": 48, "flux-vae": 12, "cosmos-cv8x8x8": 12, "consistency-decoder": 48
    }  # fmt: skip
