// Question: which fields does a protobuf message have?
//
// Input: bytes that another process wrote. Fields that nobody asks for are passed over.
// Pure. Guaranteed: each byte is read once and none outside the message, or an Error. A message inside
// another is bytes until it is asked for, so that no answer can nest deeper than its reader asks.
// Source: protobuf.dev/programming-guides/encoding. Groups (wire types 3 and 4) are refused.

/** Of a varint: 10 bytes, which hold 64 bits. */
const VARINT_BITS_MAX = 70;
const FIELD_NUMBER_MAX = 2 ** 29 - 1;
const [VARINT, FIXED_64, BYTES, FIXED_32] = [0, 1, 2, 5];

export class Message {
  /** By the field's number, in the order in which they stand. */
  readonly #fields = new Map<number, (number | Buffer)[]>();

  /** Throws an Error that quotes nothing. */
  constructor(bytes: Buffer) {
    const reader = new Reader(bytes);
    while (reader.hasMore) {
      const key = reader.varint();
      const number = Math.floor(key / 8);
      if (number < 1 || number > FIELD_NUMBER_MAX) throw new Error("no protobuf: field number");
      const values = this.#fields.get(number) ?? [];
      this.#fields.set(number, values);
      values.push(reader.value(key % 8));
    }
  }

  /** 0 where it is absent; of several the last. Beyond 2^53 the last digits are lost. */
  number(field: number): number {
    const value = this.#fields.get(field)?.at(-1);
    return typeof value === "number" ? value : 0;
  }

  /** "" where it is absent. */
  text(field: number): string {
    return this.texts(field).at(-1) ?? "";
  }

  texts(field: number): string[] {
    return this.#bytes(field).map(String);
  }

  /** Without fields where it is absent. */
  message(field: number): Message {
    return this.messages(field).at(-1) ?? new Message(Buffer.of());
  }

  messages(field: number): Message[] {
    return this.#bytes(field).map((bytes) => new Message(bytes));
  }

  /** map<string, string> */
  map(field: number): Record<string, string> {
    return Object.fromEntries(this.messages(field).map((entry) => [entry.text(1), entry.text(2)]));
  }

  #bytes(field: number): Buffer[] {
    return (this.#fields.get(field) ?? []).filter((value) => typeof value !== "number");
  }
}

class Reader {
  readonly #bytes: Buffer;
  #position = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  get hasMore(): boolean {
    return this.#position < this.#bytes.length;
  }

  varint(): number {
    let value = 0;
    for (let shift = 0; shift < VARINT_BITS_MAX; shift += 7) {
      const [byte = 0] = this.#take(1);
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) return value;
    }
    throw new Error("no protobuf: varint");
  }

  value(wireType: number): number | Buffer {
    if (wireType === VARINT) return this.varint();
    if (wireType === BYTES) return this.#take(this.varint());
    if (wireType === FIXED_64) return this.#take(8);
    if (wireType === FIXED_32) return this.#take(4);
    throw new Error("no protobuf: wire type");
  }

  #take(length: number): Buffer {
    const end = this.#position + length;
    if (end > this.#bytes.length) throw new Error("no protobuf: length");
    const taken = this.#bytes.subarray(this.#position, end);
    this.#position = end;
    return taken;
  }
}

/** A field of text, or of a message's bytes, up to 127. */
export function field(number: number, value: string | Buffer): Buffer {
  const bytes = Buffer.from(value as string);
  if (number > 15 || bytes.length > 127) throw new Error("protobuf: more than a byte says");
  return Buffer.concat([Buffer.of(number * 8 + BYTES, bytes.length), bytes]);
}
