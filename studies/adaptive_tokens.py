"""Can one tokenizer serve many lengths of code? (Appendix A.4, Figure 15.)

The paper: yes, at a price. Codes masked from the end while training can be cut at any length: patches masked (Mask Simple) are better at
large E, latent tokens masked (Mask Latent) at small E, both somewhat below the simple variant. Two tokenizers, each measured at every
length, beside simple ones of about the same E.

    python studies/adaptive_tokens.py                     laptop: 2 nested and 4 simple tokenizers, about 6 minutes on two cores
    python studies/adaptive_tokens.py --scale single-gpu  lengths 8 to 64: 6 cells, 3 hours on one H100
    python studies/adaptive_tokens.py --scale paper       lengths 32 to 256: 6 cells, 66 hours of trials on 8 H100s each
"""

from vitok import Study, claims, figures, main, presets

C, NAME = "tokenizer.channels", "tokenizer.variant"
PATCHES, LATENTS = {"variant": ("S-B/16+M32", "S-B/16+M8", "T-M/8+M2")}, {"variant": ("S-B/16+L256+M32", "S-B/16+L64+M8", "T-M/8+L16+M2")}
SIMPLE, LONGEST, SHORTEST = {"variant": ("S-B/16", "T-M/8")}, {"L": (16, 64, 256)}, {"L": (2, 8, 32)}

study = Study(
    name="adaptive_tokens",
    source="Figure 15",
    question="Can one tokenizer serve many lengths of code?",
    hypothesis="A nested code is somewhat below a simple one of the same E; patches are better long, latent tokens short.",
    paper="Masking variants slightly underperform the simple one; patches are better at E > 4096, latent tokens below (A.4).",
    scales={
        "laptop": presets.laptop({NAME: ("T-M/8+M2", "T-M/8+L16+M2")}, {C: (2, 4, 8, 16)}).set({"steps": 1500}),  # see latent_tokens
        "single-gpu": presets.single_gpu({NAME: ("S-B/16+M8", "S-B/16+L64+M8")}, {C: (2, 4, 8, 16)}),
        "paper": presets.paper({NAME: ("S-B/16+M32", "S-B/16+L256+M32")}, {C: (2, 4, 8, 16)}),
    },
    figure=figures.over("E", figures.FLOATS, by=figures.kind, joined=True),
    claims=(
        claims.no_better(
            "rPSNR",
            PATCHES,
            SIMPLE,
            at_most=0.25,
            matched_on=("E",),
            name_of="masked patches",
            name_than="simple codes",
            source="A.4, Figure 15",
        ),
        claims.better(
            "rPSNR",
            PATCHES | LONGEST,
            LATENTS | LONGEST,
            name_of="masked patches",
            name_than="masked latents at the whole code",
            source="A.4, Figure 15",
        ),
        claims.better(
            "rPSNR",
            LATENTS | SHORTEST,
            PATCHES | SHORTEST,
            name_of="masked latents",
            name_than="masked patches at the shortest",
            source="A.4, Figure 15",
        ),
    ),
)

if __name__ == "__main__":
    main(study, __doc__)
