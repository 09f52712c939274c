// Colours of the canvas: those of the style sheet, so that light, dark and print each stand in one place.

export interface Theme {
  text: string;
  quiet: string;
  line: string;
  ground: string;
  selected: string;
  match: string;
  path: string;
  bad: string;
  hatch: string;
  dark: boolean;
}

const NAMES = ["text", "quiet", "line", "ground", "selected", "match", "path", "bad", "hatch"] as const;

export function theme(print = false): Theme {
  const root = document.documentElement;
  root.classList.toggle("printing", print);
  const style = getComputedStyle(root);
  const found = Object.fromEntries(NAMES.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
  return { ...(found as Omit<Theme, "dark">), dark: !print && matchMedia("(prefers-color-scheme: dark)").matches };
}

/** The colour of a program, always the same for a name. It is never all that tells them apart: boxes have names. */
export function colour(name: string, dark: boolean): string {
  let hash = 0;
  for (let at = 0; at < name.length; at++) hash = (hash * 31 + name.charCodeAt(at)) >>> 0;
  return dark ? `hsl(${hash % 360} 38% 34%)` : `hsl(${hash % 360} 52% 80%)`;
}
