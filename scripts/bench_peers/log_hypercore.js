/* Appends records to a hypercore of one process and replicates it to that of a second one.

   node log_hypercore.js FOLDER RECORDS SINGLES plain|synced|blocks

   Needs `npm install hypercore@11` where Node finds it (NODE_PATH). A hypercore writes its RocksDB's
   log without an fsync, and has no option for it. `synced` adds what it leaves out: each side calls
   fdatasync on that log before it says that it has a batch. `blocks` does so too, and makes one block
   of each batch, where the others make one of each record. Prints one line of JSON. */
'use strict'
const fs = require('fs')
const net = require('net')
const path = require('path')
const { fork } = require('child_process')
const Hypercore = require('hypercore')

const BATCH = 4096
const IN_FLIGHT = 6 // batches that the other side has not said that it has
const START_US = 1700000000000000

function record (n) {
  const id = `request-${String(n).padStart(12, '0')}-${'x'.repeat(60)}`
  const subject = `project-${String(n % 50).padStart(3, '0')}-${'y'.repeat(48)}`
  const bytes = Buffer.alloc(180)
  let at = bytes.write(`${id}context-tokens${subject}`)
  at = bytes.writeUInt32BE(n % 5000, at)
  at = bytes.writeBigUInt64BE(BigInt(START_US + n * 100), at)
  bytes.writeBigUInt64BE(BigInt(START_US + n * 100), at)
  return bytes
}

function blocks (first, count, mode) {
  const records = Array.from({ length: count }, (_, n) => record(first + n))
  return mode === 'blocks' ? [Buffer.concat(records)] : records
}

/* What a hypercore wrote, made to survive a power cut: one sync serves all who wait for it. */
class Wal {
  constructor (folder, on) {
    this.folder = folder
    this.on = on
    this.open = new Map()
    this.running = null
    this.next = null
  }

  sync () {
    if (!this.on) return Promise.resolve()
    if (this.running === null) return this._start()
    if (this.next === null) {
      this.next = this.running.then(() => {
        this.next = null
        return this._start()
      })
    }
    return this.next
  }

  _start () {
    this.running = this._syncAll().finally(() => { this.running = null })
    return this.running
  }

  async _syncAll () {
    const names = fs.readdirSync(this.folder).filter((name) => name.endsWith('.log'))
    if (!names.length) throw new Error(`no log of RocksDB's in ${this.folder}`)
    for (const [name, file] of this.open) {
      if (names.includes(name)) continue
      this.open.delete(name)
      await file.close()
    }
    for (const name of names) {
      if (!this.open.has(name)) {
        this.open.set(name, await fs.promises.open(path.join(this.folder, name), 'r'))
      }
      await this.open.get(name).datasync()
    }
  }

  async close () {
    for (const file of this.open.values()) await file.close()
  }
}

function cpu () {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1e6
}

function disk (folder) {
  let used = 0
  for (const entry of fs.readdirSync(folder, { withFileTypes: true })) {
    const name = path.join(folder, entry.name)
    used += entry.isDirectory() ? disk(name) : fs.statSync(name).blocks * 512
  }
  return used
}

async function consumer (folder, key, port, acksPort, mode) {
  const core = new Hypercore(folder, Buffer.from(key, 'hex'))
  await core.ready()
  const wal = new Wal(path.join(folder, 'db'), mode !== 'plain')
  const acks = net.connect(Number(acksPort), '127.0.0.1').setNoDelay()
  const socket = net.connect(Number(port), '127.0.0.1').setNoDelay()
  const stream = core.replicate(true)
  stream.on('error', () => {})
  socket.on('error', () => {})
  socket.pipe(stream).pipe(socket)
  let told = 0
  let telling = false
  core.on('download', async () => {
    if (telling) return
    telling = true
    while (core.contiguousLength > told) {
      const length = core.contiguousLength
      await wal.sync()
      const ack = Buffer.alloc(8)
      ack.writeBigUInt64BE(BigInt(length))
      acks.write(ack)
      told = length
    }
    telling = false
  })
  core.download({ start: 0, end: -1 })
  process.on('disconnect', () => process.exit(1))
  process.on('message', async (what) => {
    if (what === 'cpu') return process.send({ cpu: cpu() })
    const root = (await core.treeHash()).toString('hex')
    const { length } = core
    await wal.close()
    await core.close()
    process.send({ root, length, disk: disk(folder) }, () => process.exit(0))
  })
}

async function author (folder, count, singles, mode) {
  const core = new Hypercore(path.join(folder, 'author'))
  await core.ready()
  const wal = new Wal(path.join(folder, 'author', 'db'), mode !== 'plain')
  let held = 0
  let waiting = []
  const links = net.createServer((socket) => {
    const stream = core.replicate(false)
    stream.on('error', () => {})
    socket.setNoDelay().on('error', () => {})
    socket.pipe(stream).pipe(socket)
  })
  let rest = Buffer.alloc(0)
  const acks = net.createServer((socket) => socket.on('error', () => {}).on('data', (data) => {
    rest = Buffer.concat([rest, data])
    for (; rest.length >= 8; rest = rest.subarray(8)) held = Number(rest.readBigUInt64BE())
    for (const wake of waiting.splice(0)) wake()
  }))
  for (const server of [links, acks]) {
    await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
  }
  const ports = [links, acks].map((server) => String(server.address().port))
  const other = fork(__filename, [
    'consumer', path.join(folder, 'consumer'), core.key.toString('hex'), ...ports, mode
  ])
  other.on('exit', (code) => { if (code !== 0) process.exit(1) })
  const ask = (what) => new Promise((resolve) => {
    other.once('message', resolve)
    other.send(what)
  })
  const theirs = async (length) => {
    while (held < length) await new Promise((resolve) => waiting.push(resolve))
  }
  const load = async (first, many) => {
    let synced = Promise.resolve()
    for (let n = first; n < first + many; n += BATCH) {
      await theirs(core.length - (IN_FLIGHT - 1) * (mode === 'blocks' ? 1 : BATCH))
      await core.append(blocks(n, Math.min(BATCH, first + many - n), mode))
      synced = wal.sync()
    }
    await synced
    await theirs(core.length)
  }

  await load(0, BATCH) // warm up
  const before = [cpu(), (await ask('cpu')).cpu]
  let began = process.hrtime.bigint()
  await load(BATCH, count)
  const seconds = Number(process.hrtime.bigint() - began) / 1e9
  const after = [cpu(), (await ask('cpu')).cpu]

  const taken = []
  for (let n = 0; n < singles; n++) {
    began = process.hrtime.bigint()
    await core.append(record(BATCH + count + n))
    await Promise.all([wal.sync(), theirs(core.length)])
    taken.push(Number(process.hrtime.bigint() - began) / 1e6)
  }
  const last = [cpu(), (await ask('cpu')).cpu]
  const root = (await core.treeHash()).toString('hex')
  const { length } = core
  const ended = await ask('end')
  if (ended.root !== root || ended.length !== length) throw new Error('the copies differ')
  await wal.close()
  await core.close()
  taken.sort((a, b) => a - b)
  console.log(JSON.stringify({
    version: `hypercore ${require('hypercore/package.json').version}`,
    held: BATCH + count + singles,
    seconds,
    cpu: [after[0] - before[0], after[1] - before[1]],
    disk: [disk(path.join(folder, 'author')), ended.disk],
    single_ms: taken,
    single_cpu: [last[0] - after[0], last[1] - after[1]]
  }))
  process.exit(0)
}

const [role, ...others] = process.argv.slice(2)
const work = role === 'consumer'
  ? consumer(...others)
  : author(role, Number(others[0]), Number(others[1]), others[2])
work.catch((error) => {
  console.error(error)
  process.exit(1)
})
