"""How well are videos reconstructed? (Section 4.2, Table 4.)

The paper: S-B/4x8 on 16 frames of 128 pixels of UCF-101 (1024 tokens) after both stages: rFID 2.13, rFVD 8, rPSNR 30.11, rSSIM 0.923, where
LARP has rFVD 20 and MAGViTv2 16. Both stages here, the clips judged frame by frame, beside JPEG, WebP and AVIF at the bits of each frame.

    python studies/video_reconstruction.py                                     laptop: 8 frames of 32 pixels, about 4 minutes on two cores
    python studies/video_reconstruction.py --scale single-gpu                  8 frames of 128 pixels, 6 hours on one H100
    python studies/video_reconstruction.py --scale paper --corpus ucf101:PATH  16 frames of 128 pixels, 30 hours of trials on 16 H100s
"""

from vitok import Study, figures, main, presets
from vitok.data.sample import MOTION

study = Study(
    name="video_reconstruction",
    source="Table 4",
    question="How well are videos reconstructed?",
    hypothesis="Tubelets of 4 frames reconstruct clips at a compression at which single images are blurred.",
    paper="S-B/4x8 reaches rFVD 8 and rPSNR 30.11 on UCF-101 at 128 pixels (Table 4).",
    scales={
        "laptop": presets.second_stage(presets.laptop_video().set({"steps": 400, "batch_size": 8}), "laptop")
        .with_parents()
        .beside("jpeg", "webp", "avif"),
        "single-gpu": presets.second_stage(presets.single_gpu_video(), "single-gpu").with_parents().beside("jpeg", "webp", "avif"),
        "paper": presets.second_stage(presets.paper_video().set({"tokenizer.size": 128}), "paper")
        .with_parents()
        .beside("jpeg", "webp", "avif"),
    },
    figure=figures.dots,
    corpus=MOTION,
)

if __name__ == "__main__":
    main(study, __doc__)
