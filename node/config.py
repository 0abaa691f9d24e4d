"""A home's configuration: what it may say, its defaults, and the file that explains itself."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from tallystick.protocol.errors import InputError
from tallystick.protocol.messages import OPENS_MAX
from tallystick.protocol.toml import parse_toml, toml_text


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


TEMPLATE = """\
# Tallystick configuration. Every setting is shown with its default; a line that begins with # is
# not in force. Changes take effect when the node is started again.

[network]
# Where peers connect. Use 0.0.0.0:7450 to accept them from other machines.
# listen = "127.0.0.1:7450"

# The address that peers are told to dial, if it is not the one above (behind a NAT or a name).
# Of a node that listens on 0.0.0.0 they are told the address from which this machine dials others.
# advertise = ""

# How long to wait for a peer to answer when dialling.
# dial_timeout_seconds = 10.0

[http]
# Where programs and browsers on this machine reach the node, with the keys of tally keys. Port 0
# takes a free port, and the same again next time; tally status shows it. "" for none.
# listen = "127.0.0.1:0"

# It has no TLS, so it listens on this machine alone. true lets it listen elsewhere: in a container,
# or behind a proxy that speaks TLS.
# remote = false

# The names by which that proxy is called, if it passes them on (the header Host).
# hosts = []

# Limits: connections in all; the size of one request (streams have none); for each key requests a
# second, and at once.
# connections = 256
# body_mebibytes = 16
# requests_per_second = 5000
# requests_at_once = 64

[console]
# The pages of tally console. How long a login lasts, and how long one that nobody uses.
# session_minutes = 480.0
# idle_minutes = 30.0

# A file that is compared there: how large it may be; how long the comparison, a process of its
# own, may run; and how much memory it may take.
# upload_mebibytes = 64
# compare_seconds = 120
# compare_mebibytes = 4096

[pacspace]
# Which usage a customer of the PacSpace interface is, each in a table of its own: the id that
# clients use, the channel (the peer's name, or the beginning of its id), the meter (not needed if
# there is one), the subject (if absent, all subjects count), and the sign of usage ("negative"
# where clients emit -42 for 42 used). A channel without an entry is a customer by its peer's name.
#   [[pacspace.customers]]
#   id = "cust_123"
#   channel = "beta.example"
#   meter = "output-tokens"
#   subject = "project-7"
#   usage = "positive"
# customers = []

[checkpoints]
# Whether to sign a period that the peer closes before its grace time is over (its --force), if
# the numbers agree: "agree" or "refuse".
# early = "agree"

[quotas]
# What one peer may use up here. A peer that is too fast is read more slowly, nothing worse.

# How much of a peer's log is held in each channel. When it is reached nothing more of that log is
# taken or co-signed, both sides' status says so, and it goes on once this is raised.
# log_mebibytes = 16384

# How fast a peer may send, and for how many seconds' worth it may be faster.
# records_per_second = 1000000
# mebibytes_per_second = 256
# messages_per_second = 5000
# burst_seconds = 10

# How often a peer may connect anew.
# links_per_minute = 60

# How many of a peer's proposals of terms wait here for a person to accept them.
# proposals = 32

[connections]
# Limits for those who connect and have not shown yet that they are a peer: how many at once, in
# all and from one address; how often from one address; how often one address may try pairing
# codes; and how long a TLS handshake may take.
# strangers = 128
# strangers_per_address = 32
# attempts_per_second = 10
# pairings_per_minute = 60
# handshake_seconds = 10.0

[archive]
# Where the records of closed periods are sealed into segments, files that anybody's engine can
# query: a folder (an absolute path) or an fsspec URL, as in "s3://bucket/tally" once the package
# s3fs is installed. "" for nowhere.
# location = ""

# Whether sealed records are then dropped from the store. They are read back from the archive when
# they are needed, which must be kept as safe as the home.
# drop = false

# Of how many of the newest closed periods the records stay in the store all the same.
# keep_periods = 2

[reconcile]
# Standing consents to tally reconcile, each in a table of its own: with whom, for which periods (a
# pattern), our file ({period} stands for the period's label without colons) and its map, how many
# rows the peer may be shown in a session, and how many sessions it may have in a day. As in:
#   [[reconcile.rules]]
#   peer = "beta.example"
#   period = "2026-*"
#   file = "/var/exports/usage-{period}.csv"
#   map = "/var/exports/map.toml"
#   open = 10000
#   sessions_per_day = 4
# rules = []

[gossip]
# Whether the newest heads of channels are passed on among peers, blinded, so that a home that is
# older than it was, a copy of it, or a second history is noticed through any of them.
# enabled = true

# How many items are kept for others (some 500 bytes each; four for each connected peer if that is
# more, unless it is 0), and how many one peer may send.
# keep_items = 20000
# items_per_minute = 2000

[log]
# How lines of the log are written, on standard error: "text" for people, "json" for machines, or
# "auto": text on a terminal and JSON elsewhere.
# format = "auto"

# From which level on: "debug", "info", "warning" or "error".
# level = "info"

[metrics]
# Whether /metrics answers without a key, as /healthz does.
# open = false

# Up to how many channels each have metrics of their own. A node with more gives sums and extremes
# over all of them, under the same names without labels. 0: always only these.
# channels = 500

[health]
# With less free space than this where the home is, the node says that it is not healthy.
# free_mebibytes = 256

[intake]
# How long a stream of deltas may be silent before it is ended; what it sent is recorded.
# stall_seconds = 60.0

# What becomes of CloudEvents, each rule in a table of its own; the first that fits counts. Which
# types (a pattern), the channel (the beginning of its id, or its peer's name), and the map, a file
# whose path begins in the home. As in:
#   [[intake.cloudevents]]
#   type = "com.acme.inference.*"
#   channel = "beta.example"
#   map = "events.toml"
# cloudevents = []

[feed]
# What happens is kept as a list of events (see tally events), for so many days, and no more than
# so many events.
# keep_days = 30
# keep_events = 500000

# How long before a deadline it is told, and after how long without a connection a peer is silent.
# due_hours = 72.0
# silent_seconds = 60.0

[webhooks]
# How events are sent to the endpoints of tally webhooks: how long one attempt may take; when the
# first repetition follows (each later one after about twice the time, up to an hour); when an
# event is given up as dead, by attempts or by its age, whichever comes first; and how many
# channels' events one endpoint is sent at once.
# timeout_seconds = 10.0
# first_retry_seconds = 2.0
# attempts = 100
# give_up_hours = 72.0
# parallel = 4

# How many deliveries are kept to look up, of those that arrived and of the dead, each.
# keep_deliveries = 10000

# Whether events may go unencrypted to other machines than this one.
# allow_http = false

# A file of certificates (PEM) that https endpoints may have beside those that the system trusts.
# ca_file = ""

[standby]
# Whether a second node of this party (tally standby init) may mirror this one. Whoever has the
# party's seed can then copy all that is in this home's store.
# serve = false

# Whether nothing is acknowledged to whoever emits, and no head sent to a peer, before the standby
# has it too; and for how long it is waited for before this node goes on alone, which status, the
# events and the metrics say. 0: it never goes on alone, so while no standby follows it records
# nothing.
# wait = false
# wait_seconds = 10.0

[timestamps]
# An authority that is asked when a checkpoint existed, once both have signed it (RFC 3161): its
# URL, as in "https://tsa.example/tsr". "" for none. Only a digest is sent.
# url = ""

# A file (PEM) of the certificates to which that authority's must lead; a path that does not begin
# with / begins in the home.
# certificates = ""

# How long one attempt may take; when the first repetition follows (each later one after about
# twice the time, up to an hour); and how many may be asked for in a minute.
# timeout_seconds = 10.0
# first_retry_seconds = 10.0
# per_minute = 60

[witness]
# Whether this node is a witness: it co-signs heads of others' logs without seeing a record. See
# docs/witnesses.md.
# serve = false

# Where it takes them, over plain HTTP. Port 0 takes a free port, and the same again next time.
# listen = "127.0.0.1:0"

# true lets it listen elsewhere than on this machine: in a container, or behind a proxy that speaks
# TLS.
# remote = false

# Whether the logs of all paired peers are witnessed, in whatever channel they are.
# paired = true

# Which other logs are, each in a table of its own: the log's key, and its origin if that is not
# the key's name. A log may have several keys.
#   [[witness.logs]]
#   vkey = "log.example/7+8f3b2a11+Ae…"
#   origin = "log.example/7"
# logs = []

# How many logs each paired peer may have witnessed.
# origins = 1000

# Limits: requests a second from one address, and heads a minute of one log.
# requests_per_second = 20
# heads_per_minute = 60

[witnessing]
# Which witnesses are asked to co-sign our heads, each in a table of its own: its key, and the
# address to which /add-checkpoint is added.
#   [[witnessing.witnesses]]
#   vkey = "gamma.example/witness+5d1f0c3e+BG…"
#   url = "https://witness.gamma.example"
# witnesses = []

# How many of them must have co-signed our head in a checkpoint before this node signs that. 0:
# none, their lines are only wished for.
# require = 0

# Whether a checkpoint's head of the peer's log is shown as well, so that bundles carry lines on
# both. The witness then knows who the peer is.
# both = true

# How often each witness is asked about one log at most, while it grows; and how long a checkpoint
# waits for the lines that are required.
# every_seconds = 10.0
# wait_seconds = 20.0

# How long a witness may take to answer; whether it may be asked unencrypted on other machines than
# this one; and a file of certificates (PEM) that it may have beside those that the system trusts.
# timeout_seconds = 10.0
# allow_http = false
# ca_file = ""
"""


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
            near = difflib.get_close_matches(key, known, 1)
            advice = f"Did you mean {near[0]}?" if near else f"Known: {', '.join(known)}"
            raise InputError(f"{path}: there is no setting {where}{key}", advice)
        inner = known[key]
        if isinstance(value, dict) and isinstance(inner, type) and issubclass(inner, Struct):
            _check_keys(path, value, inner, f"{where}{key}.")
