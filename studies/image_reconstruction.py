"""How do whole tokenizers compare with others? (Section 4.1, Tables 2 and 3.)

The paper: ViTok S-B/16 after both stages has rFID 0.50 and rPSNR 24.36 on ImageNet at 256 pixels, S-L/16 0.46 and 24.74, SD-VAE 0.78 and
25.08; at 512 pixels 0.18 against 0.19. Here both stages of two sizes of decoder, and beside them what reconstructs the same views:
codecs at the bits of the latent (16 a float), and at larger scales the autoencoders whose weights diffusers reads.

    python studies/image_reconstruction.py                                       laptop: 4 cells and 3 codecs, about 5 minutes on two cores
    python studies/image_reconstruction.py --scale single-gpu                    4 cells, 4 baselines, 7 hours on one H100
    python studies/image_reconstruction.py --scale paper --corpus imagenet:PATH  6 cells, 6 baselines, 189 hours of trials on 8 H100s each
"""

from vitok import Study, claims, figures, main, presets

NAME, SIZE = "tokenizer.variant", "tokenizer.size"

study = Study(
    name="image_reconstruction",
    source="Tables 2 and 3",
    question="How do whole tokenizers compare with others?",
    hypothesis="At 48 pixels a channel a larger decoder improves every number; a GAN buys rFID with rPSNR.",
    paper="S-B/16 reaches rFID 0.50 at 256 pixels and 0.18 at 512; S-L/16 improves all numbers (Tables 2 and 3).",
    scales={
        "laptop": presets.second_stage(presets.laptop(), "laptop", {NAME: ("T-M/8", "T-W/8")})
        .with_parents()
        .beside("jpeg", "webp", "avif"),
        "single-gpu": presets.second_stage(presets.single_gpu(), "single-gpu", {NAME: ("S-B/16", "S-L/16")})
        .with_parents()
        .beside("sd-vae", "jpeg", "webp", "avif"),
        "paper": presets.second_stage(presets.paper(), "paper", {NAME: ("S-B/16", "S-L/16")}, {NAME: ("S-B/16",), SIZE: (512,)})
        .with_parents()
        .on(accumulation=8, recompute=1.0)
        .beside("sd-vae", "sdxl-vae", "consistency-decoder", "jpeg", "webp", "avif"),
    },
    figure=figures.dots,
    claims=(
        claims.scaling_helps("rPSNR", at_least=0.1, matched_on=("encoder_params_m", "stage", "size"), source="Table 2"),
        claims.scaling_helps("rSSIM", at_least=0.005, matched_on=("encoder_params_m", "stage", "size"), source="Table 2"),
    ),
    fronts=(("gmacs", "rPSNR"), ("gmacs", "LPIPS")),
)

if __name__ == "__main__":
    main(study, __doc__)
