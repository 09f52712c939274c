// All that is known of one task. The texts are made where the terminal's are; here they are laid out.
import { block, type Card } from "./data.js";
import { button, element, its, told } from "./dom.js";
import type { State } from "./state.js";

const LONG = 2000;

/** The cards of a trace, unpacked as they are asked for. */
export class Loaded {
  private readonly blocks = new Map<number, Promise<Card[]>>();

  constructor(private readonly state: State) {}

  async card(task: number): Promise<Card | undefined> {
    const many = this.state.data.cards;
    const of = Math.floor(task / many);
    let found = this.blocks.get(of);
    if (found === undefined) {
      found = block<Card[]>(`${this.state.side}cards-${of}`);
      this.blocks.set(of, found);
    }
    return (await found)[task % many];
  }
}

export class Cards {
  private readonly panel = its("card");
  private readonly loaded: Loaded;
  private shown = -1;

  constructor(private readonly state: State, private readonly close: () => void, private readonly focusTree: () => void) {
    this.loaded = new Loaded(state);
    state.listen((what) => {
      if (what === "selected") void this.show(state.selected);
    });
    this.panel.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.stopPropagation();
      this.close();
    });
  }

  async show(task: number): Promise<void> {
    this.shown = task;
    if (task < 0) {
      this.panel.hidden = true;
      this.panel.replaceChildren();
      return;
    }
    const { state } = this;
    const card = await this.loaded.card(task);
    if (this.shown !== task || card === undefined) return;
    const head = element("h2", { tabindex: "-1", id: "card-title" }, told(state.text(state.data.tasks.label[task]).slice(0, 160)));
    const parts: Node[] = [
      element("div", { class: "cardhead" }, head, button("Close", this.close, { class: "close", "aria-label": "Close the card" })),
      element("p", { class: "quiet" }, `Task ${state.number(task)}, #task=${state.data.tasks.id[task]} behind the address of this page.`),
      this.kin(task),
    ];
    for (const [title, lines] of card) {
      parts.push(element("h3", {}, title));
      const list = element("dl");
      for (const [term, text] of lines) {
        list.append(element("dt", {}, told(term === "" ? "·" : term)), element("dd", {}, ...words(text)));
      }
      parts.push(list);
    }
    this.panel.hidden = false;
    this.panel.replaceChildren(...parts);
    this.panel.scrollTop = 0;
  }

  /** Puts the keyboard into the card. */
  focus(): void {
    document.getElementById("card-title")?.focus();
  }

  private kin(task: number): HTMLElement {
    const { state } = this;
    const line = element("p", { class: "kin" });
    const creator = state.data.tasks.creator[task]!;
    if (creator >= 0) line.append("Made by ", this.link(creator), ". ");
    const kids = state.forest.kids[task]!;
    if (kids.length > 0) {
      line.append("It made ");
      kids.slice(0, 12).forEach((kid, at) => line.append(at > 0 ? ", " : "", this.link(kid)));
      line.append(kids.length > 12 ? ` and ${kids.length - 12} more.` : ".");
    }
    return line;
  }

  private link(task: number): HTMLElement {
    const { state } = this;
    const name = `${state.data.tasks.tid[task]! > 0 ? state.data.tasks.tid[task] : state.number(task)} ${state.name(task)}`;
    const link = element("a", { href: `#task=${state.data.tasks.id[task]}` }, told(name.slice(0, 60)));
    link.addEventListener("click", (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      state.select(task);
      this.focusTree();
    });
    return link;
  }
}

/** A text, of which only the beginning is shown where it is very long. */
export function words(text: string): Node[] {
  if (text.length <= LONG) return [told(text)];
  const shown = told(text.slice(0, LONG));
  const more = button(`Show all ${text.length.toLocaleString("en")} characters`, () => {
    shown.textContent = text;
    more.remove();
  });
  return [shown, more];
}
