"""How good are images generated in ViTok's latents? (Section 4.1, Table 5, Figures 16 and 17.)

The paper: DiT-XL on S-B/16, 4M steps: gFID 2.45 and gIS 284.39 at 256p (256 tokens), 3.41 and 251.46 at 512p (1024 tokens); DiT-XL/2
on SD-VAE reports 2.27 and 278.24, 3.04 and 240.82. Here one generator for each resolution, and their samples.

    python studies/image_generation.py                                       laptop: 32 and 64 pixels, 11 minutes on two cores
    python studies/image_generation.py --scale single-gpu                    128 and 256 pixels, 5 hours on one H100
    python studies/image_generation.py --scale paper --corpus imagenet:PATH  256 and 512 pixels, 520 hours of trials on 8 H100s each
"""

from vitok import Study, figures, main, presets

SIZE = "tokenizer.tokenizer.size"

study = Study(
    name="image_generation",
    source="Table 5, Figures 16 and 17",
    question="How good are images generated in ViTok's latents?",
    hypothesis="Four times the tokens at twice the resolution cost little quality.",
    paper="gFID 2.45 at 256 pixels and 3.41 at 512, where DiT-XL/2 on SD-VAE has 2.27 and 3.04 (Table 5).",
    scales={
        "laptop": presets.laptop_image_generation({SIZE: (32, 64)}),
        "single-gpu": presets.single_gpu_generation({SIZE: (128, 256)}),
        "paper": presets.paper_generation({SIZE: (256, 512)}, variant="DiT-XL", steps=4_000_000),
    },
    figure=figures.dots,
)

if __name__ == "__main__":
    main(study, __doc__)
