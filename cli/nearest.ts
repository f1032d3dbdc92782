// Question: which known word was meant by a misspelled one? Pure.

/** The candidate that differs least from the word: in at most two characters, or in a third of a
 * long word. Undefined where there is none. */
export function nearest(word: string, candidates: string[]): string | undefined {
  const distances = candidates.map((candidate) => ({
    candidate,
    distance: levenshtein(word.toLowerCase(), candidate.toLowerCase()),
  }));
  const [best] = distances.sort((a, b) => a.distance - b.distance);
  const distanceMax = Math.max(2, word.length / 3);
  return best && best.distance <= distanceMax ? best.candidate : undefined;
}

/** How many characters have to be inserted, dropped or replaced to make one of the other. */
function levenshtein(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (const [i, characterOfA] of [...a].entries()) {
    const nextRow = [i + 1];
    for (const [j, characterOfB] of [...b].entries()) {
      const replaced = (row[j] ?? 0) + (characterOfA === characterOfB ? 0 : 1);
      nextRow.push(Math.min(replaced, (row[j + 1] ?? 0) + 1, (nextRow[j] ?? 0) + 1));
    }
    row = nextRow;
  }
  return row.at(-1) ?? 0;
}
