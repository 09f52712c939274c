// Elements from text alone: nothing here takes markup, so that no name of a traced program can be any.

type Child = Node | string;

export function element<K extends keyof HTMLElementTagNameMap>(
  tag: K, attributes: Record<string, string> = {}, ...children: Child[]
): HTMLElementTagNameMap[K] {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** Text of a traced program: whatever way it is written, what stands beside it stays where it is. */
export function told(text: string, name = ""): HTMLElement {
  return element("bdi", name === "" ? {} : { class: name }, text);
}

export function button(text: string, act: () => void, attributes: Record<string, string> = {}): HTMLButtonElement {
  const made = element("button", { type: "button", ...attributes }, text);
  made.addEventListener("click", act);
  return made;
}

/** What the page itself has under that id. */
export function its<T extends HTMLElement>(id: string): T {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`the page has no ${id}`);
  return found as T;
}

/** The field and the buttons of the search: to search, to go on by 1 or -1, and where the keys go when it is left. */
export function searchField(search: () => void, next: (step: number) => void, left: () => HTMLElement): void {
  const input = its<HTMLInputElement>("search");
  input.addEventListener("input", search);
  input.addEventListener("keydown", (event) => {
    if (event.key === "Enter") next(event.shiftKey ? -1 : 1);
    if (event.key === "Escape") {
      input.value = "";
      search();
      left().focus();
    }
  });
  its("next").addEventListener("click", () => next(1));
  its("previous").addEventListener("click", () => next(-1));
}
