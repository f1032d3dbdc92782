// What is a value that is not text? Bytes: as they are in a file, in base64 where only text can stand.

export class Bytes {
  readonly bytes: Uint8Array;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }

  /** For JSON.stringify, too. */
  toJSON(): string {
    return Buffer.from(this.bytes).toString("base64");
  }
}

declare global {
  interface ImportMeta {
    /** Set by the build: true in dist/authproxy-java.js only, which has this directory in it. */
    readonly keystores?: boolean;
  }
}
