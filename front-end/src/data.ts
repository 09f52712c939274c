// What a page has in it: blocks of JSON, the larger ones compressed, and their shapes. src/forklore/export/page/ writes them.

/** Columns of the same length, one entry a task; a task is told by its place in them. Times are microseconds. */
export interface Tasks {
  /** forklore's own number, from 1. */
  id: number[];
  tid: number[];
  /** 0 process, 1 thread, 2 not known. */
  kind: number[];
  /** Who made it, or -1. */
  creator: number[];
  /** The task that its process began with, or -1. */
  leader: number[];
  start: number[];
  end: number[];
  /** 1 where no end was seen. */
  open: number[];
  /** What to call it, and its command line. Like all texts here, places in `strings`. */
  name: number[];
  label: number[];
  /** How it ended; 0, the empty text, for a plain exit 0. */
  ended: number[];
  /** Bits of `Bad`. */
  bad: number[];
  /** Until when it held its creator by CLONE_VFORK, or -1. */
  released: number[];
  /** Its execs, as time and name of the program in turn. */
  images: number[][];
}

export const Bad = { status: 1, signal: 2, refused: 4 } as const;

/** A task, a time, which sign, and its words. */
export type Mark = [task: number, t: number, sign: number, text: number];
export const Sign = { refused: 0, signal: 1, status: 2, stop: 3 } as const;

/** A task, from when to when, what it came after, and 1 where the trace knows that it did. */
export type Step = [task: number, since: number, until: number, after: number, sure: number];

export interface Path {
  unknown: string | null;
  steps: Step[];
  /** By the third entry of a step. */
  after: string[];
  notes: string[];
  /** What, how much of it is on the path, what would be gained (µs), the task or -1. */
  savings: [what: string, onPath: number, saved: number, task: number][];
}

/** A table: heads with their kind, and rows of that many cells, and the task that a row leads to, or -1. */
export interface Table {
  title: string;
  note: string;
  heads: [title: string, kind: "text" | "number" | "span" | "size"][];
  rows: (string | number | null)[][];
  tasks: number[];
}

/** What is wrong: the first of those that say the same. */
export interface Finding {
  severity: string;
  rule: string;
  text: string;
  advice: string;
  /** False: it is likely, and no more. */
  sure: boolean;
  /** The source line, function or program. */
  site: string;
  count: number;
  /** Whom it is about, all of them. */
  tasks: number[];
}

export interface Findings {
  found: Finding[];
  /** Rules that the trace tells too little for, or not all. */
  unknown: [rule: string, why: string][];
}

export interface Overview {
  title: string;
  facts: [term: string, text: string][];
  /** False: the trace has no times, and boxes stand in the order of events. */
  timed: boolean;
  start: number;
  end: number;
  strings: string[];
  tasks: Tasks;
  marks: Mark[];
  path: Path;
  tables: Table[];
  findings: Findings;
  unknown: [what: string, why: string][];
  warnings: string[];
  /** Whether the trace was read with who shared what. */
  shared: boolean;
  /** So many cards are in one block. */
  cards: number;
}

/** Titles with their lines; a line has a term, which may be empty, and a text. */
export type Card = [title: string, lines: [term: string, text: string][]][];

/** Distinct texts that a search looks at, and which of them each task has. */
export interface Words {
  words: string[];
  of: number[][];
}

/** Who held which object of which resource: group (-2: neither it nor its creator had one), since, until (-1: to the end), one after the other. */
export interface Sharing {
  resources: string[];
  holds: number[][][];
  /** Tasks of which a hold is known only by the call's flags. */
  unsure: number[][];
  legend: string[];
}

/** What differs between two traces; tasks are told by their places in each one's columns. */
export interface Comparison {
  title: string;
  names: [old: string, now: string];
  totals: string;
  facts: [term: string, old: string, now: string][];
  remarks: string[];
  /** Of each old task the one that it is now, or -1. */
  match: number[];
  /** Of those that differ: what about, and a place in `strings`. */
  pairs: [old: number, now: number, told: [about: string, text: number][]][];
  changes: [about: string, text: string, old: number[], now: number[]][];
  strings: string[];
}

/** The JSON of a block, which may be compressed. */
export async function block<T>(id: string): Promise<T> {
  const element = document.getElementById(id);
  if (element === null) throw new Error(`the page has no block ${id}: it was cut off`);
  const text = element.textContent ?? "";
  if (element.getAttribute("type") === "application/json") return JSON.parse(text) as T;
  const raw = Uint8Array.from(atob(text.trim()), (char) => char.charCodeAt(0));
  const stream = new Blob([raw]).stream().pipeThrough(new DecompressionStream("gzip"));
  return (await new Response(stream).json()) as T;
}
