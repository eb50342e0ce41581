"""Copies of our files, each with one thing wrong: caught, and named."""

from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
Call = Callable[..., tuple[int, str, str]]

BROKEN = [  # (file, what stands there, what stands there instead, what is said)
    (
        "aws.yaml",
        "resources: {CPU: 0, trial_slot: 16,",
        "resources: {CPU: 8, trial_slot: 16,",
        "available_node_types.head.CPU: the head must offer 0 CPUs, so that no training runs beside Ray's own: it offers 8",
    ),
    ("aws.yaml", "CPU: 0, trial_slot: 16,", "CPU: 0,", "available_node_types.head: the head offers no trial_slot"),
    ("aws.yaml", "    max_workers: 2\n", "    max_workers: 0\n", "available_node_types.gpu-spot: a spot pool without a fallback"),
    (
        "aws.yaml",
        "decode: 96,",
        "decoding: 96,",
        "available_node_types.cpu.decode: a pool without GPUs is for decoding: offer decode as often as CPUs (96)",
    ),
    ("aws.yaml", "&h100 {CPU: 192,", "&h100 {CPU: 32,", "available_node_types.gpu-spot.CPU: 32 CPUs for 8 GPUs leave none to Ray Data"),
    (
        "aws.yaml",
        "--dashboard-host=127.0.0.1",
        "--dashboard-host=0.0.0.0",
        "head_start_ray_commands: the dashboard must listen on this node alone: --dashboard-host=127.0.0.1, it is 0.0.0.0",
    ),
    (
        "aws.yaml",
        "vitok:0.1.0",
        "vitok:latest",
        "docker.image: image '<account>.dkr.ecr.us-east-1.amazonaws.com/vitok:latest' is not pinned",
    ),
    (
        "aws.yaml",
        "--shm-size=420g",
        "--shm-size=64g",
        "available_node_types.gpu-spot: shared memory (68.72 GB) is smaller than the object store (400 GB)",
    ),
    ("aws.yaml", "--env RAY_AUTH_MODE=token", "--env RAY_AUTH_MODE=disabled", "docker.run_options: token authentication is off"),
    (
        "aws.yaml",
        "    - --env RAY_AUTH_MODE=token",
        "    - --env RAY_AUTH_MODE=token\n    - --env HF_TOKEN=hf_abcdef",
        "docker.run_options: HF_TOKEN is a secret in plain text",
    ),
    (
        "aws.yaml",
        "  cache_stopped_nodes: false",
        "  cache_stopped_nodse: false",
        "provider.cache_stopped_nodse: unknown key: did you mean cache_stopped_nodes?",
    ),
    (
        "aws.yaml",
        "    min_workers: 0",
        "    min_worker: 0",
        "available_node_types.gpu-spot.min_worker: unknown key: did you mean min_workers?",
    ),
    (
        "aws.yaml",
        "InstanceMarketOptions:",
        "InstanceMarketOption:",
        "node_config.InstanceMarketOption: unknown key: did you mean InstanceMarketOptions?",
    ),
    ("aws.yaml", "idle_timeout_minutes: 10", "idle_timeout_minutes: 0", "idle_timeout_minutes: idle nodes must go"),
    (
        "aws.yaml",
        "      SecurityGroupIds: *groups\n",
        "",
        "available_node_types.cpu.node_config: SecurityGroupIds is missing: Ray then makes a group",
    ),
    (
        "aws.yaml",
        "  use_internal_ips: true",
        "  security_group: {IpPermissions: [{IpRanges: [{CidrIp: 0.0.0.0/0}]}]}",
        "provider.security_group.IpPermissions.0.IpRanges.0.CidrIp: 0.0.0.0/0 is the whole world",
    ),
    ("aws.yaml", "NetworkCardIndex: 7, DeviceIndex: 1", "NetworkCardIndex: 7, DeviceIndex: 0", "card 0 has DeviceIndex 0, the others 1"),
    (
        "aws.yaml",
        "      Placement: *placement\n",
        "      Placement: *placement\n      SubnetIds: [*subnet]\n",
        "gpu-on-demand.node_config: SubnetIds and SecurityGroupIds may not stand beside NetworkInterfaces",
    ),
    ("aws.yaml", "HttpTokens: required", "HttpTokens: optional", "MetadataOptions.HttpTokens: input should be 'required', not 'optional'"),
    ("aws.yaml", "  ~/.ray/auth_token: ~/.ray/auth_token", "  ~/a: ~/a", "file_mounts: nodes have no token"),
    ("aws.yaml", "head_node_type: head", "head_node_type: haed", "Ray's own validation: `head_node_type` must be one of"),
    ("aws.yaml", "max_workers: 8", "max_workers: eight", "max_workers: Ray's own schema: 'eight' is not of type 'integer'"),
    (
        "gcp.yaml",
        "nicType: GVNIC}",
        "nicType: GVNIC, accessConfigs: [{name: nat}]}",
        "networkInterfaces.0.accessConfigs: gives the node a public address",
    ),
    (
        "gcp.yaml",
        "provisioningModel: SPOT",
        "provisioningModle: SPOT",
        "scheduling.provisioningModle: unknown key: did you mean provisioningModel?",
    ),
    ("kuberay/raycluster.yaml", 'num-cpus: "0"', 'num-cpus: "4"', "RayCluster.vitok.spec.headGroupSpec.CPU: the head must offer 0 CPUs"),
    ("kuberay/raycluster.yaml", "sizeLimit: 420Gi", "sizeLimit: 64Gi", "workerGroupSpecs.0: shared memory (68.72 GB) is smaller"),
    (
        "kuberay/raycluster.yaml",
        "serviceType: ClusterIP",
        "serviceType: LoadBalancer",
        "headGroupSpec.serviceType: LoadBalancer opens the dashboard to the world",
    ),
    ("kuberay/raycluster.yaml", "maxReplicas: 2", "maxReplica: 2", "workerGroupSpecs.1.maxReplica: unknown key: did you mean maxReplicas?"),
    (
        "kuberay/raycluster.yaml",
        "authOptions: {mode: token}",
        "authOptions: {mode: disabled}",
        "spec.authOptions: token authentication is off",
    ),
    (
        "kuberay/raycluster.yaml",
        "  podSelector: {matchLabels: {app.kubernetes.io/part-of: vitok}}",
        "  podSelector: {matchLabels: {app: other}}",
        "headGroupSpec.template.spec: no NetworkPolicy of this file selects its pods",
    ),
    (
        "kuberay/raycluster.yaml",
        "karpenter.sh/capacity-type: on-demand}\n          tolerations",
        "karpenter.sh/capacity-type: spot}\n          tolerations",
        "workerGroupSpecs.0: a spot pool without a fallback",
    ),
    ("kuberay/raycluster.yaml", "limits: *p5", 'limits: {cpu: "180", memory: 1900Gi, nvidia.com/gpu: "8"}', "requests differ from limits"),
    (
        "kuberay/raycluster.yaml",
        'memory: 1800Gi, nvidia.com/gpu: "8"',
        'memory: 1800Gi, nvidia.com/gpus: "8"',
        "no node offers 'nvidia.com/gpus': did you mean nvidia.com/gpu?",
    ),
    (
        "kuberay/raycluster.yaml",
        'memory: 1800Gi, nvidia.com/gpu: "8"',
        'memory: 1800Gi, nvidia.com/gpu: "4"',
        "workerGroupSpecs.0.rayStartParams.num-gpus: Ray would offer 8 GPUs, the pod takes 4",
    ),
    ("kuberay/raycluster.yaml", "runAsNonRoot: true", "runAsNonRoot: false", "securityContext.runAsNonRoot: input should be True"),
    (
        "kuberay/raycluster.yaml",
        "terminationGracePeriodSeconds: 110",
        "terminationGracePeriodSecond: 110",
        "workerGroupSpecs.0.template.spec.terminationGracePeriodSecond: unknown key: did you mean terminationGracePeriodSeconds?",
    ),
    (
        "kuberay/raycluster.yaml",
        "terminationGracePeriodSeconds: 110",
        'terminationGracePeriodSeconds: "110"',
        "workerGroupSpecs.0.template.spec.terminationGracePeriodSeconds: '110' is not of type 'integer', 'null'",
    ),
    (
        "kuberay/raycluster.yaml",
        "{name: shm, mountPath: /dev/shm}",
        "{name: shm, path: /dev/shm}",
        "volumeMounts.0.mountPath: missing; add it",
    ),
    (
        "kuberay/rayjob.yaml",
        "VITOK_STORAGE: s3://<bucket>/vitok",
        "AWS_SECRET_ACCESS_KEY: abc",
        "runtimeEnvYAML.env_vars.AWS_SECRET_ACCESS_KEY: AWS_SECRET_ACCESS_KEY is a secret",
    ),
    (
        "kuberay/rayjob.yaml",
        "shutdownAfterJobFinishes: true",
        "shutdownAfterJobFinishes: false",
        "shutdownAfterJobFinishes: input should be True",
    ),
    (
        "mlflow/kubernetes.yaml",
        "valueFrom: {secretKeyRef: {name: mlflow-postgres, key: password}}}\n          command",
        "value: abc}\n          command",
        "env.PGPASSWORD: PGPASSWORD is a secret in plain text",
    ),
    (
        "mlflow/kubernetes.yaml",
        "  type: ClusterIP\n  selector: {app.kubernetes.io/name: mlflow}",
        "  type: NodePort\n  selector: {app.kubernetes.io/name: mlflow}",
        "Service.mlflow.spec.type: NodePort opens it to the world",
    ),
    (
        "mlflow/kubernetes.yaml",
        "readinessProbe: {exec: {command: [pg_isready",
        "readinesProbe: {exec: {command: [pg_isready",
        "StatefulSet.mlflow-postgres.spec.template.spec.containers.0.readinesProbe: unknown key: did you mean readinessProbe?",
    ),
    (
        "mlflow/kubernetes.yaml",
        "apiVersion: apps/v1",
        "apiVersion: apps/v1beta1",
        "StatefulSet.mlflow-postgres.apiVersion: 'apps/v1beta1' is not one of ['apps/v1']",
    ),
    (
        "mlflow/compose.yaml",
        "restart: unless-stopped",
        "restrat: unless-stopped",
        "services.postgres.restrat: unknown key: did you mean restart?",
    ),
    (
        "mlflow/compose.yaml",
        "restart: unless-stopped",
        "restart: [always]",
        "services.postgres.restart: ['always'] is not of type 'string'",
    ),
    (
        "mlflow/compose.yaml",
        "${MLFLOW_BIND:-127.0.0.1}:5000:5000",
        "5000:5000",
        "services.mlflow.ports.0: '5000:5000' listens on every address",
    ),
    (
        "mlflow/compose.yaml",
        "POSTGRES_PASSWORD_FILE: /run/secrets/postgres_password",
        "POSTGRES_PASSWORD: abc",
        "POSTGRES_PASSWORD is a secret in plain text",
    ),
    ("mlflow/compose.yaml", "postgres:17.6-bookworm", "postgres", "image 'postgres' has no tag"),
    ("mlflow/compose.yaml", "mlflow@postgres/mlflow", "mlflow:abc@postgres/mlflow", "a password stands in an address"),
    ("mlflow/Dockerfile", "mlflow==3.17.2", "mlflow", "pip installs mlflow at any version"),
    ("image/Dockerfile", "USER ray\n", "", "USER: runs as root"),
    ("image/Dockerfile", "python:3.11.13-slim-bookworm", "python:latest", "line 6: image 'python:latest' is not pinned"),
    ("runtime_env.yaml", "  - runs/\n", "", "excludes: runs/ is not left out"),
    ("runtime_env.yaml", "http://<mlflow-host>:5000", "sqlite:///runs/mlflow.db", "MLFLOW_TRACKING_URI: is a file of one node's"),
    ("slurm.sbatch", "--num-cpus=0", "--num-cpus=4", "ray start --head: the head must offer 0 CPUs"),
    ("slurm.sbatch", "#SBATCH --signal=B:TERM@120\n", "", "#SBATCH --signal: no notice before the end"),
    ("slurm.sbatch", "umask 077\n", "", "umask: other users of the machine could read the token"),
    ("slurm.sbatch", "for _ in $(seq 60); do", "for _ in $(seq 60) do", "bash: "),
    ("one-machine.sh", "--dashboard-host=127.0.0.1", "--dashboard-host=::", "the dashboard must listen on this machine alone"),
    ("one-machine.sh", "export RAY_AUTH_MODE=token", "export RAY_AUTH_TOKEN=abc", "RAY_AUTH_TOKEN is a secret in plain text"),
    (
        "policies/aws-head.json",
        '"ec2:RunInstances",\n      "Resource": "arn:aws:ec2:*:<account>:instance/*"',
        '"ec2:*",\n      "Resource": "*"',
        "ec2:* allows more than is named",
    ),
    (
        "policies/aws-head.json",
        '"arn:aws:iam::<account>:role/vitok-worker"',
        '"arn:aws:iam::<account>:role/*"',
        "iam:PassRole on many roles",
    ),
    ("policies/aws-head.json", "aws:ResourceTag/ray-cluster-name", "aws:ResourceTag/other", "ends any instance of the account"),
    ("policies/aws-worker.json", '"arn:aws:s3:::<bucket>/*"', '"arn:aws:s3:::*"', "s3:GetObject on everything"),
    ("policies/gcp-head.yaml", "compute.subnetworks.use", "compute.*", "includedPermissions.compute.*: is not one permission"),
    ("prices.toml", "usd = 4.284", "usd = -4.284", "aws.c7i.24xlarge.on_demand.usd: input should be greater than 0"),
    ("prices.toml", 'date = "2026-09-25"', 'date = "last week"', "aws.c7i.24xlarge.on_demand.date: 'last week' is not a date"),
]


@pytest.mark.parametrize(("name", "right", "wrong", "said"), BROKEN, ids=[f"{row[0]}-{number}" for number, row in enumerate(BROKEN)])
def test_it_is_caught(call_vitok: Call, tmp_path: Path, name: str, right: str, wrong: str, said: str) -> None:
    text = (ROOT / "clusters" / name).read_text()
    assert right in text
    (tmp_path / Path(name).name).write_text(text.replace(right, wrong, 1))
    code, shown, errors = call_vitok("cluster", "validate", str(tmp_path / Path(name).name))
    assert (code, shown) == (1, "")
    assert said in errors and "Traceback" not in errors


def test_the_text_for_people_says_how_many() -> None:
    assert f"{len(BROKEN)} copies with one mistake each" in (ROOT / "clusters" / "README.md").read_text()
