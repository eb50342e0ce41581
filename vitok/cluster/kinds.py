"""What a file is, by what it says."""

from dataclasses import dataclass

from vitok.cluster.read import File


@dataclass(frozen=True)
class Kind:
    """A kind of file, with its name for people."""

    name: str


LAUNCHER = Kind("a Ray launcher file")
MANIFESTS = Kind("Kubernetes manifests")
COMPOSE = Kind("a compose file")
RUNTIME_ENV = Kind("a runtime environment")
SCRIPT = Kind("a script that starts Ray")
DOCKERFILE = Kind("a Dockerfile")
CONSTRAINTS = Kind("a constraints file")
AWS_POLICY = Kind("an AWS policy")
GCP_ROLE = Kind("a Google Cloud role")
PRICES = Kind("a price file")
README = Kind("a text for people")


def kind(file: File) -> Kind | None:
    """Return the kind of a file, or None for none of them."""
    name, suffix = file.path.name, file.path.suffix
    if file.documents:
        return _of_mapping(file)
    if name.startswith("Dockerfile") or suffix == ".dockerfile":
        return DOCKERFILE
    if "ray start" in file.text and (suffix in (".sh", ".sbatch", ".slurm") or file.text.startswith("#!")):
        return SCRIPT
    if suffix == ".txt" and "==" in file.text:
        return CONSTRAINTS
    return README if suffix == ".md" else None


def _of_mapping(file: File) -> Kind | None:
    first = next(iter(file.documents), None)
    keys = set(first) if isinstance(first, dict) else set[str]()
    if all(isinstance(one, dict) and {"apiVersion", "kind"} & set(one) for one in file.documents):
        return MANIFESTS
    if len(file.documents) > 1:
        return None
    if file.path.suffix == ".toml" and isinstance(first, dict):
        tables = [table for table in first.values() if isinstance(table, dict)]
        return PRICES if any("on_demand" in node for table in tables for node in table.values() if isinstance(node, dict)) else None
    signs = (
        ({"cluster_name"}, LAUNCHER), ({"available_node_types"}, LAUNCHER), ({"services"}, COMPOSE), ({"includedPermissions"}, GCP_ROLE),
        ({"Version", "Statement"}, AWS_POLICY), ({"env_vars"}, RUNTIME_ENV), ({"working_dir"}, RUNTIME_ENV),
    )  # fmt: skip
    return next((found for sign, found in signs if sign <= keys), None)
