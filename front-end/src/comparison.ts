// The page of two traces: their timelines in step, the tasks that are one another's, and what differs.
import { atOnce } from "./atonce.js";
import { Both } from "./both.js";
import { Loaded } from "./card.js";
import { block, type Comparison, type Overview, type Words } from "./data.js";
import { button, element, its, searchField, told } from "./dom.js";
import { count } from "./format.js";
import { inStep, Matches, type Spot } from "./matches.js";
import { EVERYTHING } from "./rows.js";
import { search, turned } from "./search.js";
import { State } from "./state.js";
import { Timeline } from "./timeline.js";

const SIDES = ["old-", "new-"] as const;

class Page {
  private readonly states: State[];
  private readonly timelines: Timeline[];
  private readonly matches: Matches;
  private readonly both: Both;
  /** Where the search stands: tasks of both sides in turn. */
  private hits: Spot[] = [];
  private hit = -1;
  private following = false;

  constructor(private readonly data: Comparison, overviews: Overview[]) {
    document.title = `${data.title} – forklore`;
    this.matches = new Matches(data, overviews[1]!.tasks.id.length);
    this.states = overviews.map((overview, side) => new State(overview, SIDES[side]));
    this.states.forEach((state, side) => {
      state.signs = this.matches.signs(side);
      state.path = false;
    });
    this.summary();
    this.timelines = this.states.map((state) => new Timeline(state, atOnce(state.data.tasks)));
    this.both = new Both(data, this.states, this.states.map((state) => new Loaded(state)), this.matches, () => this.leave());
    this.states.forEach((state, side) => state.listen((what) => this.told(side, what)));
    this.scaled();
    this.list();
    this.tools();
    this.keys();
    addEventListener("hashchange", () => this.linked());
    this.counted();
    this.linked();
    void Promise.all(SIDES.map((side) => block<Words>(`${side}words`))).then((words) => {
      words.forEach((each, side) => (this.states[side]!.words = each));
      if (its<HTMLInputElement>("search").value !== "") this.search();
      document.documentElement.dataset["ready"] = "all";
    });
    document.documentElement.dataset["ready"] = "tree";
  }

  /** For tests and measurements. */
  get inside(): Record<string, () => unknown> {
    return {
      frames: () => this.timelines.reduce((all, each) => all + each.frames, 0),
      selected: () => this.states.map((state) => state.selected),
      shown: () => this.states.map(({ scale, data }) => [scale.since - data.start, scale.until - data.start]),
    };
  }

  // What one side does, the other does too

  private told(side: number, what: string): void {
    if (this.following) return;
    this.following = true;
    const [from, to] = [this.states[side]!, this.states[1 - side]!];
    if (what === "selected") {
      to.select(this.matches.other(side, from.selected));
      this.link();
      this.both.show(side, from.selected);
    } else if (what === "hovered") {
      to.hover(this.matches.other(side, from.hovered));
    } else if (what === "time" && its<HTMLInputElement>("one-scale").checked) {
      const { scale } = from;
      const by = to.data.start - from.data.start;
      to.scale.show(scale.since + by, scale.until + by);
      to.tell("time");
    }
    this.following = false;
    if (what === "rows") this.counted();
  }

  private go([old, now]: Spot): void {
    this.following = true;
    [old, now].forEach((task, side) => {
      this.states[side]!.select(task);
    });
    this.following = false;
    const side = now >= 0 ? 1 : 0;
    this.link();
    this.both.show(side, side === 1 ? now : old);
  }

  private leave(): void {
    const side = this.states[1]!.selected >= 0 ? 1 : 0;
    this.go([-1, -1]);
    this.states[side]!.its("tree").focus({ preventScroll: true });
  }

  /** One scale: the longer trace fills the width, and the same time is as wide in both. */
  private scaled(): void {
    const box = its<HTMLInputElement>("one-scale");
    const timed = this.states.every(({ data }) => data.timed);
    if (!timed) {
      box.checked = false;
      box.disabled = true;
    }
    inStep(this.states.map(({ data }) => data), this.states.map(({ scale }) => scale), box.checked);
    for (const state of this.states) state.tell("time");
  }

  // The top

  private summary(): void {
    const { data } = this;
    its("title").replaceChildren(told(data.title));
    const changes = data.changes.length === 0 ? "Nothing changed" : count(data.changes.length, "difference");
    its("totals").append(`${changes}; `, told(data.totals));
    const body = element("tbody");
    for (const [term, old, now] of data.facts) {
      const other = old !== now;
      body.append(element(
        "tr", other ? { class: "other" } : {}, element("th", { scope: "row" }, term), element("td", { class: "sign" }, other ? "≠" : ""),
        element("td", {}, told(old)), element("td", {}, told(now)),
      ));
    }
    const heads = ["", "", "before", "now"].map((head) => (head === "" ? element("td") : element("th", { scope: "col" }, head)));
    its("facts").append(element("table", {}, element("thead", {}, element("tr", {}, ...heads)), body));
    const warnings = its("warnings");
    this.states.forEach((state, side) => {
      const name = side === 0 ? "before" : "now";
      state.its("title").append(`${name}: `, told(data.names[side]!), " – ", told(state.data.title));
      for (const warning of state.data.warnings) warnings.append(element("p", { class: "bad" }, `${name}: `, told(warning)));
    });
    for (const remark of data.remarks) its("remarks").append(element("p", { class: "quiet" }, told(remark)));
  }

  // The list

  private list(): void {
    const list = its("list");
    const items = this.data.changes.map(([about, text, old, now]) => {
      const spots = this.matches.telling(about, old, now);
      const item = element("li", { "data-about": about }, element("span", { class: "about" }, about));
      if (spots.length === 0) {
        item.append(told(text));
        return item;
      }
      let at = -1;
      const where = element("output", {}, count(spots.length, "task"));
      const step = (by: number): void => {
        at = at < 0 ? (by < 0 ? spots.length - 1 : 0) : (at + by + spots.length) % spots.length;
        list.querySelector("[data-chosen]")?.removeAttribute("data-chosen");
        item.dataset["chosen"] = "";
        where.textContent = `${at + 1} of ${count(spots.length, "task")}`;
        this.go(spots[at]!);
      };
      const jump = button("", () => step(1), { class: "link" });
      jump.append(told(text));
      const steps = element("div", { class: "steps" });
      if (spots.length > 1) {
        steps.append(button("↑", () => step(-1), { "aria-label": "The one before" }), button("↓", () => step(1), { "aria-label": "The next one" }));
      }
      steps.append(where);
      item.append(jump, steps);
      return item;
    });
    list.append(...items);
    if (items.length === 0) list.before(element("p", {}, "Nothing changed."));
    const about = its<HTMLSelectElement>("about");
    const kinds = new Map<string, number>();
    for (const [kind] of this.data.changes) kinds.set(kind, (kinds.get(kind) ?? 0) + 1);
    for (const [kind, number] of kinds) about.append(element("option", { value: kind }, `${kind} (${number})`));
    about.addEventListener("input", () => {
      for (const item of items) item.hidden = about.value !== "" && item.dataset["about"] !== about.value;
    });
  }

  // Search, filters, zoom

  private tools(): void {
    searchField(() => this.search(), (step) => this.next(step), () => its("new-tree"));
    for (const id of ["only-differing", "threads"]) its(id).addEventListener("input", () => this.filter());
    its("one-scale").addEventListener("input", () => this.scaled());
    its("beside").addEventListener("input", () => its("sides").classList.toggle("beside", its<HTMLInputElement>("beside").checked));
    const each = (act: (timeline: Timeline) => void): void => {
      // In step, what one does the other does too.
      const alone = its<HTMLInputElement>("one-scale").checked;
      this.timelines.slice(alone ? 1 : 0).forEach(act);
    };
    its("zoom-in").addEventListener("click", () => each((timeline) => timeline.zoom(0.6)));
    its("zoom-out").addEventListener("click", () => each((timeline) => timeline.zoom(1 / 0.6)));
    its("zoom-all").addEventListener("click", () => each((timeline) => timeline.all()));
  }

  private search(): void {
    const query = its<HTMLInputElement>("search").value;
    if (this.states.some(({ words }) => words === null)) return;
    const [old, now] = this.states.map((state) => {
      const found = search(query, state.data.tasks, state.words!);
      state.found(found);
      return found;
    });
    this.hits = this.matches.spots(old!, now!);
    this.hit = -1;
    its("found").textContent = query.trim() === "" ? "" : `${count(old!.length, "task")} before, ${now!.length.toLocaleString("en")} now`;
  }

  private next(step: number): void {
    const { hits } = this;
    if (hits.length === 0) return;
    this.hit = turned(this.hit, step, hits.length);
    its("found").textContent = `${this.hit + 1} of ${hits.length.toLocaleString("en")}`;
    this.go(hits[this.hit]!);
  }

  private filter(): void {
    const only = its<HTMLInputElement>("only-differing").checked;
    for (const state of this.states) {
      state.forest.threads = its<HTMLInputElement>("threads").checked;
      state.filter = { ...EVERYTHING, only: only ? (task) => state.signs![task]! >= 0 : null };
      state.rebuilt();
    }
  }

  private counted(): void {
    const [old, now] = this.states.map((state) => state.rows.filter((row) => !row.dim).length.toLocaleString("en"));
    its("counted").textContent = `${old} and ${now} tasks shown`;
  }

  // Keys and links

  private keys(): void {
    addEventListener("keydown", (event) => {
      if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
      const target = event.target as Element;
      if (target.matches("input, select, textarea")) return;
      if (event.key === "/") {
        event.preventDefault();
        its("search").focus();
        return;
      }
      const side = this.states.findIndex((state) => state.its("tree") === document.activeElement);
      if (side < 0) return;
      const [state, other] = [this.states[side]!, this.states[1 - side]!];
      if (event.key === "Enter") this.both.focus();
      else if (event.key === "Escape") this.go([-1, -1]);
      else if (event.key === "n") this.next(1);
      else if (event.key === "N") this.next(-1);
      else if (event.key === "o") other.its("tree").focus({ preventScroll: true });
      else if (event.key === "d" || event.key === "D") this.differing(state, event.key === "d" ? 1 : -1);
      else if (!this.timelines[side]!.key(event.key)) return;
      event.preventDefault();
    });
  }

  private differing(state: State, step: number): void {
    const { rows } = state;
    const at = state.selected >= 0 ? state.place[state.selected]! : step > 0 ? -1 : rows.length;
    for (let place = at + step; place >= 0 && place < rows.length; place += step) {
      const { task } = rows[place]!;
      if (state.signs![task]! >= 0) {
        state.select(task);
        return;
      }
    }
  }

  private link(): void {
    const [old, now] = this.states.map((state) => (state.selected < 0 ? 0 : state.data.tasks.id[state.selected]!));
    const hash = now! > 0 ? `#now=${now}` : old! > 0 ? `#before=${old}` : "#";
    if (location.hash !== hash && !(hash === "#" && location.hash === "")) location.replace(hash);
  }

  private linked(): void {
    const wanted = /^#(before|now)=(\d+)$/.exec(location.hash);
    if (wanted === null) return;
    const state = this.states[wanted[1] === "before" ? 0 : 1]!;
    const task = state.data.tasks.id.indexOf(Number(wanted[2]));
    if (task >= 0 && task !== state.selected) state.select(task);
  }
}

async function start(): Promise<void> {
  const [data, ...overviews] = await Promise.all([
    block<Comparison>("comparison"), ...SIDES.map((side) => block<Overview>(`${side}overview`)),
  ] as const);
  const page = new Page(data, overviews as Overview[]);
  Object.defineProperty(window, "forklore", { value: page.inside });
}

start().catch((problem: unknown) => {
  its("warnings").append(element("p", { class: "bad" }, `This page cannot be shown: ${String(problem)}`));
});
