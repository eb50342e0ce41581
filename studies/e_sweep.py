"""Is E = L * c, the number of floats in the latent, the bottleneck of reconstruction? (Section 3.1, Figures 3 and 11.)

The paper: yes. rFID falls and the other metrics improve along log E, whatever the patch size p and the channels c that
make up E (Finding 1). Here PSNR, SSIM, LPIPS and a Fréchet distance are measured on held-out photographs: at laptop scale
not FID, but the same on EfficientNet-Lite0.

    python studies/e_sweep.py                     laptop: 8 cells, about 5 minutes on two cores, no GPU
    python studies/e_sweep.py --scale single-gpu  9 cells, 6.5 hours on one H100
    python studies/e_sweep.py --scale paper       15 cells from 2^8 to 2^16, 237 hours of trials on 8 H100s each

Expected at laptop scale: rPSNR from 22 dB to 35 dB, Pearson r with log2 E about 0.98.
"""

from vitok import Study, claims, figures, fits, main, presets

study = Study(
    name="e_sweep",
    source="Figures 3 and 11",
    question="Is E = L · c the bottleneck of reconstruction?",
    hypothesis="Reconstruction improves linearly with log E, and at equal E it does not matter which p and c make it up.",
    paper="E is the most predictive bottleneck of reconstruction, regardless of the code's shape or of FLOPs (Finding 1).",
    scales={
        "laptop": presets.laptop({"tokenizer.patch": (4, 8), "tokenizer.channels": (4, 8, 16, 32)}),
        "single-gpu": presets.single_gpu({"tokenizer.patch": (8, 16, 32), "tokenizer.channels": (4, 16, 64)}),
        "paper": presets.paper({"tokenizer.patch": (8, 16, 32), "tokenizer.channels": (4, 8, 16, 32, 64)}),
    },
    fit=fits.log_linear,
    figure=figures.against_floats,
    claims=(
        claims.grows_with_floats("rPSNR", at_least=0.9, source="Finding 1, Figure 3"),
        claims.shape_is_free("rPSNR", at_most=1.0, source="Finding 1, Figure 11"),
    ),
    fronts=(("E", "rPSNR"), ("gmacs", "rPSNR"), ("device_hours", "rPSNR")),
)

if __name__ == "__main__":
    main(study, __doc__)
