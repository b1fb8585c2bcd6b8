//! Packs made by hand: few bytes that stand for very many.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use sha1::{Digest as _, Sha1};

const BLOB: u8 = 3;
const OFS_DELTA: u8 = 6;
/// Why no number here is too large for its place.
const FITS: &str = "sizes of packs in tests are small";

/// A pack of these entries, with its checksum.
fn pack(entries: &[Vec<u8>]) -> Vec<u8> {
    let count = u32::try_from(entries.len()).expect(FITS);
    let mut out = [b"PACK", &2_u32.to_be_bytes()[..], &count.to_be_bytes()].concat();
    entries.iter().for_each(|entry| out.extend(entry));
    let mut sha1 = Sha1::new();
    sha1.update(&out);
    out.extend(sha1.finalize().iter());
    out
}

/// The type and the size of an entry.
fn entry(kind: u8, size: usize) -> Vec<u8> {
    let mut rest = size >> 4;
    let mut out = vec![kind << 4 | u8::try_from(size & 15).expect(FITS)];
    while rest > 0 {
        *out.last_mut().expect(FITS) |= 0x80;
        out.push(u8::try_from(rest & 0x7f).expect(FITS));
        rest >>= 7;
    }
    out
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).expect(FITS);
    encoder.finish().expect(FITS)
}

fn varint(mut n: usize) -> Vec<u8> {
    let mut out = Vec::new();
    while n > 0x7f {
        out.push(u8::try_from(n & 0x7f).expect(FITS) | 0x80);
        n >>= 7;
    }
    out.push(u8::try_from(n).expect(FITS));
    out
}

/// How far back the base of a delta is.
fn offset(mut n: usize) -> Vec<u8> {
    let mut out = vec![u8::try_from(n & 0x7f).expect(FITS)];
    n >>= 7;
    while n > 0 {
        n -= 1;
        out.insert(0, u8::try_from(n & 0x7f).expect(FITS) | 0x80);
        n >>= 7;
    }
    out
}

/// One entry that says that it is a file of this size, and is.
pub fn large_file(size: usize) -> Vec<u8> {
    pack(&[[entry(BLOB, size), zlib(&vec![0; size])].concat()])
}

/// One entry that says that it is a file of this size, and ends at once.
pub fn claimed_file(size: usize) -> Vec<u8> {
    pack(&[[entry(BLOB, size), zlib(b"short")].concat()])
}

/// A small file, and a chain of deltas that each repeat what is before them: the last one stands for
/// `64 KiB * times ^ depth`.
pub fn deltas(times: usize, depth: usize) -> Vec<u8> {
    let mut size = 1 << 16;
    let mut entries = vec![[entry(BLOB, size), zlib(&vec![7; size])].concat()];
    for _ in 0..depth {
        let mut delta = [varint(size), varint(size * times)].concat();
        for _ in 0..times {
            let (mut from, mut left) = (0, size);
            while left > 0 {
                // Copy: four bytes of the offset and three of the size.
                let piece = left.min(0xff_ffff);
                delta.push(0xff);
                delta.extend(&u32::try_from(from).expect(FITS).to_le_bytes());
                delta.extend(&u32::try_from(piece).expect(FITS).to_le_bytes()[..3]);
                from += piece;
                left -= piece;
            }
        }
        let back = entries.last().expect(FITS).len();
        entries.push([entry(OFS_DELTA, delta.len()), offset(back), zlib(&delta)].concat());
        size *= times;
    }
    pack(&entries)
}

/// The entry of a file.
pub fn stored_file(bytes: &[u8]) -> Vec<u8> {
    [entry(BLOB, bytes.len()), zlib(bytes)].concat()
}
