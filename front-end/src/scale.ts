// From time to the columns of the timeline and back. No DOM here: it is tested alone.

/** What part of the time is shown. Times are microseconds, places are CSS pixels. */
export class Scale {
  since: number;
  until: number;
  width = 1;

  constructor(public first: number, public last: number) {
    this.since = first;
    this.until = Math.max(last, first + 1);
  }

  x(t: number): number {
    return ((t - this.since) / (this.until - this.since)) * this.width;
  }

  t(x: number): number {
    return this.since + (x / this.width) * (this.until - this.since);
  }

  /** From when to when it can show. */
  reach(first: number, last: number): void {
    this.first = first;
    this.last = last;
  }

  /** Shows that and no more than there is, and never less than a microsecond. */
  show(since: number, until: number): void {
    const all = Math.max(this.last - this.first, 1);
    const length = Math.min(Math.max(until - since, 1), all);
    const middle = (since + until) / 2;
    const begin = Math.min(Math.max(middle - length / 2, this.first), this.first + all - length);
    this.since = begin;
    this.until = begin + length;
  }

  /** `factor` above 1 shows more, below less; what is at `x` stays there. */
  zoom(factor: number, x: number): void {
    const fixed = this.t(x);
    const all = Math.max(this.last - this.first, 1);
    const length = Math.min(Math.max((this.until - this.since) * factor, 1), all);
    const part = x / this.width;
    this.show(fixed - length * part, fixed + length * (1 - part));
  }

  pan(pixels: number): void {
    const by = (pixels / this.width) * (this.until - this.since);
    this.show(this.since + by, this.until + by);
  }

  all(): void {
    this.show(this.first, this.last);
  }
}
