// How many processes there were at once, over time.
import type { Tasks } from "./data.js";

/** Times, and the number of living processes from each on. */
export interface AtOnce {
  t: number[];
  alive: number[];
  most: number;
}

export function atOnce(tasks: Tasks): AtOnce {
  const changes: [t: number, change: number][] = [];
  tasks.id.forEach((_, task) => {
    if (tasks.kind[task] !== 0) return;
    changes.push([tasks.start[task]!, 1]);
    if (tasks.open[task] === 0) changes.push([tasks.end[task]!, -1]);
  });
  changes.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  const found: AtOnce = { t: [], alive: [], most: 0 };
  let alive = 0;
  for (const [t, change] of changes) {
    alive += change;
    if (found.t[found.t.length - 1] === t) found.alive[found.alive.length - 1] = alive;
    else {
      found.t.push(t);
      found.alive.push(alive);
    }
    found.most = Math.max(found.most, alive);
  }
  return found;
}
