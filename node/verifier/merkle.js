// RFC 6962 Merkle trees on plain hashes, and the chain that makes a log's leaves. Sizes and indexes
// of proofs are BigInt: a signed head may say any size of 64 bits.

import { sameBytes } from "./bytes.js";
import { ProofError } from "./errors.js";
import { sha256 } from "./sha256.js";

export const HASH_SIZE = 32;
export const EMPTY_ROOT = sha256();

const LEAF = Uint8Array.of(0);
const NODE = Uint8Array.of(1);

export function leafHash(...parts) {
  return sha256(LEAF, ...parts);
}

export function nodeHash(left, right) {
  return sha256(NODE, left, right);
}

// A tree's right edge: the roots of its complete subtrees, which is all that appending needs.
export class Frontier {
  constructor() {
    this.size = 0;
    this.peaks = []; // each as {height, hash}, the largest first
  }

  append(leaf) {
    let hash = leaf;
    let height = 0;
    const { peaks } = this;
    while (peaks.length && peaks[peaks.length - 1].height === height) {
      hash = nodeHash(peaks.pop().hash, hash);
      height += 1;
    }
    peaks.push({ height, hash });
    this.size += 1;
  }

  root() {
    if (!this.peaks.length) return EMPTY_ROOT;
    return this.peaks.map((peak) => peak.hash).reduceRight((right, left) => nodeHash(left, right));
  }
}

export function rootOf(leaves) {
  const frontier = new Frontier();
  for (const leaf of leaves) frontier.append(leaf);
  return frontier.root();
}

// Return if the leaf is in the tree (RFC 9162, section 2.1.3.2); else `ProofError`.
export function verifyInclusion(leaf, index, size, path, root) {
  if (index < 0n || index >= size)
    throw new ProofError(`there is no leaf ${index} in a tree of ${size}`);
  let at = index;
  let last = size - 1n;
  let found = leaf;
  for (const sibling of path) {
    if (!last) throw new ProofError("the inclusion proof is too long");
    if (at & 1n || at === last) {
      found = nodeHash(sibling, found);
      while (!(at & 1n) && at) {
        at >>= 1n;
        last >>= 1n;
      }
    } else {
      found = nodeHash(found, sibling);
    }
    at >>= 1n;
    last >>= 1n;
  }
  if (last) throw new ProofError("the inclusion proof is too short");
  if (!sameBytes(found, root))
    throw new ProofError("the inclusion proof does not lead to the tree's root");
}

// Return if the old tree is a prefix of the new (RFC 9162, section 2.1.4.2); else `ProofError`.
export function verifyConsistency(oldSize, oldRoot, newSize, newRoot, path) {
  if (oldSize < 0n || oldSize > newSize) {
    throw new ProofError(`a tree of ${oldSize} is not a prefix of one of ${newSize}`);
  }
  if (!oldSize || oldSize === newSize) {
    if (path.length) throw new ProofError("the consistency proof is too long");
    if (!oldSize && !sameBytes(oldRoot, EMPTY_ROOT)) {
      throw new ProofError("the old root is not the empty tree's");
    }
    if (oldSize === newSize && !sameBytes(oldRoot, newRoot)) {
      throw new ProofError(`two different roots of one size, ${oldSize}`);
    }
    return;
  }
  const rest = oldSize & (oldSize - 1n) ? [...path] : [oldRoot, ...path];
  if (!rest.length) throw new ProofError("the consistency proof is too short");
  let at = oldSize - 1n;
  let last = newSize - 1n;
  while (at & 1n) {
    at >>= 1n;
    last >>= 1n;
  }
  let [oldFound] = rest;
  let newFound = oldFound;
  for (const sibling of rest.slice(1)) {
    if (!last) throw new ProofError("the consistency proof is too long");
    if (at & 1n || at === last) {
      oldFound = nodeHash(sibling, oldFound);
      newFound = nodeHash(sibling, newFound);
      while (!(at & 1n) && at) {
        at >>= 1n;
        last >>= 1n;
      }
    } else {
      newFound = nodeHash(newFound, sibling);
    }
    at >>= 1n;
    last >>= 1n;
  }
  if (last || !sameBytes(oldFound, oldRoot) || !sameBytes(newFound, newRoot)) {
    throw new ProofError("the consistency proof does not lead to both roots");
  }
}
