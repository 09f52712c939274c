"""Ready questions: what ``forklore query --ask`` offers."""

from __future__ import annotations

from typing import Final

from msgspec import Struct


class Ask(Struct, frozen=True):
    """A question and its SQL."""

    about: str
    sql: str


ASKS: Final[dict[str, Ask]] = {
    "slowest": Ask(
        "programs by the time they took together, over all runs",
        """
        SELECT name AS program, count(*) AS tasks, count(DISTINCT run) AS runs,
               round(sum(lifetime) / 1e9, 3) AS seconds, round(median(lifetime) / 1e6, 2) AS median_ms,
               round(max(lifetime) / 1e6, 2) AS longest_ms
        FROM task WHERE kind <> 'thread' GROUP BY name ORDER BY seconds DESC NULLS LAST, program LIMIT 20
        """,
    ),
    "spawns-per-second": Ask(
        "runs by how many tasks they made in their busiest second",
        """
        WITH each AS (
            SELECT run, t // 1000000000 AS second, count(*) AS made FROM creation WHERE t IS NOT NULL GROUP BY ALL
        )
        SELECT run, any_value(host) AS host, any_value(command) AS command, max(made) AS most, sum(made) AS made,
               round(sum(made) / greatest(any_value(duration) / 1e9, 1e-3), 1) AS mean
        FROM each JOIN run USING (run) GROUP BY run ORDER BY most DESC, run LIMIT 20
        """,
    ),
    "failures": Ask(
        "refused calls by error and reason",
        """
        SELECT about, errno, CASE about WHEN 'exec' THEN call ELSE regexp_extract(call, '^[a-z0-9_]+') END AS call,
               count(*) AS times, count(DISTINCT run) AS runs, any_value(why) AS why
        FROM failure GROUP BY ALL ORDER BY times DESC, call LIMIT 20
        """,
    ),
    "leaks": Ask(
        "descriptors that survive an exec, pipes that are kept open, and processes that are left behind, by program",
        """
        SELECT rule, program, count(*) AS times, count(DISTINCT run) AS runs, any_value(text) AS example
        FROM finding WHERE rule IN ('descriptor-survived-exec', 'pipe-held-by-bystander', 'left-behind')
        GROUP BY rule, program ORDER BY times DESC, program LIMIT 20
        """,
    ),
}
"""By name. The SQL is DuckDB's."""
