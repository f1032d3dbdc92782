// What does this JSON answer of Vault's hold? Numbers are kept as the text they were written in:
// a secret such as 12345678901234567890 must not come out as 12345678901234567000.

export type Answer = {
  readonly data?: Fields;
  readonly auth?: Fields;
  readonly errors?: unknown;
  readonly warnings?: unknown;
  readonly lease_id?: unknown;
  readonly lease_duration?: unknown;
};
export type Fields = { readonly [key: string]: unknown };

export class NumberText {
  readonly text: string;

  constructor(text: string) {
    this.text = text;
  }
}

/** Undefined where it is no JSON object; members of the wrong kind are left out. */
export function parseJson(body: string): Answer | undefined {
  let parsed: unknown;
  try {
    parsed = JSON.parse(body, keepNumber);
  } catch {
    return undefined;
  }
  if (!isFields(parsed)) return undefined;
  const { data, auth, ...rest } = parsed;
  return { ...rest, ...(isFields(data) && { data }), ...(isFields(auth) && { auth }) };
}

export function isFields(value: unknown): value is Fields {
  const isObject = typeof value === "object" && value !== null && !Array.isArray(value);
  return isObject && !(value instanceof NumberText);
}

function keepNumber(_key: string, value: unknown, context?: { source?: string }): unknown {
  return typeof value === "number" ? new NumberText(context?.source ?? String(value)) : value;
}
