// The page of a trace: reads what is embedded in it and shows it.
import { atOnce } from "./atonce.js";
import { Cards } from "./card.js";
import { block, type Overview, type Words } from "./data.js";
import { button, element, its, searchField, told } from "./dom.js";
import { count, span } from "./format.js";
import { matrix, sharing } from "./matrix.js";
import { EVERYTHING, sharers } from "./rows.js";
import { search, turned } from "./search.js";
import { State } from "./state.js";
import { table } from "./tables.js";
import { Timeline } from "./timeline.js";

const SHOWN = 8;

class Page {
  private readonly state: State;
  private readonly timeline: Timeline;
  private readonly cards: Cards;
  private readonly tabs: string[] = [];
  private match = -1;

  constructor(private readonly data: Overview) {
    const state = (this.state = new State(data));
    document.title = `${data.title} – forklore`;
    const once = atOnce(data.tasks);
    this.summary(once.most);
    its("panes").hidden = false;
    this.timeline = new Timeline(state, once);
    const focusTree = (): void => its("tree").focus({ preventScroll: true });
    this.cards = new Cards(state, () => {
      state.select(-1);
      focusTree();
    }, focusTree);
    this.tools();
    this.views();
    this.keys();
    state.listen((what) => {
      if (what === "selected") this.link();
      if (what === "rows") this.counted();
      if (what === "time" && its<HTMLInputElement>("during").checked) {
        this.during();
        state.rebuilt();
      }
    });
    addEventListener("hashchange", () => this.linked());
    this.counted();
    this.linked();
    // Not for the first picture: a search waits for it.
    void block<Words>("words").then((words) => {
      state.words = words;
      if (its<HTMLInputElement>("search").value !== "") this.search();
      document.documentElement.dataset["ready"] = "all";
    });
    document.documentElement.dataset["ready"] = "tree";
  }

  /** For tests and measurements: how many frames were drawn, a frame at once, and what part of the time is shown. */
  get inside(): Record<string, () => unknown> {
    const { scale } = this.state;
    return {
      frames: () => this.timeline.frames,
      draw: () => this.timeline.frame(),
      shown: () => [scale.since, scale.until],
    };
  }

  private go = (task: number): void => {
    this.show("view-timeline");
    this.state.select(task);
    its("tree").focus({ preventScroll: true });
  };

  // The top

  private summary(most: number): void {
    const { data } = this;
    its("title").replaceChildren(told(data.title));
    const facts = its("facts");
    for (const [term, text] of data.facts) {
      facts.append(element("div", {}, element("dt", {}, term), element("dd", {}, told(text))));
    }
    its("atonce").setAttribute("aria-label", `Processes at once over time, ${most} at most. Drag to choose what the timeline shows.`);
    const warnings = its("warnings");
    for (const warning of data.warnings) warnings.append(element("p", { class: "bad" }, told(warning)));
    this.findings();
  }

  private findings(): void {
    const { found, unknown } = this.data.findings;
    const list = element("ul");
    for (const each of found) {
      const links = each.tasks.slice(0, SHOWN).map((task) =>
        button(`${this.state.number(task)} ${this.state.name(task)}`, () => this.go(task), { class: "link" }));
      const item = element(
        "li", {}, element("strong", {}, `${each.severity}: `), each.sure ? "" : "likely: ", told(each.text),
        each.count > 1 ? ` (${each.count} times)` : "", " ",
      );
      links.forEach((link, at) => item.append(at > 0 ? ", " : "", link));
      if (each.tasks.length > SHOWN) item.append(` and ${each.tasks.length - SHOWN} more`);
      const where = each.site === "" ? "" : ` [${each.site}]`;
      item.append(element("p", { class: "quiet" }, told(`${each.advice}${where} (${each.rule})`)));
      list.append(item);
    }
    const rules = element("dl");
    for (const [rule, why] of unknown) rules.append(element("dt", {}, rule), element("dd", {}, told(why)));
    const said = found.length === 0 ? "Nothing wrong was found" : count(found.length, "finding");
    const missing = unknown.length === 0 ? "" : `, ${count(unknown.length, "rule")} not judged, or in part`;
    const details = element("details", {}, element("summary", {}, `${said}${missing}`), list);
    if (unknown.length > 0) details.append(element("p", {}, "Not judged, or in part:"), rules);
    its("findings").append(details);
  }

  // Search and filters

  private tools(): void {
    searchField(() => this.search(), (step) => this.next(step), () => its("tree"));
    this.programs();
    for (const id of ["only-found", "threads", "failures", "shares", "slower", "program", "during"]) {
      its(id).addEventListener("input", () => void this.filter());
    }
    its("path").addEventListener("input", () => {
      this.state.path = its<HTMLInputElement>("path").checked;
      this.state.tell("time");
    });
    its("zoom-in").addEventListener("click", () => this.timeline.zoom(0.6));
    its("zoom-out").addEventListener("click", () => this.timeline.zoom(1 / 0.6));
    its("zoom-all").addEventListener("click", () => this.timeline.all());
    its("collapse").addEventListener("click", () => {
      this.data.tasks.id.forEach((_, task) => {
        if (this.data.tasks.creator[task]! >= 0) this.state.forest.collapsed.add(task);
      });
      this.state.rebuilt();
    });
    its("expand").addEventListener("click", () => {
      this.state.forest.collapsed.clear();
      this.state.rebuilt();
    });
    if (this.data.path.unknown !== null) its<HTMLInputElement>("path").disabled = true;
  }

  private programs(): void {
    const { tasks } = this.data;
    const counts = new Map<number, number>();
    tasks.id.forEach((_, task) => {
      const images = tasks.images[task]!;
      const names = images.length > 0 ? images.filter((_, at) => at % 2 === 1) : [tasks.name[task]!];
      for (const name of new Set(names)) counts.set(name, (counts.get(name) ?? 0) + 1);
    });
    const select = its<HTMLSelectElement>("program");
    for (const [name, number] of [...counts].sort((a, b) => b[1] - a[1]).slice(0, 500)) {
      select.append(element("option", { value: String(name) }, `${this.state.text(name).slice(0, 60)} (${number})`));
    }
  }

  private search(): void {
    const { state } = this;
    const query = its<HTMLInputElement>("search").value;
    if (state.words === null) return;
    this.match = -1;
    state.found(search(query, this.data.tasks, state.words));
    its("found").textContent = query.trim() === "" ? "" : count(state.matches.length, "task");
    if (its<HTMLInputElement>("only-found").checked) void this.filter();
  }

  private next(step: number): void {
    const { matches } = this.state;
    if (matches.length === 0) return;
    this.match = turned(this.match, step, matches.length);
    its("found").textContent = `${this.match + 1} of ${count(matches.length, "task")}`;
    this.show("view-timeline");
    this.state.select(matches[this.match]!);
  }

  private async filter(): Promise<void> {
    const { state } = this;
    const on = (id: string): boolean => its<HTMLInputElement>(id).checked;
    state.forest.threads = on("threads");
    const slower = Number(its<HTMLInputElement>("slower").value) * 1000;
    const program = Number(its<HTMLSelectElement>("program").value);
    const only: ((task: number) => boolean)[] = [];
    if (on("only-found") && its<HTMLInputElement>("search").value.trim() !== "") only.push((task) => state.matching[task] === 1);
    if (on("shares") && state.selected >= 0) {
      const found = await sharing(state);
      only.push(sharers(found, found.resources.indexOf("mm"), state.selected));
      state.forest.threads = true; // they are who shares memory most
    }
    const one = only.length > 0 ? (task: number): boolean => only.every((each) => each(task)) : null;
    state.filter = { ...EVERYTHING, failures: on("failures"), slower: Number.isFinite(slower) ? slower : 0, program, only: one };
    this.during();
    state.rebuilt();
  }

  /** Of what is in view, as it changes. */
  private during(): void {
    const { filter, scale } = this.state;
    filter.during = its<HTMLInputElement>("during").checked ? [scale.since, scale.until] : null;
  }

  private counted(): void {
    const { state } = this;
    const whole = state.data.tasks.id.length;
    const shown = state.rows.filter((row) => !row.dim).length;
    its("counted").textContent = shown === whole ? count(whole, "task") : `${shown.toLocaleString("en")} of ${count(whole, "task")}`;
  }

  // Tabs

  private views(): void {
    const { data } = this;
    this.tab("view-timeline", "Timeline", null);
    data.tables.forEach((of, at) => this.tab(`view-table-${at}`, of.title, async () => table(of, this.go)));
    this.tab("view-path", "Critical path", async () => this.path());
    if (data.shared) this.tab("view-sharing", "Sharing", () => matrix(this.state, this.go));
    else its<HTMLInputElement>("shares").disabled = true;
    if (data.unknown.length > 0) this.tab("view-unknown", "Not known", async () => this.unknown());
    its("tabs").addEventListener("keydown", (event) => {
      const step = event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? -1 : 0;
      const at = this.tabs.findIndex((id) => its(`tab-${id}`) === document.activeElement);
      if (step === 0 || at < 0) return;
      const next = this.tabs[(at + step + this.tabs.length) % this.tabs.length]!;
      its(`tab-${next}`).focus();
      this.show(next);
      event.stopPropagation();
    });
    this.show("view-timeline");
  }

  private tab(id: string, title: string, make: (() => Promise<HTMLElement>) | null): void {
    this.tabs.push(id);
    const tab = button(title, () => this.show(id), { role: "tab", id: `tab-${id}`, "aria-controls": id, "aria-selected": "false" });
    its("tabs").append(tab);
    if (make === null) return;
    const panel = element("div", { role: "tabpanel", id, "aria-labelledby": `tab-${id}`, class: "view" });
    panel.hidden = true;
    its("views").append(panel);
    let made = false;
    const fill = (): void => {
      if (made) return;
      made = true;
      void make().then((content) => panel.append(content));
    };
    panel.addEventListener("shown", fill);
    addEventListener("beforeprint", fill);
  }

  private show(id: string): void {
    for (const each of this.tabs) {
      const tab = its(`tab-${each}`);
      tab.setAttribute("aria-selected", String(each === id));
      tab.tabIndex = each === id ? 0 : -1;
      its(each).hidden = each !== id;
    }
    its(id).dispatchEvent(new Event("shown"));
  }

  private path(): HTMLElement {
    const { path, start } = this.data;
    const section = element("section", {}, element("h2", {}, "Critical path"));
    if (path.unknown !== null) {
      section.append(element("p", {}, `Not known: ${path.unknown}.`));
      return section;
    }
    for (const note of path.notes) section.append(element("p", { class: "quiet" }, note));
    const savings = path.savings.map(([what, onPath, saved]) => [what, onPath, saved]);
    section.append(table({
      title: "If it took nothing",
      note: "By how much the whole would be shorter, at most.",
      heads: [["what", "text"], ["on the path", "span"], ["saved", "span"]],
      rows: savings,
      tasks: path.savings.map((each) => each[3]),
    }, this.go));
    const rows = path.steps.map(([task, since, until, after, sure]) => [
      this.state.text(this.data.tasks.label[task]).slice(0, 120), span(since - start), until - since,
      `${sure === 1 ? "" : "≈ "}${path.after[after]}`,
    ]);
    section.append(table({
      title: "Steps",
      note: "In the order of time, each where the one before ends. ≈: told by time alone.",
      heads: [["task", "text"], ["at", "text"], ["took", "span"], ["after", "text"]],
      rows,
      tasks: path.steps.map((step) => step[0]),
    }, this.go));
    return section;
  }

  private unknown(): HTMLElement {
    const list = element("dl");
    for (const [what, why] of this.data.unknown) list.append(element("dt", {}, told(what)), element("dd", {}, told(why)));
    return element("section", {}, element("h2", {}, "Not known"), list);
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
      if (document.activeElement !== its("tree")) return;
      if (event.key === "Enter") this.cards.focus();
      else if (event.key === "Escape") this.state.select(-1);
      else if (event.key === "n") this.next(1);
      else if (event.key === "N") this.next(-1);
      else if (!this.timeline.key(event.key)) return;
      event.preventDefault();
    });
  }

  private link(): void {
    // In a frame of a notebook there is no address of its own.
    if (location.protocol === "about:") return;
    const { selected } = this.state;
    const hash = selected < 0 ? "#" : `#task=${this.data.tasks.id[selected]}`;
    if (location.hash !== hash && !(hash === "#" && location.hash === "")) location.replace(hash);
  }

  private linked(): void {
    const wanted = /^#task=(\d+)$/.exec(location.hash);
    if (wanted === null) return;
    const task = this.data.tasks.id.indexOf(Number(wanted[1]));
    if (task >= 0 && task !== this.state.selected) this.go(task);
  }
}

async function start(): Promise<void> {
  const page = new Page(await block<Overview>("overview"));
  Object.defineProperty(window, "forklore", { value: page.inside });
}

start().catch((problem: unknown) => {
  const place = document.getElementById("warnings");
  place?.append(element("p", { class: "bad" }, `This page cannot be shown: ${String(problem)}`));
});
