// Which task of one trace is which of the other. No DOM here: it is tested alone.
import type { Comparison } from "./data.js";
import type { Scale } from "./scale.js";

/** A task before and now, of which one may be -1: there is none. */
export type Spot = [old: number, now: number];

export class Matches {
  private readonly of: [Int32Array, Int32Array];
  private readonly differ: [Set<number>, Set<number>] = [new Set(), new Set()];
  private readonly told = new Map<number, [about: string, text: number][]>();

  constructor(data: Comparison, now: number) {
    this.of = [Int32Array.from(data.match), new Int32Array(now).fill(-1)];
    data.match.forEach((other, task) => {
      if (other >= 0) this.of[1][other] = task;
    });
    for (const [old, other, told] of data.pairs) {
      this.differ[0].add(old);
      this.differ[1].add(other);
      this.told.set(old, told);
    }
  }

  /** The task that it is on the other side, or -1. */
  other(side: number, task: number): number {
    return task < 0 ? -1 : (this.of[side as 0 | 1][task] ?? -1);
  }

  /** What differs between a task of the old trace and the one that it is now. */
  differences(old: number): [about: string, text: number][] {
    return this.told.get(old) ?? [];
  }

  /** Of each task of a side: 0 it differs, 1 it was only before, 2 it is only now, -1 nothing of that. */
  signs(side: number): Int8Array {
    return Int8Array.from(this.of[side as 0 | 1], (other, task) =>
      other < 0 ? side + 1 : this.differ[side as 0 | 1].has(task) ? 0 : -1);
  }

  /** Tasks of both sides, those that are one another's together, in the order in which they are told. */
  spots(old: number[], now: number[]): Spot[] {
    const found: Spot[] = old.map((task) => [task, this.other(0, task)]);
    const there = new Set(found.map((spot) => spot[1]));
    for (const task of now) if (!there.has(task)) found.push([this.other(1, task), task]);
    return found;
  }

  /** The same, and first those that a sentence about that is likely to be about: of one side alone, then those that differ so. */
  telling(about: string, old: number[], now: number[]): Spot[] {
    const rank = ([before, after]: Spot): number =>
      before < 0 || after < 0 ? 0 : this.differences(before).some(([each]) => each === about) ? 1 : 2;
    return this.spots(old, now).sort((a, b) => rank(a) - rank(b));
  }
}

/** Shows all of both traces: where `together`, the same time is as wide in both. */
export function inStep(traces: { start: number; end: number }[], scales: Scale[], together: boolean): void {
  const longest = Math.max(...traces.map(({ start, end }) => end - start));
  scales.forEach((scale, side) => {
    const { start, end } = traces[side]!;
    scale.reach(start, together ? start + longest : end);
    scale.all();
  });
}

/** Lines of two cards beside one another: those of one term and text first, then those of one term, in their order. */
export function beside(old: [term: string, text: string][], now: [term: string, text: string][]): [term: string, old: string | null, now: string | null][] {
  const left = now.map((line) => line as [string, string] | null);
  const take = (wanted: (line: [string, string]) => boolean): string | null => {
    const at = left.findIndex((line) => line !== null && wanted(line));
    if (at < 0) return null;
    const text = left[at]![1];
    left[at] = null;
    return text;
  };
  const same = old.map(([term, text]) => take((line) => line[0] === term && line[1] === text));
  const found = old.map(([term, text], at): [string, string | null, string | null] =>
    [term, text, same[at] ?? (term === "" ? null : take((line) => line[0] === term))]);
  for (const line of left) if (line !== null) found.push([line[0], null, line[1]]);
  return found;
}
