"""The file config.toml as a new home has it: every setting with its default, and what it means."""

from __future__ import annotations

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

# How many items are kept for others (some 500 bytes each), and how many one peer may send.
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
