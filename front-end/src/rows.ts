// Which tasks stand in the tree, in which order and how deep. No DOM here: it is tested alone.
import { Bad, type Sharing, type Tasks } from "./data.js";

export interface Row {
  task: number;
  depth: number;
  /** It made something that can be shown below it. */
  parent: boolean;
  /** Threads of it that are folded into it. */
  folded: number;
  /** It only leads to what matches the filters. */
  dim: boolean;
}

export interface Filter {
  failures: boolean;
  /** Microseconds. */
  slower: number;
  /** A place in `strings`, or -1. */
  program: number;
  /** Only tasks that lived in that time. */
  during: [since: number, until: number] | null;
  /** Only tasks of which this is true. */
  only: ((task: number) => boolean) | null;
}

export const EVERYTHING: Filter = { failures: false, slower: 0, program: -1, during: null, only: null };

/** The tasks as a forest, with what is open in it. */
export class Forest {
  readonly kids: number[][];
  readonly roots: number[] = [];
  /** Processes whose threads are shown. */
  readonly opened = new Set<number>();
  /** Tasks whose children are not. */
  readonly collapsed = new Set<number>();
  threads = false;

  constructor(readonly tasks: Tasks) {
    this.kids = tasks.id.map(() => []);
    tasks.creator.forEach((creator, task) => (creator < 0 ? this.roots : this.kids[creator]!).push(task));
  }

  isThread(task: number): boolean {
    return this.tasks.kind[task] === 1 && this.tasks.leader[task] !== task;
  }

  showsThreads(task: number): boolean {
    return this.threads || this.opened.has(this.process(task));
  }

  /** The task that its process began with. */
  process(task: number): number {
    const leader = this.tasks.leader[task]!;
    return leader < 0 ? task : leader;
  }

  /** What stands below a task: what it made, and what its threads made where these are folded. */
  below(task: number): { kids: number[]; folded: number } {
    const kids: number[] = [];
    let folded = 0;
    const shown = this.showsThreads(task);
    const left = [...this.kids[task]!].reverse();
    for (let kid = left.pop(); kid !== undefined; kid = left.pop()) {
      if (this.isThread(kid) && !shown) {
        folded += 1;
        for (const own of [...this.kids[kid]!].reverse()) left.push(own);
      } else {
        kids.push(kid);
      }
    }
    return { kids, folded };
  }

  /** The rows from the top. A chain of creations can be as deep as a trace is long: nothing here calls itself. */
  rows(filter: Filter): Row[] {
    const wanted = this.wanted(filter);
    const found: Row[] = [];
    const left: [task: number, depth: number][] = [...this.roots].reverse().map((task) => [task, 0]);
    for (let next = left.pop(); next !== undefined; next = left.pop()) {
      const [task, depth] = next;
      if (wanted !== null && wanted[task] === 0) continue;
      const { kids, folded } = this.below(task);
      found.push({ task, depth, parent: kids.length > 0, folded, dim: wanted !== null && wanted[task] === 1 });
      if (this.collapsed.has(task)) continue;
      for (let at = kids.length - 1; at >= 0; at--) left.push([kids[at]!, depth + 1]);
    }
    return found;
  }

  /** Of each task: 2 it matches, 1 something below it does, 0 neither; null where everything matches. */
  private wanted(filter: Filter): Uint8Array | null {
    const { failures, slower, program, during, only } = filter;
    if (!failures && slower <= 0 && program < 0 && during === null && only === null) return null;
    const tasks = this.tasks;
    const found = new Uint8Array(tasks.id.length);
    for (let task = found.length - 1; task >= 0; task--) {
      const matches =
        (!failures || tasks.bad[task] !== 0) &&
        (slower <= 0 || tasks.end[task]! - tasks.start[task]! >= slower) &&
        (program < 0 || runs(tasks, task, program)) &&
        (during === null || (tasks.end[task]! >= during[0] && tasks.start[task]! <= during[1])) &&
        (only === null || only(task));
      if (matches) found[task] = 2;
      const creator = tasks.creator[task]!;
      if (found[task]! > 0 && creator >= 0 && found[creator] === 0) found[creator] = 1;
    }
    return found;
  }

  /** Opens all that hides a task. */
  reveal(task: number): void {
    if (this.isThread(task)) this.opened.add(this.process(task));
    for (let above = this.tasks.creator[task]!; above >= 0; above = this.tasks.creator[above]!) {
      this.collapsed.delete(above);
    }
  }

  /** The task itself, or the nearest one above it of which `shown` is true. */
  nearest(task: number, shown: (task: number) => boolean): number {
    let at = task;
    while (at >= 0 && !shown(at)) at = this.tasks.creator[at]!;
    return at;
  }
}

export function runs(tasks: Tasks, task: number, program: number): boolean {
  const images = tasks.images[task]!;
  if (images.length === 0) return tasks.name[task] === program;
  for (let at = 1; at < images.length; at += 2) if (images[at] === program) return true;
  return false;
}

export function failed(tasks: Tasks, task: number): boolean {
  return (tasks.bad[task]! & (Bad.status | Bad.signal | Bad.refused)) !== 0;
}

/** Whether each task ever held an object of the resource together with `task`, at the same time. */
export function sharers(sharing: Sharing, resource: number, task: number): (other: number) => boolean {
  const holds = sharing.holds[resource];
  const own = holds?.[task] ?? [];
  return (other) => {
    if (other === task) return true;
    const theirs = holds?.[other] ?? [];
    for (let i = 0; i < own.length; i += 3) {
      for (let j = 0; j < theirs.length; j += 3) {
        if (own[i]! >= 0 && own[i] === theirs[j] && overlap(own[i + 1]!, own[i + 2]!, theirs[j + 1]!, theirs[j + 2]!)) return true;
      }
    }
    return false;
  };
}

function overlap(since: number, until: number, from: number, to: number): boolean {
  return (until < 0 || from < until) && (to < 0 || since < to);
}
