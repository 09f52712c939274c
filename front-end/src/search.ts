// What a search finds: names, numbers, arguments, flags, errors, files and source lines.
import type { Tasks, Words } from "./data.js";

/** The tasks that have `query`, in their order. `#12` is a task's own number, 4711 also a tid, as a whole. */
export function search(query: string, tasks: Tasks, words: Words): number[] {
  const text = query.trim().toLowerCase();
  if (text === "") return [];
  const number = /^#(\d+)$/.exec(text);
  if (number !== null) return all(tasks, (task) => tasks.id[task] === Number(number[1]));
  const tid = /^\d+$/.test(text) ? Number(text) : -1;
  const matches = new Uint8Array(words.words.length);
  // Each distinct text is looked at once: most tasks have nearly all of theirs in common with others.
  words.words.forEach((word, at) => {
    if (word.toLowerCase().includes(text)) matches[at] = 1;
  });
  return all(tasks, (task) => tasks.tid[task] === tid || words.of[task]!.some((word) => matches[word] === 1));
}

/** The place `step` on from `at` among `length`, in a circle; from none (-1) it is the first or the last. */
export function turned(at: number, step: number, length: number): number {
  if (at < 0) return step > 0 ? 0 : length - 1;
  return (at + step + length) % length;
}

function all(tasks: Tasks, wanted: (task: number) => boolean): number[] {
  const found: number[] = [];
  for (let task = 0; task < tasks.id.length; task++) if (wanted(task)) found.push(task);
  return found;
}
