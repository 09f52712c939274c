// Which rows there are: nesting, folded threads, filters.
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Sharing, Tasks } from "../src/data.js";
import { EVERYTHING, Forest, sharers } from "../src/rows.js";

/** Tasks by kind, creator and leader; each begins one unit after the one before and ends at 100. */
function tasks(...of: [kind: number, creator: number, leader: number][]): Tasks {
  const each = <T>(value: (at: number) => T): T[] => of.map((_, at) => value(at));
  return {
    id: each((at) => at + 1), tid: each((at) => 100 + at), kind: of.map((one) => one[0]), creator: of.map((one) => one[1]),
    leader: of.map((one) => one[2]), start: each((at) => at), end: each(() => 100), open: each(() => 0), name: each((at) => at),
    label: each(() => 0), ended: each(() => 0), bad: each(() => 0), released: each(() => -1), images: each(() => []),
  };
}

const shown = (forest: Forest, filter = EVERYTHING): [number, number][] =>
  forest.rows(filter).map((row) => [row.task, row.depth]);

test("each task stands below the one that made it", () => {
  const forest = new Forest(tasks([0, -1, 0], [0, 0, 1], [0, 1, 2], [0, 0, 3]));
  assert.deepEqual(shown(forest), [[0, 0], [1, 1], [2, 2], [3, 1]]);
  forest.collapsed.add(1);
  assert.deepEqual(shown(forest), [[0, 0], [1, 1], [3, 1]]);
});

test("threads are folded into their process, and what they made stays", () => {
  const forest = new Forest(tasks([0, -1, 0], [1, 0, 0], [0, 1, 2], [1, 1, 0]));
  assert.deepEqual(shown(forest), [[0, 0], [2, 1]]);
  assert.equal(forest.rows(EVERYTHING)[0]!.folded, 2);
  forest.opened.add(0);
  assert.deepEqual(shown(forest), [[0, 0], [1, 1], [2, 2], [3, 2]]);
});

test("a chain as long as a trace", () => {
  const many = 100_000;
  const forest = new Forest(tasks(...Array.from({ length: many }, (_, at): [number, number, number] => [0, at - 1, at])));
  assert.equal(forest.rows(EVERYTHING).length, many);
});

test("what matches a filter keeps those above it", () => {
  const of = tasks([0, -1, 0], [0, 0, 1], [0, 1, 2], [0, 0, 3]);
  of.bad[2] = 1;
  const rows = new Forest(of).rows({ ...EVERYTHING, failures: true });
  assert.deepEqual(rows.map((row) => [row.task, row.dim]), [[0, true], [1, true], [2, false]]);
});

test("what lived in a stretch of time", () => {
  const of = tasks([0, -1, 0], [0, 0, 1], [0, 0, 2]);
  of.end[1] = 20;
  assert.deepEqual(shown(new Forest(of), { ...EVERYTHING, during: [30, 40] }), [[0, 0], [2, 1]]);
});

test("a task that is hidden is revealed", () => {
  const forest = new Forest(tasks([0, -1, 0], [0, 0, 1], [1, 1, 1]));
  forest.collapsed.add(0);
  forest.reveal(2);
  assert.deepEqual(shown(forest), [[0, 0], [1, 1], [2, 2]]);
});

test("who held one object at one time", () => {
  const sharing: Sharing = { resources: ["mm"], holds: [[[1, 0, 10, 2, 10, -1], [1, 5, -1], [2, 0, 9], [2, 20, 30]]], unsure: [[]], legend: [] };
  const shares = sharers(sharing, 0, 0);
  assert.deepEqual([0, 1, 2, 3].map(shares), [true, true, false, true]);
});
