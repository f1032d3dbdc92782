// Question: how are several words put into a sentence? Pure.

/** Such as "a", "a and b", "a, b and c". */
export function enumerate(words: string[]): string {
  if (words.length < 2) return words[0] ?? "";
  return `${words.slice(0, -1).join(", ")} and ${words.at(-1)}`;
}
