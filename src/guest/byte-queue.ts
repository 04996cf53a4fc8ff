/** A queue of byte arrays in which small ones are packed together, so that what it holds is what it costs. */

/** Arrays shorter than this are copied: a short view would keep a whole chunk of 64 KiB in memory. */
const PACK_BELOW_BYTES = 4096;
const BLOCK_BYTES = 8192;

export class ByteQueue {
  #items: Uint8Array[] = [];
  #head = 0;
  /** The last item, when it is a block with room. */
  #block: Uint8Array | undefined;
  #blockUsed = 0;
  #bytes = 0;

  /** Bytes held. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Appends. A long array is kept as it is: the caller must not change it any more. */
  push(bytes: Uint8Array): void {
    this.#bytes += bytes.length;
    if (bytes.length >= PACK_BELOW_BYTES) {
      this.#sealBlock();
      this.#items.push(bytes);
      return;
    }
    if (this.#block === undefined || this.#blockUsed + bytes.length > BLOCK_BYTES) {
      this.#sealBlock();
      this.#block = new Uint8Array(BLOCK_BYTES);
      this.#blockUsed = 0;
      this.#items.push(this.#block);
    }
    this.#block.set(bytes, this.#blockUsed);
    this.#blockUsed += bytes.length;
  }

  /** Takes the oldest bytes: an array as it was pushed, or several short ones in one. */
  shift(): Uint8Array | undefined {
    if (this.#head === this.#items.length) return undefined;
    if (this.#head === this.#items.length - 1) this.#sealBlock();
    const item = this.#items[this.#head];
    this.#head++;
    if (this.#head === this.#items.length) {
      this.#items = [];
      this.#head = 0;
    } else if (this.#head >= 1024) {
      this.#items.splice(0, this.#head);
      this.#head = 0;
    }
    this.#bytes -= item?.length ?? 0;
    return item;
  }

  clear(): void {
    this.#items = [];
    this.#head = 0;
    this.#block = undefined;
    this.#bytes = 0;
  }

  /** Everything in one array, leaving the queue empty. */
  concat(): Buffer {
    const items: Uint8Array[] = [];
    for (let item = this.shift(); item !== undefined; item = this.shift()) items.push(item);
    return Buffer.concat(items);
  }

  /** Cuts the open block to what is used: nothing is appended to it any more. */
  #sealBlock(): void {
    if (this.#block === undefined) return;
    this.#items[this.#items.length - 1] = this.#block.subarray(0, this.#blockUsed);
    this.#block = undefined;
  }
}
