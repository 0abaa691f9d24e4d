"""A home's configuration: what it may say, its defaults, and how its file is read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from tallystick.protocol.errors import InputError
from tallystick.protocol.messages import OPENS_MAX
from tallystick.protocol.toml import known_keys, parse_toml, toml_text


class Network(Struct, frozen=True, forbid_unknown_fields=True):
    """Where this node listens, and what it tells others."""

    listen: str = "127.0.0.1:7450"
    advertise: str = ""
    dial_timeout_seconds: Annotated[float, Meta(gt=0, le=300)] = 10.0


class Http(Struct, frozen=True, forbid_unknown_fields=True):
    """Where programs and browsers on this machine reach the node, and how much one may ask."""

    listen: str = "127.0.0.1:0"
    remote: bool = False
    hosts: list[str] = []
    connections: Annotated[int, Meta(ge=1, le=10**5)] = 256
    body_mebibytes: Annotated[int, Meta(ge=1, le=1024)] = 16
    requests_per_second: Annotated[int, Meta(ge=1, le=10**6)] = 5_000
    requests_at_once: Annotated[int, Meta(ge=1, le=10**5)] = 64


class ConsoleSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The pages for people: how long a login lasts, and what may be uploaded to be compared."""

    session_minutes: Annotated[float, Meta(gt=0, le=10_080)] = 480.0
    idle_minutes: Annotated[float, Meta(gt=0, le=10_080)] = 30.0
    upload_mebibytes: Annotated[int, Meta(ge=1, le=4096)] = 64
    compare_seconds: Annotated[int, Meta(ge=1, le=3600)] = 120
    compare_mebibytes: Annotated[int, Meta(ge=256, le=2**20)] = 4096


class PacspaceCustomer(Struct, frozen=True, forbid_unknown_fields=True):
    """A customer as clients of the PacSpace interface call it, and which usage that is."""

    id: Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_.:-]{1,128}\Z")]
    channel: Annotated[str, Meta(min_length=1)]
    meter: str = ""
    subject: Annotated[str, Meta(max_length=128)] = ""
    usage: Literal["positive", "negative"] = "positive"


class Pacspace(Struct, frozen=True, forbid_unknown_fields=True):
    """Who is whose customer at the PacSpace interface; without an entry, a channel's peer is."""

    customers: list[PacspaceCustomer] = []


class Checkpoints(Struct, frozen=True, forbid_unknown_fields=True):
    """How this node answers proposals to close a period."""

    early: Literal["agree", "refuse"] = "agree"


class Quotas(Struct, frozen=True, forbid_unknown_fields=True):
    """What one peer may use of this node. Rates allow bursts of `burst_seconds`."""

    log_mebibytes: Annotated[int, Meta(ge=1, le=2**30)] = 16_384
    records_per_second: Annotated[int, Meta(ge=100, le=10**9)] = 1_000_000
    mebibytes_per_second: Annotated[int, Meta(ge=1, le=10**6)] = 256
    messages_per_second: Annotated[int, Meta(ge=100, le=10**6)] = 5_000
    burst_seconds: Annotated[int, Meta(ge=1, le=3600)] = 10
    links_per_minute: Annotated[int, Meta(ge=1, le=10**6)] = 60
    proposals: Annotated[int, Meta(ge=1, le=4096)] = 32


class Connections(Struct, frozen=True, forbid_unknown_fields=True):
    """What those may use who have not shown yet that they are a peer."""

    strangers: Annotated[int, Meta(ge=1, le=10**5)] = 128
    strangers_per_address: Annotated[int, Meta(ge=1, le=10**5)] = 32
    attempts_per_second: Annotated[int, Meta(ge=1, le=10**5)] = 10
    pairings_per_minute: Annotated[int, Meta(ge=1, le=10**5)] = 60
    handshake_seconds: Annotated[float, Meta(gt=0, le=300)] = 10.0


class ReconcileRule(Struct, frozen=True, forbid_unknown_fields=True):
    """A standing consent to reconcile with a peer. `period` is a pattern, as in `2026-*`; `file` is
    a path in which `{period}` stands for the period's label.
    """

    peer: str
    file: str
    map: str
    period: str = "*"
    open: Annotated[int, Meta(ge=0, le=OPENS_MAX)] = 10_000
    sessions_per_day: Annotated[int, Meta(ge=1, le=10_000)] = 4


class ArchiveSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """Where records of closed periods are sealed into segments, and which leave the store."""

    location: str = ""
    drop: bool = False
    keep_periods: Annotated[int, Meta(ge=0, le=100_000)] = 2


class StandbySettings(Struct, frozen=True, forbid_unknown_fields=True):
    """Whether another node of this party may mirror this one, and whether it is waited for."""

    serve: bool = False
    wait: bool = False
    wait_seconds: Annotated[float, Meta(ge=0, le=86_400)] = 10.0


class Reconcile(Struct, frozen=True, forbid_unknown_fields=True):
    """Standing consents; the first rule that fits counts."""

    rules: list[ReconcileRule] = []


class Log(Struct, frozen=True, forbid_unknown_fields=True):
    """How the node writes its log."""

    format: Literal["auto", "text", "json"] = "auto"
    level: Literal["debug", "info", "warning", "error"] = "info"


class GossipSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """Whether blinded heads are passed on, and how many for others."""

    enabled: bool = True
    keep_items: Annotated[int, Meta(ge=0, le=10**6)] = 20_000
    items_per_minute: Annotated[int, Meta(ge=10, le=10**6)] = 2_000


class Metrics(Struct, frozen=True, forbid_unknown_fields=True):
    """What /metrics gives, and to whom."""

    open: bool = False
    channels: Annotated[int, Meta(ge=0, le=100_000)] = 500


class Health(Struct, frozen=True, forbid_unknown_fields=True):
    """When the node says that it is not well."""

    free_mebibytes: Annotated[int, Meta(ge=0, le=2**30)] = 256


class CloudEventsRule(Struct, frozen=True, forbid_unknown_fields=True):
    """What becomes of CloudEvents: those whose type fits a pattern go to a channel by a map."""

    type: Annotated[str, Meta(min_length=1)]
    channel: Annotated[str, Meta(min_length=1)]
    map: Annotated[str, Meta(min_length=1)]


class Intake(Struct, frozen=True, forbid_unknown_fields=True):
    """How usage comes in over HTTP beside single deltas."""

    cloudevents: list[CloudEventsRule] = []
    stall_seconds: Annotated[float, Meta(gt=0, le=86_400)] = 60.0


class FeedConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """How long events are kept, and when those are told that silence makes."""

    keep_days: Annotated[int, Meta(ge=1, le=3660)] = 30
    keep_events: Annotated[int, Meta(ge=1000, le=10**8)] = 500_000
    due_hours: Annotated[float, Meta(ge=0, le=8784)] = 72.0
    silent_seconds: Annotated[float, Meta(gt=0, le=10**7)] = 60.0


class WebhooksConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """How events are sent to endpoints."""

    timeout_seconds: Annotated[float, Meta(gt=0, le=60)] = 10.0
    first_retry_seconds: Annotated[float, Meta(gt=0, le=3600)] = 2.0
    attempts: Annotated[int, Meta(ge=1, le=10_000)] = 100
    give_up_hours: Annotated[float, Meta(gt=0, le=8784)] = 72.0
    parallel: Annotated[int, Meta(ge=1, le=64)] = 4
    keep_deliveries: Annotated[int, Meta(ge=10, le=10**6)] = 10_000
    allow_http: bool = False
    ca_file: str = ""


class TimestampsConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Whom checkpoints are stamped by (RFC 3161)."""

    url: str = ""
    certificates: str = ""
    timeout_seconds: Annotated[float, Meta(gt=0, le=60)] = 10.0
    first_retry_seconds: Annotated[float, Meta(gt=0, le=3600)] = 10.0
    per_minute: Annotated[int, Meta(ge=1, le=6000)] = 60


class WitnessedLog(Struct, frozen=True, forbid_unknown_fields=True):
    """A log whose heads this node co-signs; its origin is the key's name unless it is given."""

    vkey: Annotated[str, Meta(min_length=1)]
    origin: str = ""


class WitnessSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """Whether this node is a witness for others, for whom, and how much they may ask."""

    serve: bool = False
    listen: str = "127.0.0.1:0"
    remote: bool = False
    paired: bool = True
    logs: list[WitnessedLog] = []
    origins: Annotated[int, Meta(ge=1, le=10**6)] = 1000
    requests_per_second: Annotated[int, Meta(ge=1, le=10**5)] = 20
    heads_per_minute: Annotated[int, Meta(ge=1, le=10**5)] = 60


class AskedWitness(Struct, frozen=True, forbid_unknown_fields=True):
    """A witness that our heads are sent to: its key, and the address that it takes them at."""

    vkey: Annotated[str, Meta(min_length=1)]
    url: Annotated[str, Meta(min_length=1)]


class Witnessing(Struct, frozen=True, forbid_unknown_fields=True):
    """Which witnesses are to co-sign our heads, and how many of them must before a checkpoint."""

    witnesses: list[AskedWitness] = []
    require: Annotated[int, Meta(ge=0, le=256)] = 0
    both: bool = True
    every_seconds: Annotated[float, Meta(ge=0, le=86_400)] = 10.0
    wait_seconds: Annotated[float, Meta(gt=0, le=50)] = 20.0
    timeout_seconds: Annotated[float, Meta(gt=0, le=60)] = 10.0
    allow_http: bool = False
    ca_file: str = ""


class Config(Struct, frozen=True, forbid_unknown_fields=True):
    """All settings."""

    network: Network = Network()
    http: Http = Http()
    console: ConsoleSettings = ConsoleSettings()
    pacspace: Pacspace = Pacspace()
    checkpoints: Checkpoints = Checkpoints()
    quotas: Quotas = Quotas()
    connections: Connections = Connections()
    archive: ArchiveSettings = ArchiveSettings()
    reconcile: Reconcile = Reconcile()
    gossip: GossipSettings = GossipSettings()
    log: Log = Log()
    metrics: Metrics = Metrics()
    health: Health = Health()
    intake: Intake = Intake()
    feed: FeedConfig = FeedConfig()
    webhooks: WebhooksConfig = WebhooksConfig()
    standby: StandbySettings = StandbySettings()
    timestamps: TimestampsConfig = TimestampsConfig()
    witness: WitnessSettings = WitnessSettings()
    witnessing: Witnessing = Witnessing()


def load_config(path: Path) -> Config:
    """The configuration of a file; `InputError` names the line or the key that is wrong."""
    try:
        values = parse_toml(toml_text(path.read_bytes()))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    except InputError as error:
        raise InputError(f"{path}: {error.message}", error.advice) from None
    _check_keys(path, values, Config, "")
    try:
        config = msgspec.convert(values, Config)
    except msgspec.ValidationError as error:
        raise InputError(
            f"{path}: {error}", "The file's comments say what each setting takes"
        ) from None
    place = config.archive.location
    if place and not place.startswith("/") and ":" not in place:
        raise InputError(
            f"{path}: archive.location is {place!r}, which depends on where one stands",
            "Give a path that begins with / or an fsspec URL",
        )
    return config


def _check_keys(path: Path, values: dict[str, Any], kind: type[Struct], where: str) -> None:
    known = {field.name: field.type for field in msgspec.structs.fields(kind)}
    for key, value in values.items():
        if key not in known:
            raise InputError(f"{path}: there is no setting {where}{key}", known_keys(key, known))
        inner = known[key]
        if isinstance(value, dict) and isinstance(inner, type) and issubclass(inner, Struct):
            _check_keys(path, value, inner, f"{where}{key}.")
