"""aws.yaml against EC2's own description of its interface, and through Ray's own preparation of it, on a stand-in for EC2."""

from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
RAYS_OWN = ("SubnetIds",)  # of which Ray takes one


@pytest.fixture
def launcher_file() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "clusters/aws.yaml").read_text())


@pytest.fixture(scope="module")
def run_instances() -> Any:
    """What EC2 says of RunInstances."""
    import botocore.session

    return botocore.session.get_session().get_service_model("ec2").operation_model("RunInstances").input_shape


def test_ec2_knows_every_field_and_takes_every_value(launcher_file: dict[str, Any], run_instances: Any) -> None:
    from botocore.validate import ParamValidator

    for name, pool in launcher_file["available_node_types"].items():
        asked = {key: value for key, value in pool["node_config"].items() if key not in RAYS_OWN} | {"MinCount": 1, "MaxCount": 1}
        report = ParamValidator().validate(asked, run_instances)
        assert not report.has_errors(), f"{name}: {report.generate_report()}"


def test_every_field_of_ours_is_one_of_ec2s(run_instances: Any) -> None:
    from vitok.cluster.node_config import AwsNode
    from vitok.cluster.problem import places

    for path, name in places(AwsNode):
        shape = run_instances
        for step in path:
            shape = shape.members[step]
            shape = getattr(shape, "member", shape)
        assert name in shape.members or name in RAYS_OWN, f"{'.'.join(path)} has no {name}"


def test_ray_keeps_our_groups_and_asks_for_what_stands_in_the_file(
    launcher_file: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What `ray up` and the autoscaler do with it: a node of each pool, our group and nobody else's."""
    moto = pytest.importorskip("moto")
    import boto3
    from ray.autoscaler._private.aws import utils
    from ray.autoscaler._private.aws.config import bootstrap_aws
    from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
    from ray.autoscaler._private.util import prepare_config

    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(key, "testing")
    with moto.mock_aws():
        utils.resource_cache.cache_clear()
        ec2 = boto3.client("ec2", region_name="us-east-1")
        network = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        subnet = ec2.create_subnet(VpcId=network, CidrBlock="10.0.0.0/20", AvailabilityZone="us-east-1d")["Subnet"]["SubnetId"]
        group = ec2.create_security_group(GroupName="vitok", Description="vitok", VpcId=network)["GroupId"]
        text = (ROOT / "clusters/aws.yaml").read_text().replace("<private-subnet-id>", subnet).replace("<security-group-id>", group)
        image = ec2.describe_images()["Images"][0]["ImageId"]
        config = bootstrap_aws(prepare_config(yaml.safe_load(text.replace("<ami-id>", image))))
        provider = AWSNodeProvider(config["provider"], config["cluster_name"])
        for name in ("head", "gpu-spot", "gpu-on-demand", "cpu"):
            node = dict(config["available_node_types"][name]["node_config"])
            node.pop("IamInstanceProfile")  # the stand-in has no such role
            provider.create_node(node, {"ray-node-name": name}, 1)
        started = [one for r in ec2.describe_instances()["Reservations"] for one in r["Instances"]]
        groups = ec2.describe_security_groups(Filters=[{"Name": "vpc-id", "Values": [network]}])["SecurityGroups"]
        utils.resource_cache.cache_clear()
    pools = config["available_node_types"]
    types = {tag["Value"]: one for one in started for tag in one["Tags"] if tag["Key"] == "Name"}
    assert {name: one["InstanceType"] for name, one in types.items()} == {
        "head": "m7i.2xlarge", "gpu-spot": "p5.48xlarge", "gpu-on-demand": "p5.48xlarge", "cpu": "c7i.24xlarge",
    }  # fmt: skip
    assert {name for name, one in types.items() if one.get("InstanceLifecycle") == "spot"} == {"gpu-spot"}
    clusters = {tag["Value"] for one in started for tag in one["Tags"] if tag["Key"] == "ray-cluster-name"}
    assert clusters == {"vitok"}  # what the policies ask for
    assert {one["GroupName"] for one in groups} == {"default", "vitok"}  # Ray has made none
    assert {tuple(set(pool["node_config"]["SecurityGroupIds"])) for pool in pools.values()} == {(group,)}
    assert {tuple(set(pool["node_config"]["SubnetIds"])) for pool in pools.values()} == {(subnet,)}
    assert len(pools["gpu-spot"]["node_config"]["NetworkInterfaces"]) == 32
    assert config["auth"]["ssh_private_key"] == "~/.ssh/vitok.pem" and not config["head_node"]
