"""How good are videos generated in ViTok's latents? (Section 4.2, Table 6, Figure 21.)

The paper: DiT-L on S-B/4x8, 16 frames of 128 pixels in 1024 tokens, 500,000 steps on UCF-101: gFID 6.67, gFVD 27.

    python studies/video_generation.py                                     laptop: 8 frames of 32 pixels, 9 minutes on two cores
    python studies/video_generation.py --scale single-gpu                  8 frames of 128 pixels, 2 hours on one H100
    python studies/video_generation.py --scale paper --corpus ucf101:PATH  76 hours of trials on 8 H100s
"""

from vitok import Study, figures, main, presets
from vitok.data.sample import MOTION

study = Study(
    name="video_generation",
    source="Table 6, Figure 21",
    question="How good are videos generated in ViTok's latents?",
    hypothesis="A DiT on tubelets of 4 frames by 8 pixels generates clips that move as their class says.",
    paper="gFVD 27 at 1024 tokens, where W.A.L.T has 46 and LARP 57 (Table 6).",
    scales={
        "laptop": presets.laptop_video_generation(),
        "single-gpu": presets.single_gpu_video_generation(),
        "paper": presets.paper_video_generation(),
    },
    figure=figures.dots,
    corpus=MOTION,
)

if __name__ == "__main__":
    main(study, __doc__)
