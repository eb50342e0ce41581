"""Does twice the side need four times the floats? (Appendix A.2, Figure 12.)

The paper: yes. At 512 pixels E governs reconstruction as at 256, and the same rPSNR and rSSIM take 4 x E: what has to stay is the
compression, pixels to floats. FID and IS are not compared across sizes, since their network resizes all to 299 pixels. The cells of
the smaller size are those of the E sweep, and are not run twice.

    python studies/e_sweep_512.py                     laptop: 32 and 64 pixels, 8 cells, about 8 minutes on two cores
    python studies/e_sweep_512.py --scale single-gpu  64 and 128 pixels, 6 cells, 5 hours on one H100
    python studies/e_sweep_512.py --scale paper       256 and 512 pixels, 6 cells, 304 hours of trials on 8 H100s each
"""

from vitok import Study, claims, figures, main, presets

SIZE, P, C = "tokenizer.size", "tokenizer.patch", "tokenizer.channels"

study = Study(
    name="e_sweep_512",
    source="Figure 12",
    question="Does twice the side need four times the floats?",
    hypothesis="The same rPSNR and rSSIM at twice the side take 4 x E: the compression has to stay, not the number of floats.",
    paper="Comparable rSSIM and rPSNR at 512 pixels require 4 x E from 256 pixels (A.2).",
    scales={
        "laptop": presets.laptop({SIZE: (32, 64), P: (8,), C: (4, 8, 16, 32)}),
        "single-gpu": presets.single_gpu({SIZE: (64, 128), P: (8,), C: (4, 16, 64)}),
        "paper": presets.paper({SIZE: (256, 512), P: (8, 16, 32)}).on(accumulation=8, recompute=1.0),
    },
    measures=("rPSNR", "rSSIM", "rFID", "rIS"),
    figure=figures.over("E", figures.FLOATS, by=figures.size),
    claims=(
        claims.needs_floats("rPSNR", between="size", ratio=4.0, within=1.5, source="A.2, Figure 12"),
        claims.needs_floats("rSSIM", between="size", ratio=4.0, within=1.5, source="A.2, Figure 12"),
    ),
)

if __name__ == "__main__":
    main(study, __doc__)
