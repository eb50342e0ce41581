"""What a running cluster may grow to: Ray tells what nodes there are, not which its autoscaler could start."""

import os
from pathlib import Path

from vitok.cluster import launcher, manifests
from vitok.cluster.kinds import LAUNCHER, MANIFESTS, kind
from vitok.cluster.pools import Pool
from vitok.cluster.read import UnreadableError, read
from vitok.errors import VitokError

CLUSTER = "VITOK_CLUSTER"  # names the file that the cluster was made of
BOOTSTRAP = "~/ray_bootstrap_config.yaml"  # where `ray up` leaves it on the head


def pools() -> tuple[Pool, ...]:
    """Return the pools of the running cluster, as far as a file tells: the one that `ray up` has left here, or the one that VITOK_CLUSTER
    names; none: it does not grow. Raises `VitokError` for a file that does not tell."""
    left, named = Path(BOOTSTRAP).expanduser(), os.environ.get(CLUSTER)
    if not left.is_file() and not named:
        return ()
    path = left if left.is_file() else Path(str(named)).expanduser()
    try:
        file = read(path)
    except (UnreadableError, VitokError) as error:
        raise VitokError(f"{path} ({CLUSTER}) does not tell what the cluster may grow to: it {error}") from None
    which = kind(file)
    if which not in (LAUNCHER, MANIFESTS):
        raise VitokError(f"{path} ({CLUSTER}) is {which.name if which else 'of no known kind'}, not the file of a cluster")
    return tuple(launcher.pools(file.documents[0]) if which is LAUNCHER else manifests.pools(file.documents))
