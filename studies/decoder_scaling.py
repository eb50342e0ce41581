"""Does a larger decoder help? (Section 3.3, Figures 6 and 8.)

The paper: reconstruction, yes (rFID 1.6 to 1.3 from Base to Large; twice the E with Base gives 0.8); generation, no (Finding 3). The cells
are those of encoder_scaling, looked at the other way: decoders are compared at equal encoders.

    python studies/decoder_scaling.py                     laptop: as encoder_scaling, and nothing after it
    python studies/decoder_scaling.py --scale single-gpu  as encoder_scaling
    python studies/decoder_scaling.py --scale paper       as encoder_scaling
"""

from encoder_scaling import study as encoders

from vitok import Study, claims, figures, main

study = Study(
    name="decoder_scaling",
    source="Figures 6 and 8",
    question="Does a larger decoder help?",
    hypothesis="At an equal encoder a larger decoder improves reconstruction, and not generation.",
    paper="Scaling the decoder improves reconstruction, less than twice the E does, and has little effect on generation (Finding 3).",
    scales=encoders.scales,
    measures=("rPSNR", "LPIPS", "rFID", "rFD-EffLite0", "gFID", "gFD-EffLite0"),
    figure=figures.over("decoder_params_m", "parameters of the decoder (M)", by=figures.encoder, joined=True),
    claims=(
        claims.scaling_helps("rPSNR", at_least=0.25, source="Finding 3, Figure 6"),
        claims.scaling_helps("rSSIM", at_least=0.01, source="Finding 3, Figure 6"),
        claims.scaling_does_not_help(
            ("gFID", "gFD-EffLite0"), share=0.05, source="Finding 3, Figure 8", along="decoder_params_m", matched_on=("encoder_params_m",)
        ),
    ),
    fronts=(("gmacs", "rPSNR"), ("device_hours", "rPSNR")),
)

if __name__ == "__main__":
    main(study, __doc__)
