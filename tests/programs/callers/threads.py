"""Starts threads by Python's threading, and says of each what it is called and what it runs: a JSON array a line."""

import json
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Callable, Optional  # noqa: UP035 - 3.8 runs it, too

done = threading.Event()


def work(*_words: object) -> None:
    done.wait()


class Crew(threading.Thread):
    def __init__(self) -> None:
        self.first = 1  # another order of attributes than that of other threads
        super().__init__(name="crew of its own")

    def run(self) -> None:
        work()

    def pull(self) -> None:
        work()


def told(thread: threading.Thread, target: Optional[Callable[..., object]]) -> None:  # noqa: UP045
    code: Any = getattr(getattr(target, "__func__", target), "__code__", None)
    where = None if code is None else [code.co_filename, code.co_firstlineno]
    print(json.dumps([thread.name, where]))


def main() -> None:
    crew = Crew()
    odd = threading.Thread(target=work, name="n\u00e4me \u2713 that is longer than fifteen bytes")
    vars(odd).update({f"more{number}": number for number in range(40)})  # a dict of its own
    targets: list[tuple[threading.Thread, Any]] = [(odd, work), (crew, None)]
    others: tuple[Any, ...] = (work, crew.pull, lambda: work(), partial(work, 1))
    targets += [(threading.Thread(target=target), target) for target in others]
    for thread, target in targets:
        told(thread, target)
        thread.start()
    with ThreadPoolExecutor(1, thread_name_prefix="pool") as pool:
        pool.submit(int)
    done.set()
    for thread, _target in targets:
        thread.join()
    sys.stdout.flush()


if __name__ == "__main__":
    main()
