// The types of a JSON value.

export type Json = null | boolean | number | string | Json[] | JsonObject;
export type JsonObject = { [key: string]: Json };

/** The words of a list. What is absent or null is empty, and what is not a list counts as one word, so
 * that a check never takes it for nothing. */
export function wordsOf(list: Json | undefined): string[] {
  return [list ?? []].flat().map(String);
}
