// Times and amounts as the terminal's views have them; a test compares the two.

const SCALES: [limit: number, unit: number, digits: number, name: string][] = [
  [9.95, 1, 1, "µs"],
  [99.5, 1, 0, "µs"],
  [9_950, 1_000, 1, "ms"],
  [999_500, 1_000, 0, "ms"],
  [9_950_000, 1_000_000, 1, "s"],
  [119_500_000, 1_000_000, 0, "s"],
];

/** Microseconds to at most three figures: `0.3 ms`, `41 ms`, `2.1 s`, `3 min 5 s`. */
export function span(us: number): string {
  if (us < 0) return `-${span(-us)}`;
  for (const [limit, unit, digits, name] of SCALES) {
    if (us < limit) return `${(us / unit).toFixed(digits)} ${name}`;
  }
  const seconds = Math.round(us / 1_000_000);
  return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
}

/** An amount of memory in KiB: `812 KB`, `14.2 MB`. */
export function size(kib: number): string {
  for (const [unit, name] of [[1 << 20, "GB"], [1 << 10, "MB"]] as const) {
    if (kib >= unit) return `${(kib / unit).toFixed(kib >= 99.5 * unit ? 0 : 1)} ${name}`;
  }
  return `${kib >= 99.5 ? kib : kib.toFixed(1)} KB`;
}

export function count(number: number, one: string, many = `${one}s`): string {
  return `${number.toLocaleString("en")} ${number === 1 ? one : many}`;
}

/** Where an axis from `since` to `until` has its ticks: at most `most`, a round number of µs apart. */
export function ticks(since: number, until: number, most: number): number[] {
  const least = Math.max((until - since) / Math.max(most, 1), 1);
  const power = 10 ** Math.floor(Math.log10(least));
  const step = [1, 2, 5, 10].map((times) => times * power).find((each) => each >= least) ?? 10 * power;
  const found: number[] = [];
  for (let t = Math.ceil(since / step) * step; t <= until; t += step) found.push(t);
  return found;
}
