// How is this value written in DER (X.690)? As much of it as a PKCS #12 file needs. Pure.

/** Tag, length, content. */
export function tagged(tag: number, ...contents: readonly Uint8Array[]): Buffer {
  const content = Buffer.concat(contents);
  return Buffer.concat([Buffer.of(tag), lengthOf(content), content]);
}

/** 8.1.3: up to 127 in one octet; otherwise how many octets, and these. */
function lengthOf({ length }: Uint8Array): Buffer {
  if (length < 0x80) return Buffer.of(length);
  const digits = base256(length);
  return Buffer.concat([Buffer.of(0x80 | digits.length), digits]);
}

/** Most significant octet first, as few as will do. */
function base256(number: number): Buffer {
  const hex = number.toString(16);
  return Buffer.from(hex.length % 2 ? `0${hex}` : hex, "hex");
}

export function sequence(...members: readonly Uint8Array[]): Buffer {
  return tagged(0x30, ...members);
}

/** 11.6: the members of a SET OF in ascending order. */
export function set(...members: readonly Uint8Array[]): Buffer {
  return tagged(0x31, ...members.toSorted(Buffer.compare));
}

export function explicit(number: number, content: Uint8Array): Buffer {
  return tagged(0xa0 | number, content);
}

/** Not below zero. */
export function integer(number: number): Buffer {
  const digits = base256(number);
  // 8.3: two's complement, where a first bit of 1 means less than zero: then a zero goes before.
  return tagged(2, Buffer.alloc((digits[0] ?? 0) >> 7), digits);
}

export function octets(content: Uint8Array): Buffer {
  return tagged(4, content);
}

export function nothing(): Buffer {
  return tagged(5);
}

/** BMPString: UTF-16, big-endian. */
export function bmp(text: string): Buffer {
  return tagged(0x1e, Buffer.from(text, "utf16le").swap16());
}

/** 8.19: the first two arcs in one number; each in base 128, all octets but the last with bit 8. */
export function oid(dotted: string): Buffer {
  const [first = 0, second = 0, ...rest] = dotted.split(".").map(Number);
  const arcs = [first * 40 + second, ...rest].flatMap((arc) => {
    const septets = [arc % 0x80];
    for (let left = Math.floor(arc / 0x80); left > 0; left = Math.floor(left / 0x80)) {
      septets.unshift(0x80 | (left % 0x80));
    }
    return septets;
  });
  return tagged(6, Buffer.from(arcs));
}
