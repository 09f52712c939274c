// What is shown and selected: the parts of the page read it, and tell it what the user did.
import type { Overview, Sharing, Words } from "./data.js";
import { its } from "./dom.js";
import { EVERYTHING, Forest, type Filter, type Row } from "./rows.js";
import { Scale } from "./scale.js";

export const ROW = 22;

export class State {
  readonly forest: Forest;
  readonly scale: Scale;
  rows: Row[] = [];
  /** The place of each task's row, or -1. */
  readonly place: Int32Array;
  selected = -1;
  hovered = -1;
  filter: Filter = { ...EVERYTHING };
  matches: number[] = [];
  readonly matching: Uint8Array;
  path = true;
  words: Words | null = null;
  sharing: Sharing | null = null;
  /** Of each task, where two traces are on the page, a sign for how it differs in the other one, or -1; and what that says. */
  signs: Int8Array | null = null;
  private readonly onPath: Uint8Array;
  private readonly listeners: ((what: Changed) => void)[] = [];

  /** `side`: what the names of its elements and blocks begin with, where there are two. */
  constructor(readonly data: Overview, readonly side = "") {
    this.forest = new Forest(data.tasks);
    this.scale = new Scale(data.start, data.end);
    this.place = new Int32Array(data.tasks.id.length);
    this.matching = new Uint8Array(data.tasks.id.length);
    this.onPath = new Uint8Array(data.tasks.id.length);
    for (const [task] of data.path.steps) this.onPath[task] = 1;
    this.build();
  }

  /** The element of that name on this side. */
  its<T extends HTMLElement>(id: string): T {
    return its<T>(this.side + id);
  }

  text(place: number | undefined): string {
    return this.data.strings[place ?? 0] ?? "";
  }

  name(task: number): string {
    return this.text(this.data.tasks.name[task]);
  }

  isOnPath(task: number): boolean {
    return this.onPath[task] === 1;
  }

  /** `#12`, as the terminal has it. */
  number(task: number): string {
    return `#${this.data.tasks.id[task]}`;
  }

  listen(listener: (what: Changed) => void): void {
    this.listeners.push(listener);
  }

  tell(what: Changed): void {
    for (const listener of this.listeners) listener(what);
  }

  /** Rows anew, after something was folded or filtered. */
  build(): void {
    this.rows = this.forest.rows(this.filter);
    this.place.fill(-1);
    this.rows.forEach((row, place) => (this.place[row.task] = place));
  }

  rebuilt(): void {
    this.build();
    this.tell("rows");
  }

  select(task: number): void {
    if (task === this.selected) return;
    this.selected = task;
    if (task >= 0 && this.place[task]! < 0) {
      this.forest.reveal(task);
      this.build();
      if (this.place[task]! < 0) {
        // A filter hides it: what is asked for goes before what is filtered.
        this.filter = { ...EVERYTHING };
        this.build();
      }
      this.tell("rows");
    }
    this.tell("selected");
  }

  hover(task: number): void {
    if (task === this.hovered) return;
    this.hovered = task;
    this.tell("hovered");
  }

  found(matches: number[]): void {
    this.matches = matches;
    this.matching.fill(0);
    for (const task of matches) this.matching[task] = 1;
    this.tell("matches");
  }
}

export type Changed = "rows" | "selected" | "hovered" | "matches" | "time" | "theme";
