"""Do videos compress better than images? (Section 3.5, Figure 10.)

The paper: yes. rFVD and rFID follow log E as for images, and a clip of 16 frames takes 4 to 8 times the E of an image for the same
rFID, not 16 times (Finding 5). Clips in tubelets of several lengths, and single frames of the same videos beside them.

    python studies/video_e_sweep.py                              laptop: 8 frames of 32 pixels, 8 cells, about 6 minutes on two cores
    python studies/video_e_sweep.py --scale single-gpu           8 frames of 128 pixels, 11 cells, 12 hours on one H100
    python studies/video_e_sweep.py --scale paper --corpus PATH  16 frames of 256 pixels, 15 cells, 463 hours of trials on 16 H100s each
"""

from vitok import Study, claims, figures, main, presets
from vitok.data.sample import MOTION

P, Q, C, T = "tokenizer.patch", "tokenizer.stride", "tokenizer.channels", "tokenizer.frames"
FRAMES = {T: (1,), Q: (1,)}
CLIPS = {"frames": (8, 16)}

study = Study(
    name="video_e_sweep",
    source="Figure 10",
    question="Do videos compress better than images?",
    hypothesis="E governs clips as it does images, and a clip of T frames needs fewer than T times the E of an image.",
    paper="Instead of 16 x E, comparable rFID to images takes only 4 to 8 x E for 16 frames (Finding 5).",
    scales={
        "laptop": presets.laptop_video({Q: (1, 2, 4, 8)})
        .set({"steps": 600, "batch_size": 8})
        .join(presets.laptop_video(FRAMES | {C: (4, 8, 16, 32)}).set({"steps": 600, "batch_size": 16})),
        "single-gpu": presets.single_gpu_video({P: (8, 16), Q: (1, 2, 4, 8)}).join(
            presets.single_gpu_video(FRAMES | {P: (8, 16, 32)}).set({"batch_size": 256})
        ),
        "paper": presets.paper_video({P: (8, 16, 32), Q: (1, 2, 4, 8)}).join(
            presets.paper_video(FRAMES | {P: (8, 16, 32)}).set({"batch_size": 1024})
        ),
    },
    corpus=MOTION,
    measures=("rPSNR", "rSSIM", "LPIPS", "rFID", "rFVD"),
    figure=figures.over("compression", "compression (values of pixels for each float)", by=figures.frames, joined=True),
    claims=(
        claims.better(
            "rPSNR", CLIPS, {"frames": 1}, matched_on=("compression",), source="Finding 5", name_of="clips", name_than="single frames"
        ),
        claims.better(
            "LPIPS", CLIPS, {"frames": 1}, matched_on=("compression",), source="Finding 5", name_of="clips", name_than="single frames"
        ),
        claims.needs_floats("rPSNR", between="frames", at_most=8.0, source="Finding 5, Figure 10"),
        claims.needs_floats("LPIPS", between="frames", at_most=8.0, source="Finding 5, Figure 10"),
    ),
)

if __name__ == "__main__":
    main(study, __doc__)
