// Parses files with Mermaid itself: node mermaid_parse.mjs NODE_MODULES FILE... prints a JSON array, for each file how many
// nodes, edges and bars it has, or its error.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [modules, ...files] = process.argv.slice(2);
const load = (path) => import(pathToFileURL(join(modules, path)));
const { JSDOM } = (await load("jsdom/lib/api.js")).default;
globalThis.window = new JSDOM("").window;
globalThis.document = window.document;
const mermaid = (await load("mermaid/dist/mermaid.core.mjs")).default;
mermaid.initialize({ maxTextSize: 1e9, maxEdges: 1e9, securityLevel: "strict" });
const found = [];
for (const file of files) {
  try {
    const { type, db } = await mermaid.mermaidAPI.getDiagramFromText(readFileSync(file, "utf8"));
    found.push({ type, nodes: db.getVertices?.().size, edges: db.getEdges?.().length, bars: db.getTasks?.().length });
  } catch (problem) {
    found.push({ error: String(problem) });
  }
}
console.log(JSON.stringify(found));
