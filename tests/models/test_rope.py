import pytest
import torch

from vitok.models.rope import angles, axis_split, rotary_tables, rotate


@pytest.mark.parametrize(("head", "split"), [(64, (16, 24, 24)), (72, (24, 24, 24)), (48, (16, 16, 16)), (24, (8, 8, 8))])
def test_heads_are_split_over_the_axes(head: int, split: tuple[int, int, int]) -> None:
    assert axis_split(head) == split


@pytest.mark.parametrize("axis", [0, 1, 2], ids=["t", "y", "x"])
def test_products_depend_on_the_distance_alone(axis: int) -> None:
    """float64, so the tolerance is that of a few roundings."""
    torch.manual_seed(0)
    q, k = torch.randn(2, 64, dtype=torch.float64)
    products = []
    for start in (0, 5, 11):
        positions = torch.tensor([[3, 7, 2], [3, 7, 2]])
        positions[0, axis], positions[1, axis] = start, start + 4
        angle = angles(positions, 64)
        turned = rotate(torch.stack([q, k]), angle.cos(), angle.sin())
        products.append(turned[0] @ turned[1])
    assert torch.allclose(torch.stack(products), products[0].expand(3), rtol=0, atol=1e-12)
    moved = rotate(torch.stack([q, k]), *(f(angles(torch.tensor([[0, 0, 0], [9, 9, 9]]), 64)) for f in (torch.cos, torch.sin)))
    assert not torch.isclose(moved[0] @ moved[1], products[0], atol=1e-3)


def test_rotation_keeps_length_and_follows_rows() -> None:
    cos, sin = rotary_tables((2, 3, 4), 48, torch.device("cpu"))
    assert cos.shape == (24, 24)
    x = torch.randn(1, 2, 24, 48)
    assert torch.allclose(rotate(x, cos, sin).norm(dim=-1), x.norm(dim=-1), atol=1e-5)
    expected = angles(torch.tensor([[1, 2, 3]]), 48)  # the last token of a row-major grid
    assert torch.allclose(cos[-1], expected.cos()[0].float())
