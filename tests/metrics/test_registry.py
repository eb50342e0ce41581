"""A metric's name says what it is: nothing is called FID that is not."""

import pytest

from vitok.errors import UsageError
from vitok.metrics.protocol import Protocol
from vitok.metrics.registry import METRICS, find_metrics, required_networks
from vitok.networks.registry import NETWORKS


def test_fid_and_fvd_are_names_of_one_network_each() -> None:
    for name, metric in METRICS.items():
        assert ("FID" in name) <= (metric.network == "fid-inception")
        assert ("FVD" in name) <= (metric.network == "i3d")
        assert metric.network in ("", *NETWORKS)
        assert metric.paired or name[0] in "rg"


def test_names_in_any_case_with_or_without_their_letter() -> None:
    assert [metric.name for metric in find_metrics(["rfid", "PSNR", " fd-efflite0", "lpips", "RFID"])] == [
        "rFID",
        "rPSNR",
        "rFD-EffLite0",
        "LPIPS",
    ]
    assert [metric.name for metric in find_metrics(["fid", "is"], "g")] == ["gFID", "gIS"]
    assert required_networks(find_metrics(["lpips", "rfid", "ris"])) == ("fid-inception", "lpips-alexnet")
    with pytest.raises(UsageError, match=r"unknown metric 'fod'; did you mean"):
        find_metrics(["fod"])


def test_a_protocol_is_what_must_be_equal() -> None:
    one = Protocol(
        "rFID", "fid-inception", "f" * 64, "resize", "photos validation", "a" * 16, "crop", 256, 1, 50_000, "n - 1", 0, "0.1 abc"
    )
    assert Protocol.parse(one.json()) == one
    later = Protocol(**{**vars(one), "code": "0.2 def", "reference": "elsewhere/photos validation"})
    assert later.digest == one.digest and not later.differs(one)
    fewer = Protocol(**{**vars(one), "count": 5000})
    assert fewer.digest != one.digest and one.differs(fewer) == "count 50000 and 5000"
