// How many processes ran at once, over all of the time; and in it, what part the timeline shows.
import type { AtOnce } from "./atonce.js";
import { span } from "./format.js";
import type { State } from "./state.js";
import type { Theme } from "./theme.js";

export class Overall {
  private readonly canvas: HTMLCanvasElement;
  private from = -1;

  constructor(private readonly state: State, private readonly once: AtOnce, private readonly look: () => Theme) {
    const canvas = (this.canvas = state.its<HTMLCanvasElement>("atonce"));
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.from = event.offsetX;
    });
    canvas.addEventListener("pointermove", (event) => {
      if (this.from < 0 || Math.abs(event.offsetX - this.from) < 3) return;
      this.state.scale.show(this.t(Math.min(this.from, event.offsetX)), this.t(Math.max(this.from, event.offsetX)));
      this.state.tell("time");
    });
    canvas.addEventListener("pointerup", (event) => {
      if (Math.abs(event.offsetX - this.from) < 3) {
        const half = (state.scale.until - state.scale.since) / 2;
        state.scale.show(this.t(event.offsetX) - half, this.t(event.offsetX) + half);
        state.tell("time");
      }
      this.from = -1;
    });
  }

  private t(x: number): number {
    const { start, end } = this.state.data;
    return start + (x / this.canvas.clientWidth) * (end - start);
  }

  draw(ratio: number): void {
    const { canvas, once, state } = this;
    const look = this.look();
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (width === 0) return;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    const context = canvas.getContext("2d");
    if (context === null) return;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    const { start, end } = state.data;
    const x = (t: number): number => ((t - start) / Math.max(end - start, 1)) * width;
    const y = (alive: number): number => height - (alive / Math.max(once.most, 1)) * (height - 14);
    context.fillStyle = look.quiet;
    context.globalAlpha = 0.45;
    for (const [at, since, most] of peaks(once, x, width)) context.fillRect(at, y(most), since, height - y(most));
    context.globalAlpha = 1;
    const [left, right] = [x(state.scale.since), x(state.scale.until)];
    context.fillStyle = look.selected;
    context.globalAlpha = 0.25;
    context.fillRect(left, 0, Math.max(right - left, 2), height);
    context.globalAlpha = 1;
    context.strokeStyle = look.text;
    context.lineWidth = 1;
    context.strokeRect(left + 0.5, 0.5, Math.max(right - left, 2) - 1, height - 1);
    context.fillStyle = look.text;
    context.font = "11px ui-monospace, 'DejaVu Sans Mono', monospace";
    context.textBaseline = "top";
    context.fillText(`${once.most} at most`, 4, 1);
    if (!state.data.timed) return;
    context.textAlign = "right";
    context.fillText(span(end - start), width - 4, 1);
    context.textAlign = "left";
  }
}

/** For each pixel that has a change, and up to the next one, the most that lived then. */
function peaks(once: AtOnce, x: (t: number) => number, width: number): [at: number, length: number, most: number][] {
  const found: [number, number, number][] = [];
  once.t.forEach((t, index) => {
    const at = Math.floor(x(t));
    const upto = index + 1 < once.t.length ? Math.floor(x(once.t[index + 1]!)) : once.alive[index]! > 0 ? width : at;
    const last = found[found.length - 1];
    if (last !== undefined && last[0] === at && last[1] <= 1) {
      last[2] = Math.max(last[2], once.alive[index]!);
      last[1] = Math.max(upto - at, 1);
    } else if (once.alive[index]! > 0) {
      found.push([at, Math.max(upto - at, 1), once.alive[index]!]);
    }
  });
  return found;
}
