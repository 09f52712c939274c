"""Opens each format of a trace with a program that people open it with, and counts what that finds."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib import import_module, metadata
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

import forklore

ROOT: Final = Path(__file__).resolve().parents[2]
_PATIENCE: Final = 600
_SOURCES: Final = 60
_PROBES: Final = ("fork", "vfork", "mmap", "strlcpy", "getrandom", "dup3", "pipe2", "accept4", "nosuchcall")


class MissingError(Exception):
    """There is no such program here; the text says what brings it."""


class Tree(Struct, frozen=True):
    """What the tree counts."""

    tasks: int
    programs: int
    edges: int
    processes: int
    threads: int
    ends: dict[str, int]
    """Tasks by exit status."""
    cpu: int
    """CPU time in µs of all processes together."""

    @classmethod
    def of(cls, file: Path) -> Tree:
        """Of a trace."""
        trace = forklore.load(file)
        tasks = trace.tasks.values()
        deaths = [task.death for task in tasks if task.death is not None]
        kinds = Counter(task.kind for task in tasks)
        return cls(
            tasks=len(tasks),
            programs=sum(len(task.images) for task in tasks),
            edges=sum(task.creator is not None for task in tasks),
            processes=kinds["process"],
            threads=kinds["thread"],
            ends=dict(Counter(str(death.code) for death in deaths if death.code is not None)),
            cpu=sum(task.cpu for task in tasks if task.cpu is not None and task.creator is None),
        )


class Opened(Struct, frozen=True):
    """What a consumer counted, by name, and what the tree has."""

    by: str
    counts: dict[str, tuple[object, object]] = {}
    missing: str = ""

    @property
    def wrong(self) -> bool:
        """Whether any is not the tree's."""
        return any(found != wanted for found, wanted in self.counts.values())

    def text(self) -> str:
        """A line."""
        if self.missing:
            return f"not opened: {self.missing}"
        return ", ".join(
            f"{name} {found}" if found == wanted else f"{name} {found}, BUT {wanted} IN THE TREE"
            for name, (found, wanted) in self.counts.items()
        )


def recorded(folder: Path) -> Path:
    """The trace of a made project's build: a configure script that tries functions and headers, then make -j2."""
    project, file = folder / "project", folder / "build.jsonl"
    project.mkdir()
    (project / "configure").write_text(
        "#!/bin/sh\n: > config.h\n"
        f"for f in {' '.join(_PROBES)}; do\n"
        "  printf 'char %s(); int main(void) { return %s(); }\\n' $f $f > conftest.c\n"
        "  cc -w -fno-builtin -o conftest conftest.c 2> config.log && echo \"#define HAVE_$f 1\" >> config.h\ndone\n"
        "for h in stdio.h sched.h nosuch.h sys/mman.h; do\n"
        "  name=`echo $h | sed 's/[^a-z]/_/g' | tr a-z A-Z`\n"
        '  echo "#include <$h>" | cc -E - > /dev/null 2>> config.log && echo "#define HAVE_$name 1" >> config.h\n'
        "done\ncp Makefile.in Makefile\n"
    )
    (project / "Makefile.in").write_text(
        f"OBJS := $(patsubst %,f%.o,$(shell seq {_SOURCES}))\n"
        "prog: $(OBJS) main.o lib.a\n\t@echo LD $@; cc -o $@ main.o $(OBJS)\n"
        "lib.a: $(wordlist 1,20,$(OBJS))\n\tar rcs $@ $^ && ranlib $@\n"
        "%.o: %.c\n\t@echo CC $<; cc -O1 -c -o $@ $<\n"
    )
    for number in range(1, _SOURCES + 1):
        (project / f"f{number}.c").write_text(f"int f{number}(int n) {{ return n * {number}; }}\n")
    (project / "main.c").write_text("int f1(int); int main(void) { return f1(0); }\n")
    command = ["sh", "-c", "sh ./configure && make -j2"]
    forklore_ = [sys.executable, "-m", "forklore", "run", "-q", "-o", str(file), "--", *command]
    subprocess.run(
        forklore_, cwd=project, check=True, stdout=subprocess.DEVNULL, timeout=_PATIENCE, env=_environment()
    )  # fmt: skip
    return file


def opened(name: str, file: Path, folder: Path, tree: Tree) -> Opened:
    """What the format's consumer counts."""
    by, look = CONSUMERS[name]
    try:
        return Opened(_version(by), look(file, folder, tree))
    except ImportError as problem:
        return Opened(by, missing=f"{problem.name} is not installed")
    except MissingError as problem:
        return Opened(by, missing=str(problem))


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT / "src")}


def _version(by: str) -> str:
    try:
        return f"{by} {metadata.version(by.split()[0])}"
    except metadata.PackageNotFoundError:
        return by


def _show(file: Path, folder: Path, form: str, *options: str) -> Path:
    target = folder / f"shown.{form}"
    command = [sys.executable, "-m", "forklore", "show", "--format", form, *options, "-o", str(target), str(file)]
    subprocess.run(command, check=True, timeout=_PATIENCE, env=_environment())
    return target


def _program(name: str, package: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise MissingError(f"no {name} on this machine (package: {package})")
    return found


Counts = dict[str, tuple[object, object]]


def _html(file: Path, folder: Path, tree: Tree) -> Counts:
    from browser import FLAGS, Opened, executable
    from playwright.sync_api import sync_playwright

    page = _show(file, folder, "html")
    with sync_playwright() as running:
        browser = running.chromium.launch(executable_path=executable(), args=list(FLAGS))
        seen = Opened(browser.new_page()).load(page)
        told = dict(zip(*seen.page.evaluate(_FACTS), strict=True))
        browser.close()
    made = f"{tree.processes} process{'es' * (tree.processes != 1)}"
    return {"made": (told["made"].partition(",")[0], made), "console": (seen.said, []), "loads": (len(seen.asked), 1)}


_FACTS: Final = """() => ["dt", "dd"].map(
  (kind) => [...document.querySelectorAll(`#facts ${kind}`)].map((each) => each.textContent)
)"""


def _json(file: Path, folder: Path, tree: Tree) -> Counts:
    shown = _show(file, folder, "json")
    ask = "[(.tasks | length), ([.tasks[].execs | length] | add), ([.tasks[] | select(.creator)] | length)]"
    ran = subprocess.run([_program("jq", "jq"), "-c", ask, shown], check=True, stdout=subprocess.PIPE)
    tasks, programs, edges = json.loads(ran.stdout)
    return {"tasks": (tasks, tree.tasks), "execs": (programs, tree.programs), "edges": (edges, tree.edges)}


def _csv(file: Path, folder: Path, tree: Tree) -> Counts:
    import pandas

    frame = pandas.read_csv(_show(file, folder, "csv"))
    ends = {str(int(code)): int(count) for code, count in frame["code"].value_counts().items()}
    edges = int(frame["creator"].notna().sum())
    return {"tasks": (len(frame), tree.tasks), "edges": (edges, tree.edges), "ends": (ends, tree.ends)}


def _speedscope(shown: Path, folder: Path) -> tuple[list[Any], list[str]]:
    """What speedscope made of a file, by its own export of that; and what it complained of while it read."""
    from browser import FLAGS, executable
    from playwright.sync_api import sync_playwright

    app = ROOT / ".venv/speedscope/node_modules/speedscope/dist/release/index.html"
    if not app.is_file():
        raise MissingError("npm install --prefix .venv/speedscope speedscope brings it")
    script = folder / f"{shown.name}.js"
    content = base64.b64encode(shown.read_bytes()).decode()
    script.write_text(f"speedscope.loadFileFromBase64({json.dumps(shown.name)}, {json.dumps(content)})")
    complaints: list[str] = []
    with sync_playwright() as running:
        browser = running.chromium.launch(executable_path=executable(), args=list(FLAGS))
        page = browser.new_page()
        # WebGL has warnings of its own about the machine's graphics.
        page.on("console", lambda message: complaints.append(message.text) if message.type == "warning" else None)
        page.goto(f"file://{app}#localProfilePath={script}")
        page.wait_for_function("document.title.endsWith(' - speedscope')", timeout=_PATIENCE * 1000)
        with page.expect_download() as download:
            page.keyboard.press("Control+s")
        saved = json.loads(download.value.path().read_bytes())
        browser.close()
    return saved["profiles"], [text for text in complaints if "WebGL" not in text]


def _folded(file: Path, folder: Path, tree: Tree) -> Counts:
    (profile,), complaints = _speedscope(_show(file, folder, "folded"), folder)
    return {"creations": (profile["endValue"] - profile["startValue"], tree.edges), "complaints": (complaints, [])}


def _chrome(file: Path, folder: Path, tree: Tree) -> Counts:
    shown = _show(file, folder, "chrome")
    profiles, complaints = _speedscope(shown, folder)
    slices = sum(event["type"] == "O" for profile in profiles for event in profile["events"])
    # speedscope shows no arrows.
    events = json.loads(shown.read_bytes())["traceEvents"]
    arrows = sum(event["ph"] == "s" for event in events)
    spans = sum(event["ph"] == "X" for event in events)
    return {
        "lanes": (len(profiles), tree.tasks), "slices": (slices, spans), "arrows by json": (arrows, tree.edges),
        "complaints": (complaints, []),
    }  # fmt: skip


def _perfetto(file: Path, folder: Path, tree: Tree) -> Counts:
    perfetto_trace_pb2: Any = import_module("perfetto.protos.perfetto.trace.perfetto_trace_pb2")
    trace = perfetto_trace_pb2.Trace.FromString(_show(file, folder, "perfetto").read_bytes())
    lanes = sum(packet.track_descriptor.HasField("thread") for packet in trace.packet)
    events = [packet.track_event for packet in trace.packet if packet.HasField("track_event")]
    ran = sum(event.type == event.TYPE_SLICE_BEGIN and "ran" in event.categories for event in events)
    arrows = sum(len(event.terminating_flow_ids) for event in events)
    images = sum(max(len(task.images), 1) for task in forklore.load(file).tasks.values())
    return {"lanes": (lanes, tree.tasks), "ran": (ran, images), "arrows": (arrows, tree.edges)}


def _spans(spans: list[Any], tree: Tree) -> Counts:
    ends = Counter(
        str(each.value.int_value) for span in spans for each in span.attributes if each.key == "process.exit.code"
    )  # fmt: skip
    execs = sum(event.name == "exec" for span in spans for event in span.events)
    below = sum(bool(span.parent_span_id) for span in spans)
    return {
        "spans": (len(spans), tree.tasks), "below another": (below, tree.edges), "execs": (execs, tree.programs),
        "ends": (dict(ends), tree.ends),
    }  # fmt: skip


def _otlp_json(file: Path, folder: Path, tree: Tree) -> Counts:
    json_format: Any = import_module("google.protobuf.json_format")
    trace_pb2: Any = import_module("opentelemetry.proto.trace.v1.trace_pb2")
    spans: list[Any] = []
    for line in _show(file, folder, "otlp-json").read_bytes().splitlines():
        for each in json_format.Parse(line, trace_pb2.TracesData()).resource_spans:
            spans += [span for scope in each.scope_spans for span in scope.spans]
    return _spans(spans, tree)


def _otlp(file: Path, folder: Path, tree: Tree) -> Counts:
    trace_pb2: Any = import_module("opentelemetry.proto.trace.v1.trace_pb2")
    data = trace_pb2.TracesData.FromString(_show(file, folder, "otlp").read_bytes())
    return _spans([span for each in data.resource_spans for scope in each.scope_spans for span in scope.spans], tree)


def _otlp_endpoint(file: Path, _folder: Path, tree: Tree) -> Counts:
    trace_service_pb2: Any = import_module("opentelemetry.proto.collector.trace.v1.trace_service_pb2")
    spans: list[Any] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                import gzip

                body = gzip.decompress(body)
            for each in trace_service_pb2.ExportTraceServiceRequest.FromString(body).resource_spans:
                spans.extend(span for scope in each.scope_spans for span in scope.spans)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_words: object) -> None:
            """Nothing."""

    server = HTTPServer(("127.0.0.1", 0), Collector)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.server_port}"
        command = [sys.executable, "-m", "forklore", "show", "--otlp-endpoint", url, str(file)]
        subprocess.run(command, check=True, timeout=_PATIENCE, env=_environment())
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    return _spans(spans, tree)


def _dot(file: Path, folder: Path, tree: Tree) -> Counts:
    shown = _show(file, folder, "dot")
    program = _program("dot", "graphviz")
    ran = subprocess.run([program, "-Tjson0", shown], check=True, stdout=subprocess.PIPE, timeout=_PATIENCE)
    graph = json.loads(ran.stdout)
    nodes = [each for each in graph["objects"] if "nodes" not in each]
    return {"nodes": (len(nodes), tree.tasks), "edges": (len(graph["edges"]), tree.edges)}


def _mermaid_parsed(shown: Path) -> dict[str, Any]:
    modules = ROOT / ".venv/mermaid/node_modules"
    if not (modules / "mermaid").is_dir():
        raise MissingError("npm install --prefix .venv/mermaid mermaid jsdom brings Mermaid's parser")
    script = ROOT / "tests/unit/export/mermaid_parse.mjs"
    command = [_program("node", "nodejs"), str(script), str(modules), str(shown)]
    ran = subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=_PATIENCE)
    (found,) = json.loads(ran.stdout)
    return dict(found)


def _mermaid(file: Path, folder: Path, tree: Tree) -> Counts:
    found = _mermaid_parsed(_show(file, folder, "mermaid"))
    return {"nodes": (found.get("nodes", found), tree.tasks), "edges": (found.get("edges"), tree.edges)}


def _gantt(file: Path, folder: Path, tree: Tree) -> Counts:
    found = _mermaid_parsed(_show(file, folder, "gantt"))
    return {"bars": (found.get("bars", found), tree.tasks)}


def _parquet(file: Path, folder: Path, tree: Tree) -> Counts:
    duckdb: Any = import_module("duckdb")
    target = folder / "tables"
    command = [sys.executable, "-m", "forklore", "export", str(file), "--to", str(target)]
    subprocess.run(command, check=True, timeout=_PATIENCE, env=_environment())

    def asked(what: str, table: str) -> Any:
        where = f"read_parquet('{target}/{table}/*/*/*.parquet', hive_partitioning = true)"
        return duckdb.sql(f"SELECT {what} FROM {where}").fetchall()

    ends = dict(Counter(str(code) for (code,) in asked("code", "exit") if code is not None))
    return {
        "tasks": (asked("count(*)", "task")[0][0], tree.tasks),
        "creations": (asked("count(*)", "creation")[0][0], tree.edges),
        "execs": (asked("count(*)", "exec")[0][0], tree.programs),
        "ends": (ends, tree.ends),
        "cpu": (asked("cpu_us", "run")[0][0], tree.cpu),
    }


def _query(file: Path, _folder: Path, tree: Tree) -> Counts:
    sql = "SELECT (SELECT count(*) FROM task) AS tasks, (SELECT count(*) FROM exec) AS execs"
    command = [sys.executable, "-m", "forklore", "query", str(file), sql, "--format", "json"]
    ran = subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=_PATIENCE, env=_environment())
    found = json.loads(ran.stdout)
    return {"tasks": (found["tasks"], tree.tasks), "execs": (found["execs"], tree.programs)}


def _pandas(file: Path, _folder: Path, tree: Tree) -> Counts:
    frame = forklore.load(file).to_pandas()
    execs, edges = int(frame["execs"].sum()), int(frame["creator"].notna().sum())
    return {"tasks": (len(frame), tree.tasks), "execs": (execs, tree.programs), "edges": (edges, tree.edges)}


def _polars(file: Path, _folder: Path, tree: Tree) -> Counts:
    frame = forklore.load(file).to_polars()
    return {"tasks": (frame.height, tree.tasks), "execs": (int(frame["execs"].sum()), tree.programs)}


def _arrow(file: Path, _folder: Path, tree: Tree) -> Counts:
    import pyarrow.compute

    table = forklore.load(file).to_arrow()
    execs = pyarrow.compute.sum(table["execs"]).as_py()
    return {"tasks": (table.num_rows, tree.tasks), "execs": (execs, tree.programs)}


def _networkx(file: Path, _folder: Path, tree: Tree) -> Counts:
    graph = forklore.load(file).to_networkx()
    made = sum(key == "creator" for _, _, key in graph.edges(keys=True))
    return {"nodes": (graph.number_of_nodes(), tree.tasks), "edges": (made, tree.edges)}


CONSUMERS: Final[dict[str, tuple[str, Callable[[Path, Path, Tree], Counts]]]] = {
    "html": ("playwright with chromium", _html),
    "json": ("jq", _json),
    "csv": ("pandas", _csv),
    "folded": ("speedscope in chromium", _folded),
    "chrome": ("speedscope in chromium", _chrome),
    "perfetto": ("perfetto", _perfetto),
    "otlp-json": ("opentelemetry-proto", _otlp_json),
    "otlp": ("opentelemetry-proto", _otlp),
    "otlp-endpoint": ("opentelemetry-proto on loopback", _otlp_endpoint),
    "dot": ("graphviz", _dot),
    "mermaid": ("mermaid", _mermaid),
    "gantt": ("mermaid", _gantt),
    "parquet": ("duckdb", _parquet),
    "query": ("duckdb", _query),
    "pandas": ("pandas", _pandas),
    "polars": ("polars", _polars),
    "arrow": ("pyarrow", _arrow),
    "networkx": ("networkx", _networkx),
}
"""By format: who opens it, and what that counts."""
