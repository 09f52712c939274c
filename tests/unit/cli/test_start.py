"""What the command does before its verb and after it, in a process of its own."""

import subprocess
import sys
from pathlib import Path

_LOADED = """\
import sys
from forklore.__main__ import command
sys.argv = ["forklore", *sys.argv[1:]]
command()
print("msgspec" in sys.modules, "typing_extensions" in sys.modules)
import typing_extensions
"""
_PROFILED = """\
import sys
from forklore.__main__ import command
sys.argv = ["forklore", "run", "-q", "--", *sys.argv[1:]]
if "profiled" in sys.argv:
    sys.setprofile(lambda *_: None)
status = command()
sys.setprofile(None)
print("ended", status)
"""


def _python(code: str, *words: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    before = "" if path is None else f"import sys; sys.path.insert(0, {str(path)!r})\n"
    return subprocess.run([sys.executable, "-c", before + code, *words], capture_output=True, text=True, check=False)


def test_msgspec_comes_without_what_it_need_not_have(tmp_path: Path) -> None:
    (tmp_path / "typing_extensions.py").write_text("print('imported')\n")
    ended = _python(_LOADED, "explain", "EINVAL", path=tmp_path)
    assert ended.stdout.splitlines()[-2:] == ["True False", "imported"], ended.stderr
    assert ended.stdout.count("imported") == 1


def test_run_ends_the_process_and_loses_nothing(tmp_path: Path) -> None:
    script = "echo out; echo err >&2; exit 7"
    ended = _python(_PROFILED, "sh", "-c", script)
    assert (ended.returncode, ended.stdout, ended.stderr) == (7, "out\n", "err\n")
    kept = subprocess.run(
        [sys.executable, "-m", "forklore", "run", "-o", tmp_path / "t", "--html", tmp_path / "h", "--", "sh", "-c",
         script],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert kept.returncode == 7
    assert kept.stdout == "out\n"
    assert kept.stderr.splitlines()[-1] == f"Page in {tmp_path / 'h'}"
    assert (tmp_path / "t").read_text().splitlines()[-1].startswith('{"event":"end"')
    assert (tmp_path / "h").read_text().rstrip().endswith("</html>")


def test_whoever_profiles_it_has_the_last_word() -> None:
    ended = _python(_PROFILED, "sh", "-c", "exit 3", "profiled")
    assert (ended.returncode, ended.stdout) == (0, "ended 3\n")


_WITHOUT = """\
import sys
sys.modules["msgspec"] = None
from forklore.__main__ import command
sys.argv = ["forklore", *sys.argv[1:]]
sys.exit(command())
"""


def test_a_package_that_is_missing_is_named() -> None:
    for words, status in ((("show", "x"), 1), (("run", "--", "true"), 125)):
        ended = _python(_WITHOUT, *words)
        assert (ended.returncode, ended.stdout) == (status, "")
        assert ended.stderr == (
            f"forklore: msgspec, which forklore needs, is not installed for {sys.executable}; `pip install .` in a"
            " checkout brings it\n"
        )
