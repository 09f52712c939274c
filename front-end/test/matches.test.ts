// Which task is which in the other trace, what a sentence leads to, and two cards beside one another.
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Comparison } from "../src/data.js";
import { beside, inStep, Matches } from "../src/matches.js";
import { Scale } from "../src/scale.js";

/** Before 0, 1 and 2, now 0, 1 and 2: the first two are each other's, crosswise; 1, which is 0 now, has other arguments. */
const MATCHES = new Matches({ match: [1, 0, -1], pairs: [[1, 0, [["arguments", 1]]]] } as unknown as Comparison, 3);

test("a task leads to the one that it is on the other side", () => {
  assert.deepEqual([0, 1, 2, -1].map((task) => MATCHES.other(0, task)), [1, 0, -1, -1]);
  assert.deepEqual([0, 1, 2].map((task) => MATCHES.other(1, task)), [1, 0, -1]);
});

test("signs say what differs, and what is there once", () => {
  assert.deepEqual([...MATCHES.signs(0)], [-1, 0, 1]);
  assert.deepEqual([...MATCHES.signs(1)], [0, -1, 2]);
});

test("a sentence leads first to what is there once, then to what differs so", () => {
  assert.deepEqual(MATCHES.spots([0, 2], [1, 2]), [[0, 1], [2, -1], [-1, 2]]);
  assert.deepEqual(MATCHES.telling("arguments", [0, 1, 2], []), [[2, -1], [1, 0], [0, 1]]);
  assert.deepEqual(MATCHES.telling("ended", [0, 1, 2], []), [[2, -1], [0, 1], [1, 0]]);
});

test("the same time is as wide in both", () => {
  const scales = [new Scale(0, 100), new Scale(1000, 1300)];
  inStep([{ start: 0, end: 100 }, { start: 1000, end: 1300 }], scales, true);
  assert.deepEqual(scales.map(({ since, until }) => [since, until]), [[0, 300], [1000, 1300]]);
  inStep([{ start: 0, end: 100 }, { start: 1000, end: 1300 }], scales, false);
  assert.deepEqual(scales.map(({ since, until }) => [since, until]), [[0, 100], [1000, 1300]]);
});

test("lines of one term stand beside one another, and those that are the same before others", () => {
  assert.deepEqual(
    beside([["exec", "a"], ["", "x"], ["CPU", "1 s"], ["gone", "g"]], [["exec", "b"], ["exec", "a"], ["", "y"], ["CPU", "2 s"]]),
    [["exec", "a", "a"], ["", "x", null], ["CPU", "1 s", "2 s"], ["gone", "g", null], ["exec", null, "b"], ["", null, "y"]],
  );
});
