"""Do the sizes come out as printed? (Table 1; the parameters and GFLOPs of Tables 2 to 4.)

Arithmetic: nothing is trained. What the paper calls GFLOPs are multiply-adds, and 5 for each element of a LayerNorm.

    python studies/model_sizes.py                    seconds, anywhere
"""

from vitok import Study, claims, figures, main
from vitok.analysis.rows import Row
from vitok.config import variants
from vitok.costs import flops
from vitok.report import paper

TOKENIZERS = (("S-B/16", 256, 1), ("S-L/16", 256, 1), ("S-B/16", 512, 1), ("S-B/4x8", 128, 16))


def rows() -> list[Row]:
    """Towers as Table 1 has them, then whole tokenizers of 16 channels."""
    found = [
        {
            "label": f"{one.name}, {one.width} wide, {one.blocks} blocks, {one.heads} heads",
            "source": "Table 1",
            **_millions(one.params, one.macs),
        }
        for one in flops.tower_sizes()
        if one.name in "SBL"
    ]
    for name, size, frames in TOKENIZERS:
        price = flops.tokenizer_cost(variants.tokenizer(name, channels=16, size=size, frames=frames))
        shape = f"{frames} frames of {size} pixels" if frames > 1 else f"{size} pixels"
        found.append({"label": f"ViTok {name}, {shape}", "source": "Tables 2 to 4", **_millions(price.params, price.macs)})
    return paper.with_printed_values(found, "model_sizes")


def _millions(params: int, macs: int) -> Row:
    return {"params_m": round(params / 1e6, 3), "gmacs": round(macs / 1e9, 3)}


study = Study(
    name="model_sizes",
    source="Table 1 (and sizes in Tables 2 to 4)",
    question="Do the sizes come out as printed?",
    hypothesis="Parameters and multiply-adds of every tower and tokenizer agree with the paper in each printed digit.",
    paper="S, B and L have 43.3, 85.8 and 383.7 M parameters and 11.6, 23.1 and 101.8 GFLOPs (Table 1).",
    computed=rows,
    figure=figures.beside_the_paper(("params_m", "parameters (M)"), ("gmacs", "multiply-adds (G)")),
    claims=tuple(
        claims.as_printed(column, digits=1, source=source) for source in ("Table 1", "Tables 2 to 4") for column in ("params_m", "gmacs")
    ),
)

if __name__ == "__main__":
    main(study, __doc__)
