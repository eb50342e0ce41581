"""The part of a launcher file that Ray hands to the cloud as it is: strict, so that a typo fails here and not there."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel, to_pascal


class Aws(BaseModel):
    """Fields of EC2's RunInstances, and Ray's own SubnetIds and SecurityGroupIds."""

    model_config = ConfigDict(extra="forbid", strict=True, alias_generator=to_pascal)


class Ebs(Aws):
    """A volume of EBS, in GiB."""

    volume_size: Annotated[int, Field(gt=0)]  # GiB
    volume_type: Literal["gp2", "gp3", "io1", "io2"] = "gp3"
    iops: int | None = None
    throughput: int | None = None
    encrypted: bool = False
    delete_on_termination: bool = True


class Disk(Aws):
    """A volume of a node, and where the node finds it."""

    device_name: str
    ebs: Ebs


class Interface(Aws):
    """A network card of a node: EFA or an ordinary one, in which subnet and behind which security groups."""

    network_card_index: Annotated[int, Field(ge=0)] = 0
    device_index: Annotated[int, Field(ge=0)]
    interface_type: Literal["efa", "efa-only", "interface"] = "interface"
    subnet_id: str
    groups: Annotated[list[str], Field(min_length=1)]
    delete_on_termination: bool = True
    associate_public_ip_address: bool = False


class SpotOptions(Aws):
    """How a spot node is asked for: once, and it ends when AWS takes it back."""

    max_price: str | None = None
    spot_instance_type: Literal["one-time"] = "one-time"
    instance_interruption_behavior: Literal["terminate"] = "terminate"


class Market(Aws):
    """How a node is paid where it is not on demand."""

    market_type: Literal["spot", "capacity-block"]
    spot_options: SpotOptions | None = None


class Profile(Aws):
    """The instance profile of a node, by name or by ARN."""

    name: str | None = None
    arn: str | None = None


class AwsMetadata(Aws):
    """How a node reaches its metadata, which hold the keys of its role."""

    http_endpoint: Literal["enabled"] = "enabled"
    http_tokens: Literal["required"]  # version 2 only: version 1 gives the role's keys to whoever makes a node fetch an address
    http_put_response_hop_limit: Annotated[int, Field(ge=1, le=64)] = 1


class Placement(Aws):
    """Where in the zone a node stands, as in a cluster placement group."""

    group_name: str | None = None
    availability_zone: str | None = None
    tenancy: Literal["default", "dedicated"] | None = None


class Tag(Aws):
    """A tag."""

    key: str
    value: str


class Tags(Aws):
    """The tags of what is made with a node."""

    resource_type: Literal["instance", "volume", "network-interface", "spot-instances-request"]
    tags: list[Tag]


class AwsNode(Aws):
    """The `node_config` of a pool on AWS: its network is named, so that Ray makes none that is open to the world."""

    instance_type: str
    image_id: str  # Ray's default is of 2018
    key_name: str | None = None
    subnet_ids: Annotated[list[str], Field(min_length=1)] | None = None
    security_group_ids: Annotated[list[str], Field(min_length=1)] | None = None
    network_interfaces: Annotated[list[Interface], Field(min_length=1)] | None = None
    iam_instance_profile: Profile
    metadata_options: AwsMetadata
    instance_market_options: Market | None = None
    placement: Placement | None = None
    block_device_mappings: list[Disk] | None = None
    tag_specifications: list[Tags] | None = None
    ebs_optimized: bool | None = None
    user_data: str | None = None

    @model_validator(mode="after")
    def _network(self) -> "AwsNode":
        if self.network_interfaces is None:
            if not self.security_group_ids:
                raise ValueError("SecurityGroupIds is missing: Ray then makes a group that opens port 22 to the world; name your own")
            if not self.subnet_ids:
                raise ValueError("SubnetIds is missing: Ray then takes any subnet of the zone; name a private one")
            return self
        if self.subnet_ids or self.security_group_ids:
            raise ValueError("SubnetIds and SecurityGroupIds may not stand beside NetworkInterfaces: name them in each of those")
        cards = [one.network_card_index for one in self.network_interfaces]
        if len(set(cards)) < len(cards):
            raise ValueError("two NetworkInterfaces have one NetworkCardIndex: give each card one")
        if any(one.device_index != min(one.network_card_index, 1) for one in self.network_interfaces):
            raise ValueError("of NetworkInterfaces card 0 has DeviceIndex 0, the others 1")
        return self


class Gcp(BaseModel):
    """Fields of Compute Engine's instances.insert."""

    model_config = ConfigDict(extra="forbid", strict=True, alias_generator=to_camel)


class BootDisk(Gcp):
    """The image that a disk is made from, and the disk's size in GB."""

    disk_size_gb: Annotated[int, Field(gt=0)]
    source_image: str
    disk_type: str | None = None


class GcpDisk(Gcp):
    """A disk of a node: it goes with the node."""

    boot: bool = False
    auto_delete: Literal[True]  # a disk that stays costs for good
    type: Literal["PERSISTENT", "SCRATCH"] | None = None
    initialize_params: BootDisk


class Access(Gcp):
    """A public address of a node, which the rules refuse."""

    name: str | None = None
    type: Literal["ONE_TO_ONE_NAT"] = "ONE_TO_ONE_NAT"


class GcpInterface(Gcp):
    """A network card of a node, and its subnet."""

    network: str | None = None
    subnetwork: str
    nic_type: Literal["GVNIC", "VIRTIO_NET"] | None = None
    access_configs: list[Access] | None = None


class Scheduling(Gcp):
    """Whether a node is a spot node, and what becomes of it."""

    provisioning_model: Literal["SPOT", "STANDARD"] = "STANDARD"
    instance_termination_action: Literal["DELETE"] | None = None  # Ray does not start stopped ones again
    on_host_maintenance: Literal["TERMINATE", "MIGRATE"] | None = None
    automatic_restart: bool | None = None


class Account(Gcp):
    """The service account of a node, and what it may ask for."""

    email: str
    scopes: list[str]


class Shielded(Gcp):
    """The protections of a node's boot."""

    enable_vtpm: bool | None = None
    enable_integrity_monitoring: bool | None = None
    enable_secure_boot: bool | None = None


class Item(Gcp):
    """A key of a node's metadata."""

    key: str
    value: str


class GcpMetadata(Gcp):
    """The metadata of a node."""

    items: list[Item]


class GcpNode(Gcp):
    """The `node_config` of a pool on Google Cloud."""

    machine_type: str
    disks: Annotated[list[GcpDisk], Field(min_length=1)]
    network_interfaces: Annotated[list[GcpInterface], Field(min_length=1)]  # else Ray makes one with a public address
    scheduling: Scheduling | None = None
    service_accounts: Annotated[list[Account], Field(min_length=1)]
    shielded_instance_config: Shielded | None = None
    metadata: GcpMetadata | None = None
    labels: dict[str, str] | None = None
    resource_policies: list[str] | None = None
