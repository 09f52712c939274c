// How a task differs from the one that it is in the other trace.

/** Signs of `State.signs`: they differ in form, and say it. */
export const DIFFERS = [["≠", "differs"], ["−", "only before"], ["+", "only now"]] as const;
