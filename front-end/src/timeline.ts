// The timeline and the tree in step, drawn once a frame where something changed; pointer, wheel, pinch and keys.
import type { AtOnce } from "./atonce.js";
import { AXIS, Drawing } from "./draw.js";
import { span } from "./format.js";
import { ROW, type State } from "./state.js";
import { theme, type Theme } from "./theme.js";
import { Tree } from "./tree.js";
import { Overall } from "./overall.js";

const NARROW = 3;

export class Timeline {
  private readonly scroller: HTMLElement;
  private readonly spacer: HTMLElement;
  private readonly stick: HTMLElement;
  private readonly canvas: HTMLCanvasElement;
  private readonly tip: HTMLElement;
  private readonly tree: Tree;
  private readonly drawing: Drawing;
  private readonly overall: Overall;
  private look: Theme = theme();
  private due = false;
  private readonly pointers = new Map<number, { x: number; y: number }>();
  private moved = false;
  /** How many frames were drawn: tests measure with it. */
  frames = 0;

  constructor(private readonly state: State, once: AtOnce) {
    this.scroller = state.its("scroller");
    this.spacer = state.its("spacer");
    this.stick = state.its("stick");
    this.canvas = state.its<HTMLCanvasElement>("timeline");
    this.tip = state.its("tip");
    this.tree = new Tree(state);
    this.drawing = new Drawing(state, this.canvas, this.look);
    this.overall = new Overall(state, once, () => this.look);
    state.listen((what) => {
      if (what === "selected") this.reveal(state.selected);
      if (what === "rows") this.size();
      this.redraw();
    });
    this.scroller.addEventListener("scroll", () => this.redraw(), { passive: true });
    new ResizeObserver(() => this.redraw()).observe(this.scroller);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.themed(false));
    addEventListener("beforeprint", () => this.themed(true));
    addEventListener("afterprint", () => this.themed(false));
    this.listenToPointer();
    this.canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    this.size();
    this.redraw();
  }

  private themed(print: boolean): void {
    this.look = theme(print);
    this.drawing.themed(this.look);
    this.frame();
  }

  private size(): void {
    this.spacer.style.height = `${this.state.rows.length * ROW + AXIS + ROW}px`;
  }

  redraw(): void {
    if (this.due) return;
    this.due = true;
    requestAnimationFrame(() => {
      this.due = false;
      this.frame();
    });
  }

  frame(): void {
    const height = this.scroller.clientHeight;
    const width = this.canvas.clientWidth;
    if (height === 0 || width === 0) return;
    this.stick.style.height = `${height}px`;
    const ratio = devicePixelRatio || 1;
    if (this.canvas.width !== Math.round(width * ratio) || this.canvas.height !== Math.round(height * ratio)) {
      this.canvas.width = Math.round(width * ratio);
      this.canvas.height = Math.round(height * ratio);
    }
    const scroll = this.scroller.scrollTop;
    this.drawing.draw(scroll, width, height, ratio);
    this.tree.draw(scroll, height);
    this.overall.draw(ratio);
    this.frames += 1;
  }

  /** Scrolls to the row of a task, and moves in time where none of it can be seen. */
  private reveal(task: number): void {
    const place = task < 0 ? -1 : this.state.place[task]!;
    if (place < 0) return;
    this.size();
    const top = place * ROW;
    const room = this.scroller.clientHeight - AXIS - ROW;
    if (top < this.scroller.scrollTop) this.scroller.scrollTop = top;
    else if (top > this.scroller.scrollTop + room) this.scroller.scrollTop = top - room / 2;
    const { tasks } = this.state.data;
    const { scale } = this.state;
    const [start, end] = [tasks.start[task]!, tasks.end[task]!];
    if (end < scale.since || start > scale.until) {
      const half = (scale.until - scale.since) / 2;
      const middle = (start + end) / 2;
      scale.show(middle - half, middle + half);
    }
  }

  /** So that a task fills most of the width. */
  zoomTo(task: number): void {
    if (task < 0) return;
    const { tasks } = this.state.data;
    const length = Math.max(tasks.end[task]! - tasks.start[task]!, 2);
    this.state.scale.show(tasks.start[task]! - length * 0.05, tasks.end[task]! + length * 0.05);
    this.state.tell("time");
  }

  zoom(factor: number, x = this.canvas.clientWidth / 2): void {
    this.state.scale.zoom(factor, x);
    this.state.tell("time");
  }

  pan(part: number): void {
    this.state.scale.pan(this.canvas.clientWidth * part);
    this.state.tell("time");
  }

  all(): void {
    this.state.scale.all();
    this.state.tell("time");
  }

  private wheel(event: WheelEvent): void {
    // A pinch on a touchpad is a wheel with ctrl. Without, up and down scroll the rows, as everywhere.
    const pixels = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 16 : 1;
    if (event.ctrlKey || event.metaKey || event.altKey) {
      event.preventDefault();
      this.zoom(Math.exp(event.deltaY * pixels * 0.004), event.offsetX);
    } else if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
      event.preventDefault();
      this.state.scale.pan((event.shiftKey && event.deltaX === 0 ? event.deltaY : event.deltaX) * pixels);
      this.state.tell("time");
    }
  }

  private listenToPointer(): void {
    const { canvas } = this;
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.pointers.set(event.pointerId, { x: event.offsetX, y: event.offsetY });
      this.moved = this.pointers.size > 1;
    });
    canvas.addEventListener("pointermove", (event) => {
      if (this.pointers.has(event.pointerId)) this.drag(event);
      else this.point(event);
    });
    const up = (event: PointerEvent): void => {
      if (!this.pointers.delete(event.pointerId) || this.moved || event.type !== "pointerup") return;
      const task = this.under(event);
      if (task >= 0) {
        this.state.its("tree").focus({ preventScroll: true });
        this.state.select(task);
      }
    };
    canvas.addEventListener("pointerup", up);
    canvas.addEventListener("pointercancel", up);
    canvas.addEventListener("pointerleave", () => {
      this.tip.hidden = true;
      this.state.hover(-1);
    });
    canvas.addEventListener("dblclick", (event) => this.zoomTo(this.under(event)));
  }

  private drag(event: PointerEvent): void {
    const before = this.pointers.get(event.pointerId)!;
    const now = { x: event.offsetX, y: event.offsetY };
    const { scale } = this.state;
    if (this.pointers.size === 1) {
      if (Math.hypot(now.x - before.x, now.y - before.y) < NARROW && !this.moved) return;
      this.moved = true;
      this.tip.hidden = true;
      scale.pan(before.x - now.x);
      this.scroller.scrollTop += before.y - now.y;
    } else {
      // Two fingers: what was below each stays there.
      const other = [...this.pointers].find(([id]) => id !== event.pointerId)![1];
      const [was, is] = [Math.abs(before.x - other.x), Math.abs(now.x - other.x)];
      if (was > NARROW && is > NARROW) scale.zoom(was / is, (now.x + other.x) / 2);
      scale.pan((before.x - now.x) / 2);
    }
    this.pointers.set(event.pointerId, now);
    this.state.tell("time");
  }

  private under(event: MouseEvent): number {
    const place = Math.floor((event.offsetY - AXIS + this.scroller.scrollTop) / ROW);
    return event.offsetY < AXIS ? -1 : (this.state.rows[place]?.task ?? -1);
  }

  private point(event: PointerEvent): void {
    const task = this.under(event);
    this.state.hover(task);
    this.tip.hidden = task < 0;
    if (task < 0) return;
    const { state } = this;
    const { tasks } = state.data;
    const ended = state.text(tasks.ended[task]);
    const when = state.data.timed
      ? `${span(tasks.start[task]! - state.data.start)} to ${span(tasks.end[task]! - state.data.start)}, ${span(tasks.end[task]! - tasks.start[task]!)}`
      : "";
    const t = state.scale.t(event.offsetX);
    const signs = state.data.marks.filter(([of, at]) => of === task && Math.abs(state.scale.x(at) - state.scale.x(t)) < 8);
    const lines = [state.text(tasks.label[task]).slice(0, 200), when, ended, ...signs.map((sign) => state.text(sign[3]))];
    this.tip.textContent = lines.filter((line) => line !== "").join("\n");
    const right = event.offsetX > this.canvas.clientWidth / 2;
    const box = this.canvas.getBoundingClientRect();
    this.tip.style.left = right ? "auto" : `${event.clientX - box.left + 14 + this.canvas.offsetLeft}px`;
    this.tip.style.right = right ? `${box.right - event.clientX + 14}px` : "auto";
    this.tip.style.top = `${Math.min(event.offsetY + 14, this.scroller.clientHeight - 80)}px`;
  }

  /** True where the key was one of the timeline's. */
  key(key: string): boolean {
    switch (key) {
      case "+": case "=": this.zoom(0.6); return true;
      case "-": this.zoom(1 / 0.6); return true;
      case "0": this.all(); return true;
      case ",": this.pan(-0.2); return true;
      case ".": this.pan(0.2); return true;
      case "z": this.zoomTo(this.state.selected); return true;
    }
    return this.tree.key(key, Math.max(Math.floor((this.scroller.clientHeight - AXIS) / ROW) - 1, 1));
  }
}
