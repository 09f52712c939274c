// Tables that can be sorted, and rows of which lead to a task.
import type { Table } from "./data.js";
import { button, element, told } from "./dom.js";
import { size, span } from "./format.js";

const SHOWN = 200;

type Cell = string | number | null;

export function table(of: Table, go: (task: number) => void): HTMLElement {
  const body = element("tbody");
  const order = of.rows.map((_, at) => at);
  let all = false;
  const heads = of.heads.map(([title, kind], column) => {
    const head = element("th", { scope: "col", class: kind });
    head.append(button(title, () => sort(column)));
    return head;
  });
  const more = button("", () => {
    all = true;
    fill();
  });
  const fill = (): void => {
    const shown = all ? order : order.slice(0, SHOWN);
    body.replaceChildren(...shown.map((at) => row(of, at, go)));
    more.hidden = all || order.length <= SHOWN;
    more.textContent = `Show all ${order.length.toLocaleString("en")} rows`;
  };
  const sort = (column: number): void => {
    const head = heads[column]!;
    const down = head.getAttribute("aria-sort") !== "descending";
    for (const each of heads) each.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    order.sort((a, b) => compare(of.rows[a]![column]!, of.rows[b]![column]!) * (down ? -1 : 1) || a - b);
    fill();
  };
  fill();
  return element(
    "section", {},
    element("h2", {}, of.title),
    element("p", { class: "quiet" }, of.note),
    element("div", { class: "wide", tabindex: "0", role: "region", "aria-label": of.title },
      element("table", {}, element("thead", {}, element("tr", {}, ...heads)), body)),
    more,
  );
}

function row(of: Table, at: number, go: (task: number) => void): HTMLElement {
  const task = of.tasks[at] ?? -1;
  const cells = of.rows[at]!.map((value, column) => {
    const kind = of.heads[column]![1];
    const text = shown(value, kind);
    if (column > 0 || task < 0) return element("td", { class: kind }, told(text));
    return element("td", { class: kind }, button(text === "" ? "?" : text.slice(0, 200), () => go(task), { class: "link" }));
  });
  return element("tr", {}, ...cells);
}

function shown(value: Cell, kind: string): string {
  if (value === null) return "-";
  if (typeof value === "string") return value;
  return kind === "span" ? span(value) : kind === "size" ? size(value) : value.toLocaleString("en");
}

function compare(a: Cell, b: Cell): number {
  if (typeof a === "number" && typeof b === "number") return a - b;
  if (a === null || b === null) return (a === null ? 0 : 1) - (b === null ? 0 : 1);
  return String(a) < String(b) ? -1 : String(a) > String(b) ? 1 : 0;
}
