"""Is a code of latent tokens as good as one of patches? (Appendix A.4, Figure 14.)

The paper: nearly. Latent ViTok, whose code's length is free of p, follows E by the same rule and falls slightly short of the simple
variant in rFID and rIS; it costs more FLOPs. Latent tokens in powers of two at c = 16, beside simple codes of the same E.

    python studies/latent_tokens.py                     laptop: 5 latent and 5 simple cells, about 12 minutes on two cores
    python studies/latent_tokens.py --scale single-gpu  3 latent and 9 simple cells, 10 hours on one H100
    python studies/latent_tokens.py --scale paper       5 latent and 15 simple cells, 344 hours of trials on 8 H100s each
"""

from vitok import Study, claims, figures, main, presets

P, C, NAME = "tokenizer.patch", "tokenizer.channels", "tokenizer.variant"
LATENT, SIMPLE = {"tokenizer.latent_tokens": (4, 8, 16, 32, 64, 128, 256, 512, 1024)}, {"tokenizer.latent_tokens": 0}

SLOWLY = {"steps": 1500}  # 600, as in other studies, end before latent tokens have learnt which patches are whose

study = Study(
    name="latent_tokens",
    source="Figure 14",
    question="Is a code of latent tokens as good as one of patches?",
    hypothesis="Latent tokens follow E by the same rule, and at equal E fall slightly short of patches.",
    paper="The latent variant slightly underperforms the simple one in rFID and rIS and follows the same rule of E (A.4).",
    scales={
        "laptop": presets.laptop({NAME: tuple(f"T-M/8+L{length}" for length in (4, 8, 16, 32, 64))}, {C: (4, 8, 16, 32, 64)}).set(SLOWLY),
        "single-gpu": presets.single_gpu({NAME: tuple(f"S-B/16+L{length}" for length in (16, 64, 256))}, {P: (8, 16, 32), C: (4, 16, 64)}),
        "paper": presets.paper(
            {NAME: tuple(f"S-B/16+L{length}" for length in (64, 128, 256, 512, 1024))}, {P: (8, 16, 32), C: (4, 8, 16, 32, 64)}
        ),
    },
    figure=figures.over("E", figures.FLOATS, by=figures.kind, joined=True),
    claims=(
        claims.correlates("rPSNR", of=LATENT, name_of="latent tokens", at_least=0.9, source="A.4, Figure 14"),
        claims.no_better(
            "rPSNR", LATENT, SIMPLE, at_most=0.25, matched_on=("E",), name_of="latent tokens", name_than="patches", source="A.4, Figure 14"
        ),
        claims.no_better(
            "rPSNR", SIMPLE, LATENT, at_most=1.0, matched_on=("E",), name_of="patches", name_than="latent tokens", source="A.4, Figure 14"
        ),
    ),
    fronts=(("gmacs", "rPSNR"),),
)

if __name__ == "__main__":
    main(study, __doc__)
