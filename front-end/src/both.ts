// The cards of a task before and now, line beside line.
import { words, type Loaded } from "./card.js";
import type { Card, Comparison } from "./data.js";
import { button, element, its, told } from "./dom.js";
import { beside, type Matches } from "./matches.js";
import type { State } from "./state.js";

const ALONE = ["It is in the trace before alone.", "It is in the trace now alone."] as const;

export class Both {
  private readonly panel = its("card");
  private shown: readonly [number, number] = [-1, -1];

  constructor(
    private readonly data: Comparison, private readonly states: State[], private readonly cards: Loaded[],
    private readonly matches: Matches, private readonly close: () => void,
  ) {
    this.panel.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.stopPropagation();
      this.close();
    });
  }

  /** Puts the keyboard into the card. */
  focus(): void {
    document.getElementById("card-title")?.focus();
  }

  show(side: number, task: number): void {
    const other = this.matches.other(side, task);
    void this.fill(side === 0 ? [task, other] : [other, task]);
  }

  private async fill(spot: readonly [number, number]): Promise<void> {
    this.shown = spot;
    const { panel } = this;
    if (spot[0] < 0 && spot[1] < 0) {
      panel.hidden = true;
      panel.replaceChildren();
      return;
    }
    const [old, now] = await Promise.all(spot.map((task, side) => (task < 0 ? undefined : this.cards[side]!.card(task))));
    if (this.shown !== spot) return;
    const side = spot[1] >= 0 ? 1 : 0;
    const state = this.states[side]!;
    const title = state.text(state.data.tasks.label[spot[side]!]).slice(0, 160);
    const parts: Node[] = [
      element("div", { class: "cardhead" },
        element("h2", { tabindex: "-1", id: "card-title" }, told(title)),
        button("Close", this.close, { class: "close", "aria-label": "Close the card" })),
    ];
    parts.push(element("h3", {}, "What differs"), this.differences(spot));
    const titles = [...new Set([...(old ?? []), ...(now ?? [])].map(([each]) => each))];
    for (const each of titles) parts.push(this.section(each, lines(old, each), lines(now, each), spot));
    panel.hidden = false;
    panel.replaceChildren(...parts);
    panel.scrollTop = 0;
  }

  private differences(spot: readonly [number, number]): HTMLElement {
    const alone = spot.findIndex((task) => task < 0);
    if (alone >= 0) return element("p", {}, ALONE[(1 - alone) as 0 | 1]);
    const found = this.matches.differences(spot[0]);
    if (found.length === 0) return element("p", {}, "Nothing that two runs of the same would have in common.");
    const list = element("ul", { class: "differences" });
    for (const [about, text] of found) {
      list.append(element("li", {}, element("span", { class: "about" }, about), ...words(this.data.strings[text] ?? "")));
    }
    return list;
  }

  private section(title: string, old: [string, string][], now: [string, string][], spot: readonly [number, number]): HTMLElement {
    const body = element("tbody");
    for (const [term, before, after] of beside(old, now)) {
      const other = before !== after && spot[0] >= 0 && spot[1] >= 0;
      const cells = [before, after].map((text) => element("td", {}, ...(text === null ? [] : words(text))));
      body.append(element("tr", other ? { class: "other" } : {},
        element("th", { scope: "row" }, told(term === "" ? "·" : term)), element("td", { class: "sign" }, other ? "≠" : ""), ...cells));
    }
    const heads = element("tr", {}, element("td"), element("td", { class: "sign" }),
      element("th", { scope: "col" }, "before"), element("th", { scope: "col" }, "now"));
    return element("table", { class: "both" }, element("caption", {}, title), element("thead", {}, heads), body);
  }
}

function lines(card: Card | undefined, title: string): [string, string][] {
  return (card ?? []).filter(([each]) => each === title).flatMap(([, those]) => those);
}
