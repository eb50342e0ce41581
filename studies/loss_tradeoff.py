"""What do losses trade? (Section 3.4, Figure 9.)

The paper: fidelity against quality. Without LPIPS rSSIM and rPSNR are best and rFID worst; more of it turns that round; a GAN goes
furthest, to rFID 0.50 (Finding 4). L2 or L1 by three weights of LPIPS, and stage 2 from the first recipe.

    python studies/loss_tradeoff.py                     laptop: 7 cells, about 4 minutes on two cores
    python studies/loss_tradeoff.py --scale single-gpu  7 cells, 5 hours on one H100
    python studies/loss_tradeoff.py --scale paper       S-B/16, 7 cells, 74 hours of trials on 8 H100s each
"""

from vitok import Study, claims, figures, main, presets

NORM, LPIPS = "loss.reconstruction", "loss.lpips"

study = Study(
    name="loss_tradeoff",
    source="Figure 9",
    question="What do losses trade?",
    hypothesis="What improves visual quality (rFID, LPIPS) costs fidelity (rPSNR, rSSIM).",
    paper="There is a trade-off between rFID and rSSIM/rPSNR, set by the weights of Equation 1 (Finding 4).",
    scales={
        "laptop": presets.laptop({NORM: ("l2", "l1"), LPIPS: (0.0, 0.05, 0.1)}).join(presets.second_stage(presets.laptop(), "laptop")),
        "single-gpu": presets.single_gpu({NORM: ("l2", "l1"), LPIPS: (0.0, 0.5, 1.0)}).join(
            presets.second_stage(presets.single_gpu(), "single-gpu")
        ),
        "paper": presets.paper({NORM: ("l2", "l1"), LPIPS: (0.0, 0.5, 1.0)}).join(presets.second_stage(presets.paper(), "paper")),
    },
    figure=figures.against(("rPSNR", "LPIPS"), ("rPSNR", "rFID"), ("rPSNR", "rFD-EffLite0")),
    claims=(
        claims.trades_off(("rFID", "rFD-EffLite0"), "rPSNR", source="Finding 4, Figure 9"),
        claims.trades_off("LPIPS", "rPSNR", source="Finding 4, Figure 9"),
        claims.better(
            "rPSNR",
            {LPIPS: 0, "stage": 1},
            {LPIPS: (0.1, 1.0), "stage": 1},
            matched_on=(NORM,),
            source="Section 3.4",
            name_of="no LPIPS",
            name_than="much LPIPS",
        ),
        claims.better(
            ("rFID", "rFD-EffLite0"),
            {"stage": 2},
            {"stage": 1, NORM: "l2", LPIPS: (0.1, 1.0)},
            source="Section 3.4",
            name_of="a GAN",
            name_than="its stage 1",
        ),
    ),
    fronts=(("rPSNR", "LPIPS"), ("rPSNR", "rFID"), ("rPSNR", "rFD-EffLite0")),
)

if __name__ == "__main__":
    main(study, __doc__)
