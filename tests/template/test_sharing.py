"""Memory after a fork: what stays shared, and that immortal objects behave as ever."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from forkserve.template.sharing import immortal_is_possible

CAN = pytest.mark.skipif(
    bool(immortal_is_possible()), reason=f"no immortal objects: {immortal_is_possible()}"
)

PRELUDE = """
    import gc, json, os, re, sys
    from forkserve.template import sharing

    def private():
        '''MiB that only this process has (proc_pid_smaps(5)).'''
        with open("/proc/self/smaps_rollup") as rollup:
            return int(re.search(r"^Private_Dirty:\\s+(\\d+)", rollup.read(), re.M)[1]) / 1024

    def in_a_fork(life):
        '''What life returns in a child, which must exit with 0.'''
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.write(writer, json.dumps(life()).encode())
            os._exit(0)
        os.close(writer)
        said = open(reader).read()
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        return json.loads(said)

"""


def run(script: str) -> object:
    """What ``script`` prints as JSON, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", dedent(PRELUDE) + dedent(script)],
        capture_output=True,
        text=True,
        timeout=100,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


MODEL = """
    class Record:
        def __init__(self, i):
            self.name, self.parts = str(i) * 2, (i * 1.5, {f"key {i}": i + 100_000}, [i])

    import __main__
    __main__.MODEL = MODEL = [Record(i) for i in range(100_000)]

    def use():
        before = private()
        total = sum(len(r.name) + sum(r.parts[1].values()) + r.parts[2][0] for r in list(MODEL))
        total += sum(len(key) for r in MODEL for key in r.parts[1])
        gc.collect()
        assert total
        return private() - before
"""


def test_a_collection_leaves_frozen_memory_alone() -> None:
    """Without reading the objects, which counts references."""
    script = """
        def collect():
            before = private()
            gc.collect()
            return private() - before

        unfrozen = in_a_fork(collect)
        sharing.freeze()
        print(json.dumps([unfrozen, in_a_fork(collect)]))
    """
    unfrozen, frozen = run(dedent(MODEL) + dedent(script))  # type: ignore[misc]
    assert unfrozen > 10  # otherwise the test shows nothing
    assert frozen < unfrozen / 5


@CAN
def test_reading_immortal_memory_leaves_it_shared() -> None:
    script = """
        sharing.freeze()
        counted = in_a_fork(use)
        made = sharing.immortalise()
        print(json.dumps([counted, in_a_fork(use), made.objects]))
    """
    counted, immortal, objects = run(dedent(MODEL) + dedent(script))  # type: ignore[misc]
    assert counted > 10
    assert immortal < counted / 10
    assert objects > 500_000


@CAN
def test_files_and_what_has_a_finaliser_still_end_with_their_last_reference() -> None:
    script = """
        class Finalised:
            def __del__(self):
                ended.append("finalised")

        import __main__, socket
        __main__.ended = ended = []
        __main__.held = held = [open("/dev/null"), Finalised(), socket.socket()]

        def life():
            fds = len(os.listdir("/proc/self/fd"))
            import warnings
            warnings.simplefilter("ignore")
            held.clear()
            return [fds - len(os.listdir("/proc/self/fd")), ended]

        sharing.immortalise()
        print(json.dumps(in_a_fork(life)))
    """
    assert run(script) == [2, ["finalised"]]


@CAN
def test_what_the_collector_is_not_told_of_is_immortal_too() -> None:
    """Keys that are strings, constants of code, objects in numpy arrays."""
    script = """
        import __main__

        def code(): return lambda: (("a constant", 5_000.5), "b" * 50)

        try:
            import numpy
            array = numpy.array([f"item {i}" for i in range(5)], dtype=object)
        except ImportError:
            array = ["item 0"]
        __main__.things = things = [{f"key {i}": 0 for i in range(5)}, code, array]

        def life():
            inner = next(c for c in code.__code__.co_consts if hasattr(c, "co_consts"))
            constant = next(c for c in inner.co_consts if type(c) is tuple)
            found = [*things[0], inner, constant, constant[1], *inner.co_names, things[2][0]]
            return [repr(f) for f in found if sys.getrefcount(f) != sys.getrefcount(None)]

        sharing.immortalise()
        print(json.dumps(in_a_fork(life)))
    """
    assert run(script) == []


@CAN
def test_what_does_something_at_its_end_still_does() -> None:
    script = """
        import mmap, select, tempfile, weakref, __main__

        class Thing:
            pass

        def suspended():
            try:
                yield
            finally:
                closed.append("generator")

        closed, buffer = [], bytearray(10)
        held = {
            "view": memoryview(buffer), "map": mmap.mmap(-1, 100_000), "poll": select.epoll(),
            "folder": tempfile.TemporaryDirectory(), "generator": suspended(),
            "weak": Thing(), "finalized": Thing(),
        }
        weak = weakref.WeakValueDictionary(weak=held["weak"])
        weakref.finalize(held["finalized"], closed.append, "finalized")
        folder = held["folder"].name
        next(held["generator"])
        __main__.everything = [held, weak, closed, buffer]

        def maps():
            return open("/proc/self/maps").read().count("/dev/zero")

        def life():
            import warnings
            warnings.simplefilter("ignore")
            fds, mapped = len(os.listdir("/proc/self/fd")), maps()
            held.clear()
            buffer.extend(b"more")
            freed = [fds - len(os.listdir("/proc/self/fd")), mapped - maps()]
            return [freed, sorted(closed), len(weak), os.path.exists(folder)]

        sharing.immortalise()
        print(json.dumps(in_a_fork(life)))
    """
    assert run(script) == [[1, 1], ["finalized", "generator"], 0, False]


@CAN
def test_the_walk_runs_no_code_of_the_app() -> None:
    """Lazy proxies and classes that answer to every name must not be woken by it."""
    script = """
        import __main__

        def woken(*args):
            raise RuntimeError("woken")

        class Meta(type):
            __getattr__ = woken

        class Proxy(metaclass=Meta):
            __getattribute__ = __eq__ = __hash__ = __bool__ = __len__ = __iter__ = woken
            __class__ = property(woken)

        class Keys(dict):
            __iter__ = keys = items = woken

        __main__.proxies = [Proxy(), Keys(a=1)]
        print(json.dumps(sharing.immortalise().objects > 1000))
    """
    assert run(script) is True


@CAN
def test_a_collector_that_is_set_free_again_and_an_ordinary_exit() -> None:
    script = """
        import threading

        class Node:
            pass

        import __main__
        __main__.ring = ring = [Node() for _ in range(1000)]
        for left, right in zip(ring, ring[1:] + ring[:1]):
            left.next = right

        def life():
            gc.unfreeze()
            for _ in range(5):
                gc.collect()
            del ring[::2]
            gc.collect()
            threads = [threading.Thread(target=gc.collect) for _ in range(5)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            return len(ring)

        gc.freeze()  # as an app may have done
        sharing.immortalise()
        assert in_a_fork(life) == 500
        print(json.dumps("and the interpreter shuts down after this"))
    """
    assert run(script) == "and the interpreter shuts down after this"


@CAN
def test_an_app_behaves_as_ever() -> None:
    """What FastAPI answers, with and without; errors, threads and background tasks too."""
    script = """
        import asyncio, logging, threading, warnings
        warnings.simplefilter("ignore")
        from typing import Annotated
        from fastapi import BackgroundTasks, Body, Depends, FastAPI, HTTPException
        from fastapi.testclient import TestClient
        from pydantic import BaseModel

        class Item(BaseModel):
            name: str
            price: float = 1.0
            tags: list[str] = []

        import __main__
        __main__.app = app = FastAPI()
        __main__.notes = notes = []

        @app.get("/items/{number}")
        async def item(number: int, short: bool = False) -> Item:
            return Item(name=f"item {number}", tags=["a"] * number)

        @app.post("/items")
        def create(item: Annotated[Item, Body()], tasks: BackgroundTasks) -> Item:
            tasks.add_task(notes.append, item.name)
            return item

        @app.get("/broken")
        async def broken():
            raise HTTPException(418, "teapot")

        @app.get("/fails")
        async def fails():
            return {}["nothing"]

        def life():
            client = TestClient(app, raise_server_exceptions=False)
            said = []
            for _ in range(20):
                for method, path, body in (
                    ("GET", "/items/3", None), ("GET", "/items/x", None), ("GET", "/none", None),
                    ("POST", "/items", {"name": "n", "price": "2.5"}), ("POST", "/items", {}),
                    ("GET", "/broken", None), ("GET", "/fails", None),
                    ("GET", "/openapi.json", None),
                ):
                    answer = client.request(method, path, json=body)
                    said.append([answer.status_code, answer.text])
                gc.collect()
            return [said, notes]

        ordinary = in_a_fork(life)
        sharing.immortalise(app)
        print(json.dumps([ordinary == in_a_fork(life), len(ordinary[0])]))
    """
    assert run(script) == [True, 160]


@CAN
def test_a_soak_of_changes_to_what_is_immortal() -> None:
    """Every kind of container and class is changed over and over; memory stays flat."""
    script = """
        import collections, contextvars, decimal, enum, functools, itertools, json as j, weakref

        class Colour(enum.Enum):
            RED = 1
            BLUE = 2

        class Base:
            shared = {}
            def method(self): return self.shared

        @functools.lru_cache(maxsize=100)
        def cached(n): return str(n) * 10

        import __main__
        __main__.state = state = {
            "list": list(range(1000)), "dict": {str(i): [i] for i in range(1000)},
            "set": set(map(str, range(1000))), "deque": collections.deque(range(100), 100),
            "ordered": collections.OrderedDict((i, i) for i in range(100)),
            "counter": collections.Counter("abcabc"), "array": bytearray(1000),
            "weak": weakref.WeakValueDictionary(), "text": "x" * 1000, "tuple": tuple(range(99)),
            "variable": contextvars.ContextVar("variable", default=[]),
        }
        for i in range(50): cached(i)

        def change(round):
            s = state
            s["list"].append(str(round)); s["list"].pop(0); s["list"].sort(key=str)
            del s["list"][::7]; s["list"].extend(str(i) for i in range(1000 - len(s["list"])))
            for i in range(200): s["dict"][str(i)] = [round, i]
            s["dict"].pop("999", None); s["dict"] = dict(s["dict"])
            s["set"].discard(str(round)); s["set"].add(f"new {round % 10}")
            s["deque"].append(object()); s["ordered"].move_to_end(round % 100)
            s["counter"].update("abd")
            s["array"][round % 1000] = 1; s["array"] += b"x"; s["array"] = s["array"][:1000]
            s["text"] = (s["text"] + "y")[-1000:]
            child = type("Child", (Base,), {"n": round}); one = child(); one.method()["k"] = one
            Base.shared.clear(); s["weak"][round] = one; del one, child
            s["variable"].set([round]); [cached(i + round) for i in range(60)]
            assert Colour("RED" and 1) is Colour.RED and decimal.Decimal("1.1") + round
            j.loads(j.dumps(s["dict"])); list(zip(s["list"], s["tuple"]))
            dict(enumerate(s["tuple"]))
            try:
                raise ValueError(round)
            except ValueError as exc:
                exc.__traceback__.tb_frame
            if round % 10 == 0:
                gc.collect()

        def life():
            for round in range(100): change(round)
            after_some = private()
            for round in range(400): change(round)
            return [after_some, private()]

        sharing.immortalise()
        print(json.dumps(in_a_fork(life)))
    """
    some, many = run(script)  # type: ignore[misc]
    assert many < some + 4


def test_where_it_is_not_possible_it_says_why() -> None:
    why_not = immortal_is_possible()
    assert (sys.version_info < (3, 12)) == ("3.12 or newer" in why_not)
