// Search, scale, ticks, how many at once, letters.
import assert from "node:assert/strict";
import { test } from "node:test";
import { atOnce } from "../src/atonce.js";
import type { Tasks, Words } from "../src/data.js";
import { ticks } from "../src/format.js";
import { held, letter } from "../src/matrix.js";
import { Scale } from "../src/scale.js";
import { search } from "../src/search.js";

const TASKS = { id: [1, 2], tid: [4711, 4712], kind: [0, 0], start: [0, 5], end: [10, 7], open: [0, 0] } as unknown as Tasks;
const WORDS: Words = { words: ["", "cc -O2 a.c", "CLONE_VM", "EAGAIN", "4712.c"], of: [[1, 4], [1, 2, 3]] };

test("a search looks at all texts, and takes numbers for tids and #", () => {
  assert.deepEqual(search("-o2", TASKS, WORDS), [0, 1]);
  assert.deepEqual(search("clone_vm", TASKS, WORDS), [1]);
  assert.deepEqual(search("eagain ", TASKS, WORDS), [1]);
  assert.deepEqual(search("4712", TASKS, WORDS), [0, 1]);
  assert.deepEqual(search("#2", TASKS, WORDS), [1]);
  assert.deepEqual(search("  ", TASKS, WORDS), []);
});

test("what is below the pointer stays there", () => {
  const scale = new Scale(0, 1000);
  scale.width = 100;
  scale.zoom(0.5, 25);
  assert.equal(scale.t(25), 250);
  assert.deepEqual([scale.since, scale.until], [125, 625]);
  scale.pan(-1000);
  assert.equal(scale.since, 0);
  scale.zoom(1e-9, 50);
  assert.equal(Math.round(scale.until - scale.since), 1);
  scale.zoom(1e9, 50);
  assert.deepEqual([scale.since, scale.until], [0, 1000]);
});

test("ticks are round and no more than asked", () => {
  assert.deepEqual(ticks(0, 1000, 5), [0, 200, 400, 600, 800, 1000]);
  assert.deepEqual(ticks(0, 0, 5), [0]);
  for (const until of [1, 7, 99, 12345, 8.7e12]) assert.ok(ticks(0, until, 9).length <= 10);
});

test("processes at once", () => {
  assert.deepEqual(atOnce(TASKS), { t: [0, 5, 7, 10], alive: [1, 2, 1, 0], most: 2 });
});

test("letters as a table has them", () => {
  assert.deepEqual([0, 25, 26, 701, 702].map(letter), ["A", "Z", "AA", "ZZ", "AAA"]);
  assert.equal(held([3, 0, 10, 4, 10, -1], 5), 3);
  assert.equal(held([3, 0, 10, 4, 10, -1], 10), 4);
  assert.equal(held([3, 5, 10], 1), -1);
});
