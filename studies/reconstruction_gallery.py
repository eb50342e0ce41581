"""What is lost as E shrinks? (Section 3.1, Figure 2.)

The paper: high frequencies first, then small colours and fine detail; below E = 4096 at 256 pixels textures merge. Here the same held-out
photographs through codes of ever fewer channels, each beside its original. All cells are those of the E sweep.

    python studies/reconstruction_gallery.py                     laptop: 4 cells, 2 minutes on two cores, none after the E sweep
    python studies/reconstruction_gallery.py --scale single-gpu  3 cells, 1.5 hours on one H100
    python studies/reconstruction_gallery.py --scale paper       S-B/16, c = 4 to 64, 5 cells, 49 hours of trials on 8 H100s each
"""

from vitok import Study, claims, figures, main, presets

C = "tokenizer.channels"

study = Study(
    name="reconstruction_gallery",
    source="Figure 2",
    question="What is lost as E shrinks?",
    hypothesis="Fine detail goes first; whatever E is lost from, similarity falls with log E.",
    paper="As E decreases, high-frequency details diminish; when E < 4096, textures merge (Figure 2).",
    scales={
        "laptop": presets.laptop({"tokenizer.patch": (8,), C: (4, 8, 16, 32)}),
        "single-gpu": presets.single_gpu({"tokenizer.patch": (16,), C: (4, 16, 64)}),
        "paper": presets.paper({"tokenizer.patch": (16,), C: (4, 8, 16, 32, 64)}),
    },
    measures=("rPSNR", "rSSIM"),
    figure=figures.gallery,
    claims=(claims.correlates("rSSIM", at_least=0.9, source="Figure 2"),),
)

if __name__ == "__main__":
    main(study, __doc__)
