// A file that a person handed over, read in pieces: a bundle may be larger than memory.

export class Source {
  constructor(blob) {
    this.blob = blob;
    this.size = blob.size;
  }

  // The bytes from an offset on: as many as asked for, or up to the file's end.
  async read(offset, size) {
    const end = Math.min(this.size, offset + size);
    if (offset >= end) return new Uint8Array(0);
    return new Uint8Array(await this.blob.slice(offset, end).arrayBuffer());
  }
}
