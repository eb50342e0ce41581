"""Should a decoder be deep, or wide? (A question the paper does not ask: its decoders grow in both at once.)

Three shapes of decoder that cost the same multiply-adds (within 6 %), behind one encoder and one code. If depth is what matters, the
narrow one wins; if the width of a token's description is, the flat one; if only compute counts, all are alike.

    python studies/decoder_shape.py --seeds 0 1 2            laptop: 9 cells, about 6 minutes on two cores, no GPU
    python studies/decoder_shape.py --scale single-gpu       3 cells, 1.5 hours on one H100
    python studies/decoder_shape.py --scale paper            3 cells, 30 hours of trials on 8 H100s each
"""

from vitok import Study, claims, figures, main, presets

VARIANT, BLOCKS = "tokenizer.variant", "tokenizer.decoder.blocks"
DEEP, FLAT = {BLOCKS: (14, 44)}, {BLOCKS: (1, 3)}
LARGE = {VARIANT: ("S-(384x44x6)/16", "S-B/16", "S-(1536x3x24)/16")}  # WIDTHxBLOCKSxHEADS

study = Study(
    name="decoder_shape",
    question="Should a decoder be deep, or wide?",
    hypothesis="At equal multiply-adds a deep, narrow decoder reconstructs better than a flat, wide one.",
    scales={
        "laptop": presets.laptop({VARIANT: ("T-(48x14x2)/4", "T-(96x4x2)/4", "T-(192x1x4)/4")}),
        "single-gpu": presets.single_gpu(LARGE),
        "paper": presets.paper(LARGE),
    },
    figure=figures.over(BLOCKS, "blocks of the decoder, at equal multiply-adds", by=figures.decoder),
    claims=(
        claims.better("rPSNR", DEEP, FLAT, source="my hypothesis", name_of="a deep decoder", name_than="a flat one"),
        claims.better("LPIPS", DEEP, FLAT, source="my hypothesis", name_of="a deep decoder", name_than="a flat one"),
    ),
    fronts=(("params_m", "rPSNR"), ("device_hours", "rPSNR")),
)

if __name__ == "__main__":
    main(study, __doc__)
