// Question: which fields does a protobuf message have?
//
// Input: bytes that another process wrote. Fields that nobody asks for are passed over.
// Pure. Guaranteed: each byte is read once and none outside the message, or an Error that quotes
// nothing. A message inside another is bytes until it is asked for, so that no answer can nest deeper
// than its reader asks.
// Source: protobuf.dev/programming-guides/encoding

/** Wire types. Groups (3 and 4) are refused. */
const VARINT = 0;
const BYTES = 2;
/** Of the wire types that have one length. */
const LENGTHS: Record<number, number> = { 1: 8, 5: 4 };
/** 10 bytes, which hold 64 bits. */
const VARINT_BITS_MAX = 70;
const FIELD_NUMBER_MAX = 2 ** 29 - 1;
/** Of one message: whoever creates a pod chooses how many labels it has, and others wait while they are
 * read (invariant 10). */
const FIELDS_MAX = 4096;

export class TooManyFields extends Error {}

export class Message {
  /** By the field's number, in the order in which they stand. */
  readonly #fields = new Map<number, (number | Buffer)[]>();

  constructor(bytes: Buffer) {
    let position = 0;
    let count = 0;
    const take = (length = Number.NaN) => {
      const end = position + length;
      if (!(end <= bytes.length)) throw notProtobuf();
      const taken = bytes.subarray(position, end);
      position = end;
      return taken;
    };
    const takeVarint = () => {
      let value = 0;
      for (let shift = 0; shift < VARINT_BITS_MAX; shift += 7) {
        const [byte = 0] = take(1);
        value += (byte & 0x7f) * 2 ** shift;
        if (byte < 0x80) return value;
      }
      throw notProtobuf();
    };

    while (position < bytes.length) {
      if (++count > FIELDS_MAX) throw new TooManyFields();
      const key = takeVarint();
      const type = key % 8;
      const field = (key - type) / 8;
      if (field < 1 || field > FIELD_NUMBER_MAX) throw notProtobuf();
      const length = () => (type === BYTES ? takeVarint() : LENGTHS[type]);
      const values = this.#fields.get(field) ?? [];
      values.push(type === VARINT ? takeVarint() : take(length()));
      this.#fields.set(field, values);
    }
  }

  /** 0 where it is absent; of several the last. Beyond 2^53 the last digits are lost. */
  number(field: number): number {
    const value = this.#fields.get(field)?.at(-1);
    return typeof value === "number" ? value : 0;
  }

  texts(field: number): string[] {
    return this.#bytes(field).map(String);
  }

  /** "" where it is absent. */
  text(field: number): string {
    return this.texts(field).at(-1) ?? "";
  }

  messages(field: number): Message[] {
    return this.#bytes(field).map((bytes) => new Message(bytes));
  }

  /** Without fields where it is absent. */
  message(field: number): Message {
    return this.messages(field).at(-1) ?? new Message(Buffer.of());
  }

  /** map<string, string> */
  map(field: number): Record<string, string> {
    return Object.fromEntries(this.messages(field).map((entry) => [entry.text(1), entry.text(2)]));
  }

  #bytes(field: number): Buffer[] {
    return (this.#fields.get(field) ?? []).filter((value) => typeof value !== "number");
  }
}

function notProtobuf(): Error {
  return new Error("not a protobuf message");
}

/** A message whose field 1 is this text or message, of less than 16 KiB: the length has two bytes,
 * where one would do as well. */
export function messageOf(value: string | Buffer): Buffer {
  const bytes = Buffer.from(value as string);
  const head = Buffer.of(8 + BYTES, (bytes.length & 0x7f) | 0x80, bytes.length >> 7);
  return Buffer.concat([head, bytes]);
}
