/** A queue of byte arrays in which small ones are packed together, so that what it holds is what it costs. */

/** Arrays shorter than this are copied: a short view would keep a whole chunk of 64 KiB in memory. */
const PACK_BELOW_BYTES = 4096;
const SLAB_BYTES = 8192;
const COMPACT_AT = 1024;
const EMPTY = new Uint8Array(0);

export class ByteQueue {
  #items: Uint8Array[] = [];
  #head = 0;
  #bytes = 0;
  /** Memory that short arrays are packed into; what was used of it belongs to items. */
  #slab = EMPTY;
  #slabUsed = 0;
  /** Where in the slab the last item begins that can still grow; -1 when the last item cannot. */
  #openFrom = -1;

  /** Bytes held. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Appends. A long array is kept as it is: the caller must not change it any more. */
  push(bytes: Uint8Array): void {
    this.#bytes += bytes.length;
    if (bytes.length >= PACK_BELOW_BYTES) {
      this.#seal();
      this.#items.push(bytes);
      return;
    }
    if (this.#slabUsed + bytes.length > this.#slab.length) {
      this.#seal();
      this.#slab = new Uint8Array(SLAB_BYTES);
      this.#slabUsed = 0;
    }
    if (this.#openFrom === -1) {
      this.#openFrom = this.#slabUsed;
      this.#items.push(EMPTY);
    }
    this.#slab.set(bytes, this.#slabUsed);
    this.#slabUsed += bytes.length;
  }

  /** Takes the oldest bytes: an array as it was pushed, or several short ones in one. */
  shift(): Uint8Array | undefined {
    if (this.#head === this.#items.length) return undefined;
    if (this.#head === this.#items.length - 1) this.#seal();
    const item = this.#items[this.#head];
    this.#head++;
    if (this.#head === this.#items.length) {
      this.#items.length = 0;
      this.#head = 0;
    } else if (this.#head >= COMPACT_AT) {
      this.#items.splice(0, this.#head);
      this.#head = 0;
    }
    this.#bytes -= item?.length ?? 0;
    return item;
  }

  clear(): void {
    this.#items = [];
    this.#head = 0;
    this.#openFrom = -1;
    this.#bytes = 0;
  }

  /** Everything in one array, leaving the queue empty. */
  concat(): Buffer {
    const items: Uint8Array[] = [];
    for (let item = this.shift(); item !== undefined; item = this.shift()) items.push(item);
    return Buffer.concat(items);
  }

  /** Gives the item that grows its size: nothing is appended to it any more. */
  #seal(): void {
    if (this.#openFrom === -1) return;
    this.#items[this.#items.length - 1] = this.#slab.subarray(this.#openFrom, this.#slabUsed);
    this.#openFrom = -1;
  }
}
