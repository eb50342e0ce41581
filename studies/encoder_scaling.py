"""Does a larger encoder help? (Section 3.3, Figures 5 and 7.)

The paper: no. At p = 16, c = 16 encoder size has no correlation with reconstruction, and a slight negative one with generation (Finding 3).
Seven pairs of encoder and decoder, a generator on each; encoders are compared at equal decoders. The laptop's towers are, as the paper's,
no narrower than their tokens: 48 and 96 wide on patches of 48 values.

    python studies/encoder_scaling.py                     laptop: 7 tokenizers, 7 generators, about 25 minutes on two cores
    python studies/encoder_scaling.py --scale single-gpu  5 of each, 5.4 hours on one H100
    python studies/encoder_scaling.py --scale paper       7 of each, a DiT-L, 184 hours of trials on 8 H100s each
"""

from vitok import Study, claims, figures, main, presets

PAIR, C = "tokenizer.tokenizer.variant", "tokenizer.tokenizer.channels"

study = Study(
    name="encoder_scaling",
    source="Figures 5 and 7",
    question="Does a larger encoder help?",
    hypothesis="At an equal decoder a larger encoder improves neither reconstruction nor generation.",
    paper="Scaling the encoder provides no advantage to reconstruction and may harm generation (Finding 3).",
    scales={
        "laptop": presets.laptop_generation(
            {PAIR: ("N-N/4", "T-N/4", "N-T/4", "T-T/4", "N-M/4", "T-M/4", "M-M/4"), C: (4,)}
        ).with_parents(),
        "single-gpu": presets.single_gpu_generation({PAIR: ("S-S/16", "B-S/16", "S-B/16", "B-B/16", "S-L/16")}).with_parents(),
        "paper": presets.paper_generation({PAIR: ("S-S/16", "B-S/16", "S-B/16", "B-B/16", "S-L/16", "B-L/16", "L-L/16")}).with_parents(),
    },
    measures=("rPSNR", "LPIPS", "rFID", "rFD-EffLite0", "gFID", "gFD-EffLite0"),
    figure=figures.over("encoder_params_m", "parameters of the encoder (M)", by=figures.decoder, joined=True),
    claims=(
        claims.scaling_does_not_help("rPSNR", at_most=0.25, source="Finding 3, Figure 5"),
        claims.scaling_does_not_help("rSSIM", at_most=0.01, source="Finding 3, Figure 5"),
        claims.scaling_does_not_help(("gFID", "gFD-EffLite0"), share=0.05, source="Finding 3, Figure 7"),
    ),
    fronts=(("gmacs", "rPSNR"), ("device_hours", "rPSNR")),
)

if __name__ == "__main__":
    main(study, __doc__)
