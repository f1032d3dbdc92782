// Question: how is this value written in DER (X.690)?
// Output:   as much of DER as a PKCS #12 file needs. This module is pure.

/** Tag, length and content. */
export function tagged(tag: number, ...contents: readonly Uint8Array[]): Buffer {
  const content = Buffer.concat(contents);
  return Buffer.concat([Buffer.of(tag), encodeLength(content.length), content]);
}

/** X.690, 8.1.3: up to 127 in one octet, otherwise the number of octets and then these. */
function encodeLength(length: number): Buffer {
  if (length < 0x80) return Buffer.of(length);
  const octets = encodeBase256(length);
  return Buffer.concat([Buffer.of(0x80 | octets.length), octets]);
}

/** The most significant octet first, and as few octets as possible. */
function encodeBase256(number: number): Buffer {
  const hex = number.toString(16);
  return Buffer.from(hex.length % 2 ? `0${hex}` : hex, "hex");
}

export function sequence(...members: readonly Uint8Array[]): Buffer {
  return tagged(0x30, ...members);
}

/** X.690, 11.6: the members of a SET OF stand in ascending order. */
export function set(...members: readonly Uint8Array[]): Buffer {
  return tagged(0x31, ...members.toSorted(Buffer.compare));
}

/** [number] EXPLICIT. */
export function explicit(number: number, content: Uint8Array): Buffer {
  return tagged(0xa0 | number, content);
}

/** An INTEGER that is not negative. */
export function integer(number: number): Buffer {
  const octets = encodeBase256(number);
  // X.690, 8.3: in two's complement a first bit of 1 means a negative number, so a zero precedes it.
  const hasFirstBit = (octets[0] ?? 0) >= 0x80;
  return tagged(2, Buffer.alloc(hasFirstBit ? 1 : 0), octets);
}

export function octetString(content: Uint8Array): Buffer {
  return tagged(4, content);
}

export function nullValue(): Buffer {
  return tagged(5);
}

/** BMPString: UTF-16, big-endian. */
export function bmpString(text: string): Buffer {
  return tagged(0x1e, Buffer.from(text, "utf16le").swap16());
}

/**
 * X.690, 8.19: the first two arcs are one number. Each number stands in base 128, and all of its octets
 * but the last have bit 8.
 */
export function objectIdentifier(dotted: string): Buffer {
  const [first = 0, second = 0, ...others] = dotted.split(".").map(Number);
  const octets = [first * 40 + second, ...others].flatMap(encodeBase128);
  return tagged(6, Buffer.from(octets));
}

function encodeBase128(number: number): number[] {
  const octets = [number % 0x80];
  let rest = Math.floor(number / 0x80);
  while (rest > 0) {
    octets.unshift(0x80 | (rest % 0x80));
    rest = Math.floor(rest / 0x80);
  }
  return octets;
}
