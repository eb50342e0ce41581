"""What Ray's autoscaler starts nodes with, here: `ray start` on this machine, each with a folder and a cache of its own."""

import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from ray.autoscaler._private.fake_multi_node.node_provider import FakeMultiNodeProvider
from ray.autoscaler.tags import NODE_KIND_WORKER, STATUS_UP_TO_DATE, TAG_RAY_NODE_KIND, TAG_RAY_NODE_NAME, TAG_RAY_NODE_STATUS

from tests.nodes.machines import AUTOSCALED, RAY, kill, worker


class Machines(FakeMultiNodeProvider):
    """Ray's own keeps its nodes in one folder, which the first of them takes along when it ends."""

    def _create_node_with_resources_and_labels(
        self, node_config: Any, tags: dict[str, str], count: int, resources: dict[str, float], labels: Any
    ) -> None:
        name = f"node-{self._next_node_id + 1}"
        folder, identity = Path(self.provider_config["folder"], name), self._next_hex_node_id()
        folder.mkdir()
        offers = json.dumps({key: amount for key, amount in resources.items() if key not in ("CPU", "GPU", "object_store_memory")})
        temporary = tempfile.mkdtemp(prefix=f"{name}-", dir=self.provider_config["temporary"])
        own = {
            "RAY_CLOUD_INSTANCE_ID": identity, "RAY_OVERRIDE_NODE_ID_FOR_TESTING": identity,
            "RAY_NODE_TYPE_NAME": tags["ray-user-node-type"],
            "XDG_CACHE_HOME": str(folder / "cache"),
        }  # fmt: skip
        environment = {key: value for key, value in os.environ.items() if key not in AUTOSCALED} | own
        with (folder / "ray.log").open("w") as log:
            process = subprocess.Popen(
                [RAY, "start", *worker(self._gcs_address, resources["CPU"], offers, temporary)], env=environment, stdout=log,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        (folder / "pid").write_text(str(process.pid))
        known = {TAG_RAY_NODE_KIND: NODE_KIND_WORKER, TAG_RAY_NODE_NAME: identity, TAG_RAY_NODE_STATUS: STATUS_UP_TO_DATE}
        self._nodes[identity] = {"tags": known | tags, "node": process}

    def _terminate_node(self, node: dict[str, Any]) -> None:
        kill(node["node"].pid)
        node["node"].wait(timeout=30)
