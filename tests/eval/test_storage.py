"""Runs in stores: fsspec's memory, and a local S3 server; Parquet of all scores."""

from __future__ import annotations

import csv
import io
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from typer.testing import CliRunner, Result

from adhere.errors import ExtraMissing
from adhere.eval import places, remote
from adhere.eval.cli import eval_app
from adhere.eval.errors import EvaluationError
from adhere.eval.run import generate, models
from adhere.eval.run.folder import Folder
from adhere.eval.run.generate import Options
from adhere.eval.run.shards import Shard
from tests.eval import fakes


@pytest.fixture
def memory() -> Iterator[str]:
    MemoryFileSystem.store.clear()
    yield "memory://bucket/run"
    MemoryFileSystem.store.clear()


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """A bucket of a local S3 server."""
    pytest.importorskip("moto.server", reason="moto is not installed")
    s3fs = pytest.importorskip("s3fs", reason="s3fs is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    told = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_ENDPOINT_URL_S3": url,
            "AWS_DEFAULT_REGION": "us-east-1"}  # fmt: skip
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-p", str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    before = {name: os.environ.get(name) for name in told}
    os.environ.update(told)
    try:
        for _ in range(600):
            with socket.socket() as asked:
                if asked.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        s3fs.S3FileSystem(skip_instance_cache=True).mkdir("pictures")
        yield "s3://pictures/run"
    finally:
        server.kill()
        server.wait()
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def adhere(*words: object) -> Result:
    return CliRunner().invoke(eval_app, [str(word) for word in words])


def whole_run(out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> places.Place:
    """All commands on a run in a store, in two shards, with a shard that comes back."""
    monkeypatch.setattr(models, "studio", fakes.fake_load)
    suite = fakes.suite_file(tmp_path, 4)
    flags = ["-s", suite, "--model", "fake", "-p", "attend-and-excite", "-m", "cost",
             "-m", "frechet:reference=plain", "--batch", 1]  # fmt: skip
    first = adhere("run", out, *flags, "--shard", "1/2")
    assert first.exit_code == 0, first.output
    assert "other shards are still at work" in first.output
    again = adhere("run", out, *flags, "--shard", "1/2")
    assert "made 0" in again.output
    last = adhere("run", out, *flags, "--shard", "2/2")
    assert last.exit_code == 0, last.output
    assert adhere("validate", out).exit_code == 0
    assert "other settings" in adhere("plan", out, *flags, "--steps", 3).output
    grown = adhere("grow", out, "--seeds", 2)
    assert "added 8" in grown.output, grown.output
    assert "made 8" in adhere("generate", out).output
    place = places.at(out)
    data = json.loads(place.read("report.json"))
    assert data["pictures"] == {"entries": 8, "jobs": 8, "done": 8}
    assert {score["column"] for score in data["scores"]} >= {"seconds", "frechet"}
    handed_on(out)
    return place


def handed_on(out: str) -> None:
    """What is written of a run beside it: its results, and the data set of its pictures."""
    kept, data = f"{out}-kept/results.json", f"{out}-data"
    assert adhere("report", out, "-m", "cost", "--keep", kept).exit_code == 0
    board = adhere("leaderboard", kept, "--score", "seconds")
    assert board.exit_code == 0, board.output
    assert "| attend-and-excite |" in board.output
    told = adhere("export", out, data)
    assert told.exit_code == 0, told.output
    place = places.at(data)
    assert place.names("") == ["README.md", "results.json"]
    rows = [json.loads(line) for line in place.read("test/metadata.jsonl").splitlines()]
    assert len(rows) == 16
    for row in rows:
        there = places.at(out).read(row["file_name"])
        assert place.read(f"test/{row['file_name']}") == there
    assert "new or empty" in " ".join(adhere("export", out, data).output.split())


def test_a_run_in_memory(tmp_path: Path, memory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    place = whole_run(memory, tmp_path, monkeypatch)
    assert place.local is None
    assert not (tmp_path / "memory:").exists()
    assert not Path("memory:").exists()


@pytest.mark.slow
def test_a_run_in_a_bucket(tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole_run(bucket, tmp_path, monkeypatch)


def test_what_a_store_lost_is_made_again(tmp_path: Path, memory: str) -> None:
    fakes.planned(tmp_path / "local")
    local = Folder(tmp_path / "local")
    run = Folder(memory)
    run.plan(local.manifest)
    generate.generate(run, Shard(), Options(), fakes.fake_load)
    victim = run.image(next(run.manifest.jobs()))
    assert isinstance(run.place, remote.Store)
    run.place.write(victim, b"torn")
    assert generate.generate(run, Shard(), Options(), fakes.fake_load).made == 1
    generate.generate(local, Shard(), Options(), fakes.fake_load)
    for job in run.manifest.jobs():
        assert run.place.read(run.image(job)) == local.place.read(local.image(job))


def test_a_stored_log_is_put_in_time_and_in_pieces(
    memory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = remote.Store(memory)
    monkeypatch.setattr(remote, "_SECONDS", 0.0)
    monkeypatch.setattr(remote, "_LARGEST", 40)
    with place.log("done/1-of-1.jsonl") as log:
        for number in range(5):
            log.append({"number": number})
            told = b"".join(place.read(name) for name in place.logs("done/1-of-1.jsonl"))
            assert told.count(b"\n") == number + 1
    names = place.logs("done/1-of-1.jsonl")
    assert len(names) == 2
    numbers = [json.loads(line)["number"] for name in names for line in place.read(name).split()]
    assert numbers == list(range(5))


@pytest.mark.parametrize("kind", ["local", "memory"])
def test_places_agree(kind: str, tmp_path: Path, memory: str) -> None:
    place = places.at(tmp_path / "run" if kind == "local" else memory)
    assert place.names("") == place.folders("none") == place.logs("a/b.jsonl") == []
    assert place.sizes(["a/b"]) == [None]
    with pytest.raises(FileNotFoundError):
        place.read("a/b")
    with pytest.raises(FileNotFoundError):
        list(place.blocks("a/b"))
    place.write("a/b", b"one\ntwo\nthree")
    place.write("a/c/d", iter([b"1", b"2"]))
    assert place.create("a/e", b"first")
    assert not place.create("a/e", b"second")
    assert (place.read("a/e"), place.read("a/c/d")) == (b"first", b"12")
    assert (place.names("a"), place.folders("a")) == (["b", "e"], ["c"])
    assert place.sizes(["a/e", "a/x", "a/c/d"]) == [5, None, 2]
    assert b"".join(place.blocks("a/b")) == b"one\ntwo\nthree"
    assert place.line_at("a/b", 4).rstrip(b"\n") == b"two"
    assert place.line_at("a/b", 8) == b"three"


@pytest.mark.parametrize("form", ["{}", "file://{}", "file://localhost{}", "file:{}", "local://{}"])
def test_addresses_of_a_folder(form: str) -> None:
    assert places.at(form.format("/a/b%20c?d#e")).local == Path(
        "/a/b%20c?d#e" if form == "{}" else "/a/b c?d#e"
    )


def test_a_run_at_a_file_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "a run?"
    whole_run(f"file://{run}".replace(" ", "%20"), tmp_path, monkeypatch)
    assert list(Folder(run).problems()) == []
    made = {"fake.json", "a run?", "a run?-kept", "a run?-data"}
    assert {one.name for one in tmp_path.iterdir()} == made
    assert {one.name for one in (tmp_path / "a run?-data").iterdir()} == {
        "README.md", "results.json", "test",
    }  # fmt: skip


def test_what_is_read_from_a_file_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my suite.txt").write_text("a cat\na dog\n")
    address = f"file://{tmp_path}/my%20suite.txt"
    assert "2 prompts" in adhere("validate", address).output
    (tmp_path / "e.yaml").write_text(f"{{suites: ['lines:{address}'], model: fake}}")
    # A folder that is called as a bundled experiment is none.
    (tmp_path / "toybox-pairs").mkdir()
    assert "planned: 2" in adhere("plan", "one", "-c", f"file://{tmp_path}/e.yaml").output
    assert "planned: 2" in adhere("plan", "two", "-s", address, "--model", "fake").output
    assert adhere("plan", "three", "-c", "toybox-pairs", "--limit", 1).exit_code == 0


def test_what_is_read_from_a_store(tmp_path: Path, memory: str) -> None:
    suite = fakes.suite_file(tmp_path, 2)
    places.at(memory).write("e.yaml", f"{{suites: ['{suite}'], model: fake}}".encode())
    told = adhere("plan", f"{memory}/out", "-c", f"{memory}/e.yaml")
    assert "planned: 2" in told.output, told.output
    assert Folder(f"{memory}/out").manifest.header["experiment"]["name"] == "e"
    for words in (["plan", "x", "-s", f"{memory}/a.txt"], ["import", "x", f"a={memory}/made"],
                  ["plan", "x", "-s", f"lines:{memory}/a.txt"]):  # fmt: skip
        told = adhere(*words)
        assert told.exit_code == 2
        assert "copy them here first" in " ".join(told.output.split())
    assert "holds no run" in adhere("validate", f"{memory}/none").output


class _Broken(MemoryFileSystem):
    """A store whose library raises errors of its own."""

    protocol = "broken"
    allowed: ClassVar[list[str]] = []

    def _refuse(self, what: str) -> None:
        if what not in self.allowed:
            raise LookupError("no credentials\nand much more")

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> Any:
        self._refuse("ls")
        return super().ls(path, detail=detail, **kwargs)

    def cat_file(self, path: str, **kwargs: Any) -> Any:
        self._refuse("cat_file")
        return super().cat_file(path, **kwargs)

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any) -> Any:
        self._refuse("pipe_file")
        return super().pipe_file(path, value, mode=mode, **kwargs)


@pytest.mark.parametrize("allowed", [[], ["ls"], ["ls", "pipe_file"]])
def test_a_store_that_refuses_is_a_sentence(
    allowed: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "studio", fakes.fake_load)
    monkeypatch.setattr(_Broken, "allowed", allowed)
    fsspec.register_implementation("broken", _Broken, clobber=True)
    suite = fakes.suite_file(tmp_path, 1)
    told = adhere("run", "broken://bucket/run", "-s", suite, "--model", "fake", "-m", "cost")
    assert told.exit_code == 2, told.output
    words = " ".join(told.output.split())
    assert "no credentials. What was put there is kept" in words
    assert "broken://bucket/run" in words


def test_a_protocol_whose_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    from fsspec import core

    def missing(*_: Any, **__: Any) -> None:
        raise ImportError("Please install somefs")

    monkeypatch.setattr(core, "url_to_fs", missing)
    with pytest.raises(EvaluationError, match="gs://bucket: Please install somefs"):
        places.at("gs://bucket")
    with pytest.raises(ExtraMissing, match=r"adhere\[store\]"):
        places.at("s3://bucket")


def test_a_file_address_of_another_machine(tmp_path: Path) -> None:
    for path in ("file://host/run", "file://run", "file:///"):
        told = adhere("plan", path, "-s", fakes.suite_file(tmp_path, 1), "--model", "fake")
        assert told.exit_code == 2
        assert "three slashes" in " ".join(told.output.split())
    with pytest.raises(EvaluationError, match="names no file"):
        places.file("memory://bucket/")


@pytest.mark.parametrize("kind", ["local", "memory"])
def test_what_could_not_be_finished_is_not_there(kind: str, tmp_path: Path, memory: str) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"one"
        raise RuntimeError("the second piece")

    place = places.at(tmp_path / "run" if kind == "local" else memory)
    with pytest.raises(RuntimeError, match="second"):
        place.write("a/b", pieces())
    assert place.names("a") == []


def test_results_in_a_store_that_cannot_be_are_told_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "studio", fakes.fake_load)
    suite, out = fakes.suite_file(tmp_path, 1), tmp_path / "out"
    told = adhere("run", out, "-s", suite, "--model", "fake", "--keep", "nowhere://kept.json")
    assert told.exit_code == 2
    assert "Protocol not known" in told.output
    assert not out.exists()


def test_a_protocol_that_nobody_knows() -> None:
    with pytest.raises(Exception, match="Protocol not known: nowhere"):
        places.at("nowhere://bucket/run").names("")


def test_parquet_has_every_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    monkeypatch.setattr(models, "studio", fakes.fake_load)
    suite, out = fakes.suite_file(tmp_path, 4, extra=["a broken picture"]), tmp_path / "out"
    adhere("run", out, "-s", suite, "--model", "fake", "-m", "cost")
    assert adhere("report", out, "--parquet").exit_code == 0
    told = parquet.read_table(out / "pictures.parquet").to_pylist()
    listed = list(csv.DictReader(io.StringIO((out / "pictures.csv").read_text())))
    assert len(told) == len(listed) == 5
    assert [row["status"] for row in told].count("failed") == 1
    assert told[0]["seconds"] == float(listed[0]["seconds"])
    assert told[-1]["seconds"] is None
    assert listed[-1]["seconds"] == ""
    assert (out / told[0]["image"]).is_file()


def test_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from adhere.eval.report.listing import pictures

    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ExtraMissing, match=r"adhere\[parquet\]"):
        pictures.write_parquet(Folder(tmp_path), None)  # type: ignore[arg-type]
