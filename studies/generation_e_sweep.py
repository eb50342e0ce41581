"""What is a larger latent worth to a generator? (Section 3.2, Figures 4 and 18 to 20.)

The paper: not what it is worth to reconstruction. gFID and gIS have no linear trend in log E, but an optimum for each patch
size (Finding 2): a small E reconstructs badly, many channels are hard to generate. A DiT is trained on the latents of every
tokenizer of the E sweep; tokenizers that are finished are taken as they are, the others are trained first.

    python studies/generation_e_sweep.py                     laptop: 10 generators, about 17 minutes on two cores, no GPU
    python studies/generation_e_sweep.py --scale single-gpu  9 generators, 14 hours on one H100
    python studies/generation_e_sweep.py --scale paper       15 generators, 458 hours of trials on 8 H100s each, tokenizers included

At laptop scale gFID is not measured but the same on EfficientNet-Lite0, on crops of twelve photographs, each a class.
"""

from vitok import Study, claims, figures, fits, main, presets

P, C = "tokenizer.tokenizer.patch", "tokenizer.tokenizer.channels"

study = Study(
    name="generation_e_sweep",
    source="Figures 4, 18, 19 and 20",
    question="Does a larger E make a better generator?",
    hypothesis="log gFID follows log E as a parabola: each patch size has its claims.",
    paper="Scaling E does not consistently improve generation; each patch size has an optimal E (Finding 2).",
    scales={
        "laptop": presets.laptop_generation({P: (4, 8), C: (4, 8, 16, 32, 64)}),
        "single-gpu": presets.single_gpu_generation({P: (8, 16, 32), C: (4, 16, 64)}),
        "paper": presets.paper_generation({P: (8, 16, 32), C: (4, 8, 16, 32, 64)}),
    },
    fit=fits.parabolas,
    figure=figures.generation_over_floats,
    claims=(
        claims.has_optimum(("gFID", "gFD-EffLite0"), source="Finding 2, Figure 4"),
        claims.no_slope(("gFID", "gFD-EffLite0"), at_most=0.7, source="Finding 2, Figure 4"),
    ),
)

if __name__ == "__main__":
    main(study, __doc__)
