"""Do the paper's five findings hold here? (The boxes of section 3.)

Each finding is judged by the study that tests it, from training on seeds other than the one that settings were chosen on (0). A finding
that does not show at this scale is reported as such.

    python studies/findings.py plan                  what it will cost; nothing is started
    python studies/findings.py                       laptop: within 60 minutes on two cores, no GPU
    python studies/findings.py --scale paper --corpus imagenet:path --videos ucf101:path
"""

import decoder_scaling
import e_sweep
import encoder_scaling
import generation_e_sweep
import loss_tradeoff
import video_e_sweep

from vitok import Collection, Finding, main

study = Collection(
    name="findings",
    source="Findings 1 to 5",
    question="Do the paper's five findings hold here?",
    findings=(
        Finding("E governs reconstruction, whatever the code's shape", (e_sweep.study,)),
        Finding("Generation has an optimum in E, not a slope", (generation_e_sweep.study,), only={"p": (4, 16)}),
        Finding(
            "A larger encoder does not help, a larger decoder does", (encoder_scaling.study, decoder_scaling.study), only={"dit": (None,)}
        ),
        Finding("Losses trade fidelity against perceptual quality", (loss_tradeoff.study,)),
        Finding("Videos compress better than images at the same ratio", (video_e_sweep.study,)),
    ),
    seeds=(1, 2),
)

if __name__ == "__main__":
    main(study, __doc__)
