// SHA-256 (FIPS 180-4), written out. The browser's own (`crypto.subtle.digest`) gives its answer
// later and costs more for asking than for hashing; a chain of a million short records needs the
// answer now. `agreesWithTheBrowser` compares the two before anything is verified.

const ROUND = new Int32Array(64);
const START = new Int32Array(8);

// The constants are the first 32 bits of the fractions of roots of the first primes.
(function fill() {
  const fraction = (root) => ((root - Math.floor(root)) * 0x100000000) | 0;
  let prime = 2;
  for (let found = 0; found < 64; prime += 1) {
    let divisor = 2;
    while (divisor * divisor <= prime && prime % divisor) divisor += 1;
    if (divisor * divisor <= prime) continue;
    if (found < 8) START[found] = fraction(Math.sqrt(prime));
    ROUND[found] = fraction(Math.cbrt(prime));
    found += 1;
  }
})();

const words = new Int32Array(64);
const state = new Int32Array(8);
const block = new Uint8Array(64);

function compress(bytes, at) {
  for (let i = 0; i < 16; i += 1, at += 4) {
    words[i] = (bytes[at] << 24) | (bytes[at + 1] << 16) | (bytes[at + 2] << 8) | bytes[at + 3];
  }
  for (let i = 16; i < 64; i += 1) {
    const x = words[i - 15];
    const y = words[i - 2];
    const s0 = ((x >>> 7) | (x << 25)) ^ ((x >>> 18) | (x << 14)) ^ (x >>> 3);
    const s1 = ((y >>> 17) | (y << 15)) ^ ((y >>> 19) | (y << 13)) ^ (y >>> 10);
    words[i] = (words[i - 16] + s0 + words[i - 7] + s1) | 0;
  }
  let a = state[0];
  let b = state[1];
  let c = state[2];
  let d = state[3];
  let e = state[4];
  let f = state[5];
  let g = state[6];
  let h = state[7];
  for (let i = 0; i < 64; i += 1) {
    const s1 = ((e >>> 6) | (e << 26)) ^ ((e >>> 11) | (e << 21)) ^ ((e >>> 25) | (e << 7));
    const t1 = (h + s1 + ((e & f) ^ (~e & g)) + ROUND[i] + words[i]) | 0;
    const s0 = ((a >>> 2) | (a << 30)) ^ ((a >>> 13) | (a << 19)) ^ ((a >>> 22) | (a << 10));
    const t2 = (s0 + ((a & b) ^ (a & c) ^ (b & c))) | 0;
    h = g;
    g = f;
    f = e;
    e = (d + t1) | 0;
    d = c;
    c = b;
    b = a;
    a = (t1 + t2) | 0;
  }
  state[0] += a;
  state[1] += b;
  state[2] += c;
  state[3] += d;
  state[4] += e;
  state[5] += f;
  state[6] += g;
  state[7] += h;
}

// The hash of these byte strings in a row, 32 bytes.
export function sha256(...parts) {
  state.set(START);
  let filled = 0;
  let size = 0;
  for (const part of parts) {
    size += part.length;
    let at = 0;
    if (filled) {
      const taken = Math.min(64 - filled, part.length);
      block.set(part.length === taken ? part : part.subarray(0, taken), filled);
      filled += taken;
      at = taken;
      if (filled < 64) continue;
      compress(block, 0);
      filled = 0;
    }
    for (; at + 64 <= part.length; at += 64) compress(part, at);
    for (; at < part.length; at += 1, filled += 1) block[filled] = part[at];
  }
  block[filled] = 0x80;
  block.fill(0, filled + 1);
  if (filled >= 56) {
    compress(block, 0);
    block.fill(0);
  }
  const bits = new DataView(block.buffer);
  bits.setUint32(56, Math.floor(size / 0x20000000));
  bits.setUint32(60, (size << 3) >>> 0);
  compress(block, 0);
  const digest = new Uint8Array(32);
  for (let i = 0; i < 8; i += 1) {
    digest[4 * i] = state[i] >>> 24;
    digest[4 * i + 1] = state[i] >>> 16;
    digest[4 * i + 2] = state[i] >>> 8;
    digest[4 * i + 3] = state[i];
  }
  return digest;
}

// Whether the browser's SHA-256 gives the same for messages of many lengths.
export async function agreesWithTheBrowser() {
  const message = crypto.getRandomValues(new Uint8Array(300));
  for (const length of [0, 1, 55, 56, 63, 64, 65, 119, 120, 128, 300]) {
    const part = message.subarray(0, length);
    const cut = length >> 1;
    const own = sha256(part.subarray(0, cut), part.subarray(cut));
    const theirs = new Uint8Array(await crypto.subtle.digest("SHA-256", part));
    if (own.some((byte, at) => byte !== theirs[at])) return false;
  }
  return true;
}
