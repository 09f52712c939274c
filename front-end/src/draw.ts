// The timeline: boxes, holds, marks, edges and the critical path, of those rows that can be seen.
import { Sign } from "./data.js";
import { span, ticks } from "./format.js";
import { ROW, type State } from "./state.js";
import { DIFFERS } from "./signs.js";
import { colour, type Theme } from "./theme.js";

const FONT = "11px ui-monospace, 'DejaVu Sans Mono', monospace";
const BOX = 15;
const TOP = 3;
const HOLD = 6;
const STUB = 9;
export const AXIS = 20;

/** Signs that differ in form, not in colour alone. */
export const SIGNS = ["✗", "◆", "▲", "‖"] as const;

export class Drawing {
  private readonly context: CanvasRenderingContext2D;
  private letter = 7;
  private hatch: CanvasPattern | null = null;
  private marks: Map<number, [t: number, sign: number][]> = new Map();

  constructor(private readonly state: State, canvas: HTMLCanvasElement, private look: Theme) {
    const context = canvas.getContext("2d");
    if (context === null) throw new Error("this browser draws no canvas");
    this.context = context;
    for (const [task, t, sign] of state.data.marks) {
      const own = this.marks.get(task);
      if (own === undefined) this.marks.set(task, [[t, sign]]);
      else own.push([t, sign]);
    }
    this.themed(look);
  }

  themed(look: Theme): void {
    this.look = look;
    this.hatch = this.context.createPattern(stripes(look.hatch), "repeat");
  }

  /** The rows from `scroll` pixels on, in `width` times `height` pixels, below the axis. */
  draw(scroll: number, width: number, height: number, ratio: number): void {
    const { context, state } = this;
    state.scale.width = width;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    context.font = FONT;
    context.textBaseline = "middle";
    context.direction = "ltr";
    this.letter = context.measureText("m").width || 7;
    const first = Math.max(Math.floor(scroll / ROW), 0);
    const last = Math.min(Math.ceil((scroll + height) / ROW), state.rows.length);
    const top = (place: number): number => AXIS + place * ROW - scroll;
    context.save();
    context.beginPath();
    context.rect(0, AXIS, width, height - AXIS);
    context.clip();
    this.lines(width, height);
    for (let place = first; place < last; place++) this.row(place, top(place), width);
    if (state.path) this.path(top, height);
    this.edges(top, width, height);
    context.restore();
    this.axis(width);
  }

  private at(width: number): number[] {
    const { data, scale } = this.state;
    return ticks(scale.since - data.start, scale.until - data.start, width / 110).map((t) => t + data.start);
  }

  private axis(width: number): void {
    const { context, look, state } = this;
    context.fillStyle = look.quiet;
    context.textAlign = "left";
    if (!state.data.timed) {
      context.fillText("no times: the order of events", 4, AXIS / 2);
      return;
    }
    for (const t of this.at(width)) context.fillText(t === state.data.start ? "0" : span(t - state.data.start), state.scale.x(t) + 3, AXIS / 2);
  }

  private lines(width: number, height: number): void {
    const { context, look, state } = this;
    context.fillStyle = look.line;
    for (const t of this.at(width)) context.fillRect(Math.round(state.scale.x(t)), AXIS, 1, height);
  }

  private row(place: number, y: number, width: number): void {
    const { context, look, state } = this;
    const row = state.rows[place]!;
    const task = row.task;
    const { tasks } = state.data;
    if (task === state.selected || task === state.hovered) {
      context.fillStyle = look.selected;
      context.globalAlpha = task === state.selected ? 0.35 : 0.15;
      context.fillRect(0, y, width, ROW);
    }
    context.globalAlpha = row.dim ? 0.35 : 1;
    const images = tasks.images[task]!;
    const end = tasks.end[task]!;
    // What it ran, one box after the other. Up to its first exec it runs what its creator did.
    let since = tasks.start[task]!;
    let name = images.length > 0 && tasks.creator[task]! >= 0 ? -1 : tasks.name[task]!;
    for (let at = 0; at <= images.length; at += 2) {
      const until = at < images.length ? images[at]! : end;
      if (at > 0 || until > since || images.length === 0) this.box(y, since, until, name, row.dim);
      since = Math.max(until, since);
      if (at < images.length) name = images[at + 1]!;
    }
    if (tasks.open[task] === 1) this.ragged(y, end);
    for (const child of state.forest.kids[task]!) this.hold(y, child);
    if (state.matching[task] === 1) this.frame(y, task, look.match, 2);
    if (task === state.selected) this.frame(y, task, look.text, 1.5);
    for (const [t, sign] of this.marks.get(task) ?? []) this.mark(y, t, sign);
    this.differs(y, task);
    context.globalAlpha = 1;
  }

  private box(y: number, since: number, until: number, name: number, dim: boolean): void {
    const { context, look, state } = this;
    const x = state.scale.x(since);
    const right = state.scale.x(until);
    if (right < 0 || x > state.scale.width) return;
    const from = Math.max(x, -2);
    const width = Math.max(Math.min(right, state.scale.width + 2) - from, 1);
    const text = name < 0 ? "" : state.text(name);
    context.fillStyle = name < 0 ? look.line : colour(text, look.dark);
    context.fillRect(from, y + TOP, width, BOX);
    if (width > 3) {
      context.strokeStyle = look.quiet;
      context.lineWidth = 0.5;
      context.strokeRect(from + 0.25, y + TOP + 0.25, width - 0.5, BOX - 0.5);
    }
    const letters = Math.floor((width - 6) / this.letter);
    if (letters < 2 || text === "") return;
    context.fillStyle = dim ? look.quiet : look.text;
    context.textAlign = "left";
    context.fillText(text.length <= letters ? text : `${text.slice(0, letters - 1)}…`, Math.max(from, 0) + 3, y + ROW / 2);
  }

  /** While a child of vfork held it. */
  private hold(y: number, child: number): void {
    const { context, state } = this;
    const released = state.data.tasks.released[child]!;
    if (released < 0 || this.hatch === null) return;
    const x = state.scale.x(state.data.tasks.start[child]!);
    const right = state.scale.x(released);
    if (right < 0 || x > state.scale.width || right - x < 1) return;
    context.fillStyle = this.hatch;
    const from = Math.max(x, 0);
    // Below the name of what it runs.
    context.fillRect(from, y + TOP + BOX - HOLD, Math.min(right, state.scale.width) - from, HOLD);
  }

  /** Its end was not seen: it went on. */
  private ragged(y: number, end: number): void {
    const { context, look, state } = this;
    const x = state.scale.x(end);
    context.strokeStyle = look.quiet;
    context.lineWidth = 1;
    context.setLineDash([2, 2]);
    context.beginPath();
    context.moveTo(x, y + TOP + BOX / 2);
    context.lineTo(x + 12, y + TOP + BOX / 2);
    context.stroke();
    context.setLineDash([]);
  }

  private frame(y: number, task: number, style: string, width: number): void {
    const { context, state } = this;
    const x = Math.max(state.scale.x(state.data.tasks.start[task]!), -4);
    const right = Math.min(state.scale.x(state.data.tasks.end[task]!), state.scale.width + 4);
    context.strokeStyle = style;
    context.lineWidth = width;
    context.strokeRect(x - 1, y + TOP - 1, Math.max(right - x, 1) + 2, BOX + 2);
  }

  private mark(y: number, t: number, sign: number): void {
    const { context, look, state } = this;
    const x = state.scale.x(t);
    if (x < -10 || x > state.scale.width + 10) return;
    context.fillStyle = sign === Sign.stop ? look.text : look.bad;
    context.textAlign = "center";
    context.fillText(SIGNS[sign as 0 | 1 | 2 | 3], x, y + ROW / 2 + 1);
  }

  /** Before its box, so that it is on no name. */
  private differs(y: number, task: number): void {
    const { context, look, state } = this;
    const sign = state.signs?.[task] ?? -1;
    const x = state.scale.x(state.data.tasks.start[task]!);
    if (sign < 0 || x > state.scale.width || state.scale.x(state.data.tasks.end[task]!) < 0) return;
    context.fillStyle = look.match;
    context.textAlign = "right";
    context.fillText(DIFFERS[sign]![0], Math.max(x - 2, 9), y + ROW / 2 + 1);
  }

  private path(top: (place: number) => number, height: number): void {
    const { context, look, state } = this;
    const { scale } = state;
    context.strokeStyle = look.path;
    let before = -1;
    let drawn = -1;
    let [row, reached] = [-1, -1];
    for (const [task, since, until, , sure] of state.data.path.steps) {
      const shown = state.place[task]! >= 0 ? task : state.forest.nearest(task, (each) => state.place[each]! >= 0);
      if (shown < 0) continue;
      const y = top(state.place[shown]!) + TOP + BOX + 1.5;
      const x = scale.x(since);
      const right = scale.x(until);
      const from = before < 0 ? y : top(state.place[before]!) + TOP + BOX + 1.5;
      before = shown;
      if (x > scale.width || right < 0) continue;
      if (Math.max(y, from) < 0 || Math.min(y, from) > height) continue;
      if (y >= 0 && y <= height && !(y === row && Math.round(right) === reached)) {
        [row, reached] = [y, Math.round(right)];
        context.lineWidth = 2.5;
        context.beginPath();
        context.moveTo(x, y);
        context.lineTo(right, y);
        context.stroke();
      }
      // Many in one column are one; where the other end is out of sight, a stub says which way it lies.
      if (from === y || Math.round(x) === drawn) continue;
      drawn = Math.round(x);
      const [upper, lower] = [Math.min(from, y), Math.max(from, y)];
      const [up, down] = [upper < AXIS, lower > height];
      if (up && down) continue;
      context.lineWidth = 1.5;
      if (sure === 0) context.setLineDash([3, 3]);
      context.beginPath();
      context.moveTo(x, up ? Math.max(upper, lower - STUB) : upper);
      context.lineTo(x, down ? Math.min(lower, upper + STUB) : lower);
      context.stroke();
      context.setLineDash([]);
    }
  }

  /** Who made the task that is looked at, and what it made. */
  private edges(top: (place: number) => number, width: number, height: number): void {
    const { state, look } = this;
    for (const task of new Set([state.selected, state.hovered])) {
      if (task < 0 || state.place[task]! < 0) continue;
      const creator = state.data.tasks.creator[task]!;
      if (creator >= 0) this.edge(top, creator, task, look.text, width, height);
      for (const child of state.forest.kids[task]!) this.edge(top, task, child, look.quiet, width, height);
    }
  }

  private edge(
    top: (place: number) => number, creator: number, child: number, style: string, width: number, height: number,
  ): void {
    const { context, state } = this;
    const above = state.forest.nearest(creator, (each) => state.place[each]! >= 0);
    if (above < 0 || state.place[child]! < 0) return;
    const x = state.scale.x(state.data.tasks.start[child]!);
    const from = top(state.place[above]!) + TOP + BOX;
    const to = top(state.place[child]!) + TOP + BOX / 2;
    if (x < -10 || x > width + 10 || to < 0 || from > height) return;
    context.strokeStyle = style;
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(x, from);
    context.lineTo(x, to - 3);
    context.moveTo(x - 3, to - 6);
    context.lineTo(x, to - 1);
    context.lineTo(x + 3, to - 6);
    context.stroke();
  }
}

function stripes(style: string): HTMLCanvasElement {
  const tile = document.createElement("canvas");
  tile.width = tile.height = 6;
  const context = tile.getContext("2d")!;
  context.strokeStyle = style;
  context.lineWidth = 1.2;
  context.beginPath();
  for (const at of [-6, 0, 6]) {
    context.moveTo(at, 6);
    context.lineTo(at + 6, 0);
  }
  context.stroke();
  return tile;
}
