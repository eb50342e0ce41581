"""What aws.yaml, raycluster.yaml and README.md say of how Ray's autoscaler chooses a pool, and of what it does not notice."""

from typing import Any

import pytest


@pytest.fixture
def monitor() -> Any:
    from ray.autoscaler.v2.instance_manager.subscribers.cloud_resource_monitor import CloudResourceMonitor

    return CloudResourceMonitor()


def chosen(monitor: Any, priorities: dict[str, int]) -> str:
    """The pool that Ray's scheduler takes for one node of 8 GPUs, of two pools that fit it equally well."""
    from ray.autoscaler.v2.instance_manager.config import NodeTypeConfig
    from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
    from ray.autoscaler.v2.utils import ResourceRequestUtil
    from ray.core.generated.autoscaler_pb2 import ResourceRequestByCount

    pools = {
        name: NodeTypeConfig(name=name, min_worker_nodes=0, max_worker_nodes=4, priority=priority, resources={"CPU": 192, "GPU": 8})
        for name, priority in priorities.items()
    }
    need = ResourceRequestByCount(request=ResourceRequestUtil.make({"CPU": 100, "GPU": 8}), count=1)
    reply = ResourceDemandScheduler().schedule(
        SchedulingRequest(
            node_type_configs=pools, disable_launch_config_check=True, max_num_nodes=9, resource_requests=[need],
            cloud_resource_availabilities=monitor.get_resource_availabilities(),
            recoverable_resource_availabilities=monitor.get_recoverable_resource_availabilities(),
        )
    )  # fmt: skip
    (one,) = reply.to_launch
    return one.instance_type


def event(name: str) -> Any:
    from ray.core.generated.instance_manager_pb2 import Instance, InstanceUpdateEvent

    return InstanceUpdateEvent(instance_id="1", instance_type="gpu-spot", new_instance_status=getattr(Instance, name))


def test_the_higher_priority_is_taken(monitor: Any) -> None:
    assert chosen(monitor, {"gpu-spot": 1, "gpu-on-demand": 0}) == "gpu-spot"
    assert chosen(monitor, {"gpu-spot": 0, "gpu-on-demand": 1}) == "gpu-on-demand"


def test_a_node_that_does_not_come_up_makes_the_fallback_take_over(monitor: Any) -> None:
    """On Kubernetes: a pod that stays pending."""
    monitor.notify([event("ALLOCATION_TIMEOUT")])
    assert chosen(monitor, {"gpu-spot": 1, "gpu-on-demand": 0}) == "gpu-on-demand"


def test_a_launch_that_the_cloud_refuses_is_not_noticed(monitor: Any) -> None:
    """With the launchers: when Ray notices, this fails, and what the files say of it can go."""
    monitor.notify([event("ALLOCATION_FAILED")])
    assert chosen(monitor, {"gpu-spot": 1, "gpu-on-demand": 0}) == "gpu-spot"
