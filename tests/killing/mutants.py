"""Nodes with a mistake in them that a kill can expose: what a campaign must be able to find.

Each is the code of a `tally` whose process first spoils one thing. SIGKILL leaves the page cache,
so a missing fsync is not among them: the simulator's torn writes are for that.
"""

from __future__ import annotations

from nodes import MAIN

_MISTAKES = {
    "acknowledges before the commit": """
from tallystick.node import channel
async def emit(self, drafts):
    request = channel.Request(drafts)
    self._requests.append(request)
    self.errands.call(channel.Channel.make_batches, self)
    await request.scheduled.wait()
    return request.result
channel.Channel.emit = emit
""",
    "forgets which ids are recorded when it starts": """
from tallystick.node import logs
from tallystick.node.store.idindex import IdIndex
load = logs.ChannelLog.load
def forget(self, channel_id):
    load(self, channel_id)
    self.index = IdIndex(self.index_folder, self.number, [])
logs.ChannelLog.load = forget
""",
    "stores a signed head when the next one is signed": """
from tallystick.node import channel
from tallystick.protocol.heads import sign_head
channel.Channel._sign = lambda self, head, facts: (b"", b"")
held = []
async def signed_batch(self, start, stop):
    batch = self.own.batch_from(start, stop)
    head = self.own.head(batch.size, batch.root)
    signature = sign_head(head, self.log_signer(self.own.keyring))
    for size, root, before in held:
        self.own.store_signature(size, root, before)
    held[:] = [(batch.size, batch.root, signature)]
    return channel.Batch(batch.first, batch.data, batch.root, signature)
channel.Channel.signed_batch = signed_batch
channel.Channel.take_cosignature = lambda self, size, cosignature: None
""",
    "co-signs before the commit": """
from tallystick.node import logs
submit = logs.ChannelLog.submit_checked
def early(self, records, parts, prints, facts, sign, then):
    if not self.number % 2:
        return submit(self, records, parts, prints, facts, sign, then)
    ticket = submit(self, records, parts, prints, facts, sign, lambda batch: None)
    made = self._in_flight[-1]
    then(logs.Batch(made.first, made.data, made.head.root, made.head.signature))
    return ticket
logs.ChannelLog.submit_checked = early
""",
    "commits a batch and its log's row one after the other": """
from tallystick.node.store import disk
class Half:
    def __init__(self, txn, batches):
        self._txn, self._batches = txn, batches
    def put(self, table, key, value):
        if (table == "batches") == self._batches:
            self._txn.put(table, key, value)
    def __getattr__(self, name):
        return getattr(self._txn, name)
commit = disk.Store.commit_now
def twice(self, *jobs):
    for half in (True, False):
        commit(self, *[lambda txn, job=job: job(Half(txn, half)) for job in jobs])
disk.Store.commit_now = twice
""",
    "starts without the balances that were not flushed": """
from tallystick.node import logs
fold = logs.ChannelLog._fold
def forget(self, first, records, txn):
    book, self.book = self.book, logs.Book(self.folder, self._load_tally)
    fold(self, first, records, txn)
    self.book = book
logs.ChannelLog._fold = forget
""",
    "keeps what opens a declaration in memory": """
from tallystick.node import declaring
from tallystick.node.store import disk
kept, put = {}, disk.Txn.put
def remember(self, table, key, value):
    if table == "declarations":
        kept[key] = value
    else:
        put(self, table, key, value)
disk.Txn.put = remember
declaring.kept_rows = lambda channel: {k[4:]: declaring._decode(v) for k, v in kept.items()}
""",
    "says of a dispute again what it said": """
from tallystick.node import disputing
disputing.said_before = lambda channel, record: None
""",
}

_TAKEOVER_MISTAKES = {
    "does not wait for its standby": """
import trio
from tallystick.node.standby import serving
async def shared(self):
    self._grown.set()
    self._grown = trio.Event()
    return not self._leaving
serving.Mirroring.shared = shared
""",
    "is a third of a second behind with what it says that it has": """
import trio
from tallystick.node.standby import following, inflow
from tallystick.protocol.mirror import Applied, Part
take, apply_next = following.Following._take, inflow.Inflow.apply_next
async def early(self, message, inflow, talk):
    await take(self, message, inflow, talk)
    if isinstance(message, Part) and message.number and message.last:
        await talk.say(Applied(message.number))
async def late(self):
    await self._arrived.wait()
    await trio.sleep(0.3)
    await apply_next(self)
following.Following._take, inflow.Inflow.apply_next = early, late
""",
}

MUTANTS = {name: mistake + MAIN for name, mistake in _MISTAKES.items()}
TAKEOVER_MUTANTS = {name: mistake + MAIN for name, mistake in _TAKEOVER_MISTAKES.items()}
