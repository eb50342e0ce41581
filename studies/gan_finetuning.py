"""What does a GAN make of the decoder? (Appendix A.3, Figure 13.)

The paper: a generator. Best is a discriminator at 2e-5 with weight 0.05; faster ones are unstable, slower ones weaker; tuning the encoder
too is slightly worse; without a GAN nothing is gained; what rFID wins, rSSIM and rPSNR lose. Seven fine-tunings of one stage 1. The
laptop's discriminator must learn in hundreds of steps: its rates and weights are others, in the same ratios.

    python studies/gan_finetuning.py                     laptop: 7 cells, about 5 minutes on two cores
    python studies/gan_finetuning.py --scale single-gpu  7 cells, 13 hours on one H100
    python studies/gan_finetuning.py --scale paper       S-B/16, 7 cells, 130 hours of trials on 8 H100s each
"""

from vitok import Study, claims, figures, main, presets


def tunings(rate: float, weight: float) -> tuple[dict, ...]:
    return (
        {"gan.weight": (0.0,)},
        {"gan.lr": (rate / 2, rate, 2 * rate)},
        {"gan.weight": (2 * weight,), "gan.lr": (rate / 2,)},
        {"gan.tuned": ("all",)},
    )


BEST = {"gan.weight": (0.05, 0.02), "gan.lr": (2e-5, 0.01), "gan.tuned": "decoder"}

study = Study(
    name="gan_finetuning",
    source="Figure 13",
    question="What does a GAN make of the decoder?",
    hypothesis="A GAN improves rFID and costs rPSNR; a discriminator at the middle rate, the decoder alone, is best.",
    paper="GAN weight 0.05 and a discriminator rate of 2e-5 are best; improving FID worsens SSIM and PSNR (A.3).",
    scales={
        "laptop": presets.second_stage(presets.laptop(), "laptop", *tunings(0.01, 0.02)).with_parents(),
        "single-gpu": presets.second_stage(presets.single_gpu(), "single-gpu", *tunings(2e-5, 0.05)).with_parents(),
        "paper": presets.second_stage(presets.paper(), "paper", *tunings(2e-5, 0.05)).with_parents(),
    },
    figure=figures.dots,
    claims=(
        claims.ranked_first(("rFID", "rFD-EffLite0"), BEST, among={"stage": 2}, name="the middle rate", source="A.3, Figure 13"),
        claims.better(("rFID", "rFD-EffLite0"), BEST, {"gan.weight": 0}, name_of="a GAN", name_than="none", source="A.3, Figure 13"),
        claims.better("rPSNR", {"gan.weight": 0}, BEST, name_of="no GAN", name_than="one", source="A.3, Figure 13"),
        claims.trades_off(("rFID", "rFD-EffLite0"), "rPSNR", source="A.3, Figure 13"),
    ),
)

if __name__ == "__main__":
    main(study, __doc__)
