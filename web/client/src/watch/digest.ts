const encoder = new TextEncoder();
const TWO_32 = 2 ** 32;

/**
 * Digest of a snapshot: XOR over its rows of FNV-1a-64 of the key, 0x00 and the version as 8 little-endian bytes. In
 * two halves of 32 bits, because a snapshot may have ten thousand rows and bigints are slow.
 */
export class SnapshotDigest {
  private high = 0;
  private low = 0;

  add(key: string, version: bigint): void {
    const hash = new Fnv();
    for (const byte of encoder.encode(key)) hash.byte(byte);
    hash.byte(0);
    hash.word(Number(BigInt.asUintN(32, version)));
    hash.word(Number(BigInt.asUintN(32, version >> 32n)));
    this.high = (this.high ^ hash.high) >>> 0;
    this.low = (this.low ^ hash.low) >>> 0;
  }

  value(): bigint {
    return (BigInt(this.high) << 32n) | BigInt(this.low);
  }
}

class Fnv {
  high = 0xcbf29ce4;
  low = 0x84222325;

  byte(value: number): void {
    // The prime is 2^40 + 435; products of 32 and 9 bits are exact in a double.
    const low = (this.low ^ value) >>> 0;
    const product = low * 435;
    this.low = product >>> 0;
    this.high = (this.high * 435 + Math.floor(product / TWO_32) + ((low << 8) >>> 0)) % TWO_32;
  }

  word(value: number): void {
    for (let shift = 0; shift < 32; shift += 8) this.byte((value >>> shift) & 0xff);
  }
}
