// Who shared what at a moment: tasks by resources, and one letter for all that held one object.
import { block, type Sharing } from "./data.js";
import { button, element, told } from "./dom.js";
import { span } from "./format.js";
import type { State } from "./state.js";

const SHOWN = 300;
const STEPS = 1000;

export async function sharing(state: State): Promise<Sharing> {
  state.sharing ??= await block<Sharing>("sharing");
  return state.sharing;
}

export async function matrix(state: State, go: (task: number) => void): Promise<HTMLElement> {
  const data = await sharing(state);
  const letters = named(data);
  const unsure = data.unsure.map((tasks) => new Set(tasks));
  const when = element("output", { for: "moment" });
  const range = element("input", { type: "range", id: "moment", min: "0", max: String(STEPS), value: String(STEPS / 2) });
  const body = element("tbody");
  const note = element("p", { class: "quiet" });
  const { start, end, tasks } = state.data;
  const fill = (): void => {
    const t = start + ((end - start) * Number(range.value)) / STEPS;
    when.textContent = state.data.timed ? `${span(t - start)} after the start` : `event ${Math.round(t)}`;
    range.setAttribute("aria-valuetext", when.textContent);
    const alive = tasks.id.map((_, task) => task).filter((task) => tasks.start[task]! <= t && t <= tasks.end[task]!);
    const shown = alive.slice(0, SHOWN);
    const groups = data.holds.map((holds) => shown.map((task) => held(holds[task] ?? [], t)));
    body.replaceChildren(...shown.map((task, at) => {
      const name = `${tasks.tid[task]! > 0 ? tasks.tid[task] : state.number(task)} ${state.name(task)}`;
      const cells = data.resources.map((_, resource) => {
        const group = groups[resource]![at]!;
        const others = group >= 0 && groups[resource]!.filter((other) => other === group).length > 1;
        const text = group === -2 ? "·" : group < 0 ? "?" : letters[resource]!.get(group)! + (unsure[resource]!.has(task) ? "?" : "");
        return element("td", { class: others ? "shared" : "alone" }, text);
      });
      return element("tr", {}, element("th", { scope: "row" }, button(name.slice(0, 80), () => go(task), { class: "link" })), ...cells);
    }));
    note.textContent = alive.length > SHOWN ? `${(alive.length - SHOWN).toLocaleString("en")} more tasks lived then.` : "";
  };
  range.addEventListener("input", fill);
  fill();
  const heads = [element("th", { scope: "col" }, "task"), ...data.resources.map((name) => element("th", { scope: "col" }, name))];
  return element(
    "section", {},
    element("h2", {}, "Who shared what, over time"),
    element("p", {}, element("label", { for: "moment" }, "At "), when, " ", range),
    element("div", { class: "wide", tabindex: "0", role: "region", "aria-label": "Who shared what" },
      element("table", { class: "matrix" }, element("thead", {}, element("tr", {}, ...heads)), body)),
    note,
    ...data.legend.map((line) => element("p", { class: "quiet" }, told(line))),
  );
}

/** Letters in the order in which objects are first seen, as in the terminal's table. */
function named(data: Sharing): Map<number, string>[] {
  return data.holds.map((tasks) => {
    const given = new Map<number, string>();
    for (const holds of tasks) {
      for (let at = 0; at < holds.length; at += 3) if (!given.has(holds[at]!)) given.set(holds[at]!, letter(given.size));
    }
    return given;
  });
}

/** A, B, … Z, AA. */
export function letter(number: number): string {
  let text = "";
  for (let left = number; left >= 0; left = Math.floor(left / 26) - 1) text = String.fromCharCode(65 + (left % 26)) + text;
  return text;
}

/** The group that is held at a time, or -1. */
export function held(holds: number[], t: number): number {
  for (let at = holds.length - 3; at >= 0; at -= 3) {
    if (holds[at + 1]! <= t && (holds[at + 2]! < 0 || t <= holds[at + 2]!)) return holds[at]!;
  }
  return -1;
}
