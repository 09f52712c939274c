// The tree beside the timeline: an element for each row that can be seen, and the keys that move in it.
import { element, told } from "./dom.js";
import { count, span } from "./format.js";
import { AXIS } from "./draw.js";
import { DIFFERS } from "./signs.js";
import { ROW, type State } from "./state.js";

const KINDS = ["", "thread ", "task "];
const INDENT = 13;
const DEEPEST = 14;

export class Tree {
  private readonly tree: HTMLElement;
  private readonly pool: HTMLElement[] = [];

  constructor(private readonly state: State) {
    this.tree = state.its("tree");
    this.tree.addEventListener("click", (event) => this.clicked(event));
    this.tree.addEventListener("pointermove", (event) => this.state.hover(taskOf(event.target)));
    this.tree.addEventListener("pointerleave", () => this.state.hover(-1));
  }

  draw(scroll: number, height: number): void {
    const { state } = this;
    const first = Math.max(Math.floor(scroll / ROW), 0);
    const last = Math.min(Math.ceil((scroll + height - AXIS) / ROW), state.rows.length);
    while (this.pool.length < last - first) this.pool.push(this.tree.appendChild(element("div", { role: "treeitem" })));
    this.pool.forEach((row, at) => {
      const place = first + at;
      row.hidden = place >= last;
      if (place < last) this.fill(row, place, AXIS + place * ROW - scroll);
    });
    const active = state.selected >= 0 && state.place[state.selected]! >= first && state.place[state.selected]! < last;
    if (active) this.tree.setAttribute("aria-activedescendant", `${state.side}row-${state.selected}`);
    else this.tree.removeAttribute("aria-activedescendant");
  }

  private fill(row: HTMLElement, place: number, y: number): void {
    const { state } = this;
    const { task, depth, parent, folded, dim } = state.rows[place]!;
    const { tasks } = state.data;
    const open = !state.forest.collapsed.has(task);
    const look = [task, y, parent, open, folded, dim, task === state.selected, state.matching[task], state.path, state.signs?.[task]].join();
    if (row.dataset["look"] === look) return;
    row.dataset["look"] = look;
    row.dataset["task"] = String(task);
    row.id = `${state.side}row-${task}`;
    row.style.transform = `translateY(${y}px)`;
    row.style.paddingLeft = `${4 + Math.min(depth, DEEPEST) * INDENT}px`;
    row.className = ["row", dim ? "dim" : "", state.matching[task] === 1 ? "match" : ""].join(" ");
    row.setAttribute("aria-level", String(depth + 1));
    row.setAttribute("aria-selected", String(task === state.selected));
    if (parent) row.setAttribute("aria-expanded", String(open));
    else row.removeAttribute("aria-expanded");
    const label = state.text(tasks.label[task]);
    const ended = state.text(tasks.ended[task]);
    const children: Node[] = [
      element("span", { class: "toggle", "aria-hidden": "true" }, parent ? (open ? "▾" : "▸") : ""),
      element("span", { class: "tid" }, KINDS[tasks.kind[task]!]! + (tasks.tid[task]! > 0 ? String(tasks.tid[task]) : "?") + " "),
      told(label.slice(0, 300), "label"),
    ];
    if (folded > 0) children.push(element("span", { class: "threads" }, `+${count(folded, "thread")}`));
    if (depth > DEEPEST) children.push(element("span", { class: "quiet" }, ` (level ${depth + 1})`));
    if (state.path && state.isOnPath(task)) {
      children.push(element("span", { class: "onpath", title: "on the critical path" }, "━"), spoken(" on the critical path"));
    }
    const sign = state.signs?.[task] ?? -1;
    if (sign >= 0) {
      const [mark, says] = DIFFERS[sign]!;
      children.splice(1, 0, element("span", { class: "differs", title: says, "aria-hidden": "true" }, mark), spoken(`${says} `));
    }
    if (ended !== "") children.push(element("span", { class: "bad" }, ended));
    if (state.data.timed) {
      children.push(element("span", { class: "took" }, span(tasks.end[task]! - tasks.start[task]!)));
    }
    row.replaceChildren(...children);
  }

  private clicked(event: MouseEvent): void {
    const task = taskOf(event.target);
    if (task < 0) return;
    this.tree.focus({ preventScroll: true });
    const name = (event.target as Element).className;
    if (name === "toggle") this.fold(task);
    else if (name === "threads") this.threads(task);
    else this.state.select(task);
  }

  fold(task: number): void {
    const { collapsed } = this.state.forest;
    if (!collapsed.delete(task)) collapsed.add(task);
    this.state.rebuilt();
  }

  threads(task: number): void {
    const process = this.state.forest.process(task);
    const { opened } = this.state.forest;
    if (!opened.delete(process)) opened.add(process);
    this.state.rebuilt();
  }

  /** True where the key was one of the tree's. */
  key(key: string, page: number): boolean {
    const { state } = this;
    const { rows } = state;
    const at = state.selected >= 0 ? state.place[state.selected]! : -1;
    const go = (place: number): boolean => {
      const row = rows[Math.min(Math.max(place, 0), rows.length - 1)];
      if (row !== undefined) state.select(row.task);
      return true;
    };
    const row = rows[at];
    switch (key) {
      case "ArrowDown": return go(at + 1);
      case "ArrowUp": return go(at - 1);
      case "PageDown": return go(at + page);
      case "PageUp": return go(at - page);
      case "Home": return go(0);
      case "End": return go(rows.length - 1);
      case "ArrowRight":
        if (row === undefined) return go(0);
        if (row.parent && state.forest.collapsed.has(row.task)) this.fold(row.task);
        else if (row.parent) go(at + 1);
        return true;
      case "ArrowLeft":
        if (row === undefined) return go(0);
        if (row.parent && !state.forest.collapsed.has(row.task)) this.fold(row.task);
        else {
          let above = at - 1;
          while (above >= 0 && rows[above]!.depth >= row.depth) above--;
          if (above >= 0) go(above);
        }
        return true;
      case "t":
        if (row !== undefined) this.threads(row.task);
        return true;
      case "*":
        state.forest.collapsed.clear();
        state.rebuilt();
        return true;
    }
    return false;
  }
}

function spoken(text: string): HTMLElement {
  return element("span", { class: "spoken" }, text);
}

/** The task of the row that an event is of, or -1. */
export function taskOf(target: EventTarget | null): number {
  const row = target instanceof Element ? target.closest<HTMLElement>("[data-task]") : null;
  return row === null ? -1 : Number(row.dataset["task"]);
}
