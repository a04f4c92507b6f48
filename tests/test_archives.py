"""Fetching: through every fault of the way, the cache holds the verified file or nothing, and the error says why."""

import hashlib
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import published
import pytest
import torch
import trustme
from processes import HEARD, on_a_small_disk
from zenodo_server import RECORD, Zenodo, zenodo

from noisebook import archives
from noisebook.papers import regularity
from noisebook.weights import external

ID = "regularity-published-s1-decay-0.0"
FILE = "size_orig_128_scaling_1_weight_decay_0.0_n_epochs_40.pt"
CONTENT = bytes(range(256)) * 400
WHOLE = [".lock", "checksums.json", f"zenodo-{RECORD}/{FILE}"]
COMMAND = [sys.executable, "-c", "from noisebook.cli import main; main()", "weights"]
FETCH = [*COMMAND, "fetch", ID, "--retries", "1", "--pause", "0.05"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Zenodo:
    """The server of all tests."""
    with zenodo(tmp_path_factory.mktemp("server")) as served:
        yield served


@pytest.fixture
def there(server: Zenodo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Zenodo:
    """The server with the one file, and this process set to fetch from it into an empty cache."""
    server.__init__({FILE: CONTENT}, address=server.address, authority=server.authority)  # type: ignore[misc]
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    for name, value in server.environment(tmp_path / "cache").items():
        monkeypatch.setenv(name, value)
    return server


def tree(folder: Path) -> list[str]:
    """Every file, link and empty folder below ``folder``."""
    return sorted(
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_symlink() or not path.is_dir() or not any(path.iterdir())
    )


def fetch(**more: object) -> subprocess.CompletedProcess[str]:
    """What the command says, and how it ends."""
    return subprocess.run(FETCH, capture_output=True, text=True, check=False, **more)  # type: ignore[call-overload]


def assert_whole(folder: Path) -> None:
    """The cache holds the verified file, its pin, the lock, and nothing else, nor does anything lie beside it."""
    assert tree(folder) == [f"cache/fetched/{name}" for name in WHOLE]
    assert archives.verified(ID)[0].read_bytes() == CONTENT


def assert_refused(folder: Path, message: str) -> None:
    """The command refuses in one line that matches, and no file is anywhere."""
    refused = fetch()
    assert refused.returncode == 2
    assert re.search(message, refused.stderr), refused.stderr
    assert refused.stderr.count("\n") == 1
    assert tree(folder) == ["cache/fetched/.lock"]


def test_a_whole_fetch_is_verified_and_pinned_and_not_repeated(there: Zenodo, tmp_path: Path) -> None:
    """The file comes through the proxy under a verified certificate, its sha256 is shown; a second call asks nobody."""
    first = fetch()
    assert first.returncode == 0, first.stderr
    assert f"pinned at first use, sha256 {hashlib.sha256(CONTENT).hexdigest()}" in first.stderr
    assert_whole(tmp_path)
    asked = len(there.requests)
    assert fetch().stdout == first.stdout
    assert len(there.requests) == asked


def test_the_authors_files_are_asked_for_by_their_names() -> None:
    """The six networks of Zenodo's record, as its files are called."""
    decays = {1: ("0.0", "0.001", "0.01", "0.1"), 2: ("0.00025",), 3: ("0.00011111111111111112",)}
    wanted = {f"size_orig_128_scaling_{s}_weight_decay_{d}_n_epochs_40.pt" for s, ds in decays.items() for d in ds}
    entries = [entry for entry in external() if entry.chapter == "regularity"]
    assert {entry.file for entry in entries} == wanted
    assert {entry.record for entry in entries} == {RECORD}


def test_a_file_of_plain_torch_is_fetched_and_becomes_the_network(there: Zenodo, tmp_path: Path) -> None:
    """A state dict of the published names and shapes, saved by torch, served, fetched, and loaded to the last bit."""
    state = published.regularity(1)
    torch.save(state, tmp_path / FILE)
    there.files[FILE] = (tmp_path / FILE).read_bytes()
    done = fetch()
    assert done.returncode == 0, done.stderr
    net = regularity.experiment.published("regularity-s1-decay-0")
    torch.testing.assert_close(dict(net.state_dict()), state, rtol=0, atol=0)


def test_the_growing_file_is_shown(there: Zenodo, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With progress asked for, name and bytes stand on standard error while the file comes; without, nothing does."""
    there.at = lambda fraction: time.sleep(0.06)
    archives.fetch(ID)
    assert capsys.readouterr() == ("", "")
    archives.clean([ID])
    archives.fetch(ID, progress=True)
    shown = capsys.readouterr().err
    assert FILE in shown
    assert re.search(r"[1-9][0-9.]*k?B?/102k", shown)
    assert_whole(tmp_path)


def test_an_unknown_authority_is_refused(there: Zenodo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TLS is verified: without the test authority nothing is fetched."""
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "other.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "other.pem"))
    assert "CERTIFICATE_VERIFY_FAILED" in fetch().stderr
    assert there.requests == []


def test_refusals_are_repeated_after_the_time_that_the_server_asks_for(there: Zenodo, tmp_path: Path) -> None:
    """429 with Retry-After is repeated not before that time, 503 after the pause; then the file comes whole."""
    there.refusals = [(429, {"Retry-After": "1"}), (503, {})]
    archives.fetch(ID, retries=2, pause_s=0.01)
    times = [moment for moment, _ in there.requests]
    assert times[1] - times[0] >= 1
    assert times[2] - times[1] < 0.9
    assert_whole(tmp_path)


def test_refusals_of_the_file_are_repeated(there: Zenodo, tmp_path: Path) -> None:
    """429 and 503 in answer to the file itself are repeated too."""
    asked = iter([None, lambda: there.refusals.extend([(429, {}), (503, {})])])

    def refuse_after_the_second_record(fraction: float) -> None:
        if fraction < 0 and (now := next(asked)):
            now()

    there.at = refuse_after_the_second_record
    archives.fetch(ID, retries=2, pause_s=0.01)
    assert_whole(tmp_path)
    assert sum("content" in path for _, path in there.requests) == 3


@pytest.mark.parametrize("status", [429, 503])
def test_a_server_that_always_refuses_is_given_up(there: Zenodo, tmp_path: Path, status: int) -> None:
    """After the last repetition the status is told."""
    there.refusals = [(status, {})] * 20
    assert_refused(tmp_path, f"Zenodo record {RECORD}: expected an answer .*{status}.*run the command again")
    assert len(there.requests) == 2


@pytest.mark.parametrize("fraction", [0.01, 0.5, 0.99])
def test_a_connection_that_is_cut(there: Zenodo, tmp_path: Path, fraction: float) -> None:
    """A file that always ends early is refused; cut once, it is fetched again from its start and comes whole."""
    there.cut = fraction
    assert_refused(tmp_path, rf"{FILE}: expected an answer .* got Download error .*peer closed connection")
    there.at = lambda sent: setattr(there, "cut", None) if sent == 1 else None
    archives.fetch(ID, retries=1, pause_s=0.01)
    assert_whole(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"replies": {FILE: CONTENT[::-1]}}, "Checksum is INCORRECT"),
        ({"replies": {FILE: b"<!DOCTYPE html><title>Sign in</title>"}}, "Checksum is INCORRECT"),
        ({"replies": {FILE: CONTENT + b"more"}}, "Checksum is INCORRECT"),
        ({"replies": {FILE: None}}, "404 Not Found"),
        ({"listed": {FILE: {"checksum": "md5:" + "0" * 32}}}, "Expected: 00000000"),
        ({"listed": {FILE: {"checksum": "sha512:" + "0" * 128}}}, "expected an md5 and a plain name for each file"),
        ({"files": {}}, f"Zenodo record {RECORD}: expected at least one file, got an empty record"),
        ({"files": {"other.pt": b"1"}}, "expected a file of this record, got 1 of other names"),
        ({"files": {"../../evil": b"1", FILE: CONTENT}}, r"got '[0-9a-f]{32}  \.\./\.\./evil'. Nothing was fetched"),
        ({"files": {"/evil": b"1", FILE: CONTENT}}, "Nothing was fetched"),
        ({"html": True}, "no JSON"),
    ],
)
def test_what_the_archive_may_give_instead(
    there: Zenodo, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    """Wrong bytes, HTML, a missing file, a wrong md5, an empty record, a key that leads out: refused, nothing kept."""
    for name, value in change.items():
        setattr(there, name, value)
    assert_refused(tmp_path, message)


def test_other_bytes_than_the_first_fetch_are_refused(there: Zenodo, tmp_path: Path) -> None:
    """The pin outlives ``clean``: a record that changed its file and md5 is refused, the old bytes are taken."""
    archives.fetch(ID)
    assert [path.name for path in archives.clean([ID])] == [FILE]
    assert tree(tmp_path / "cache" / "fetched") == WHOLE[:2]
    for other, found in ((CONTENT[::-1], "md5"), (CONTENT + b"1", f"{len(CONTENT) + 1} bytes")):
        there.files = {FILE: other}
        with pytest.raises(
            ValueError, match=rf"{FILE}: expected the bytes of .* the first fetch, got {found} .*instead"
        ):
            archives.fetch(ID)
        assert tree(tmp_path / "cache" / "fetched") == WHOLE[:2]
    there.files = {FILE: CONTENT}
    archives.fetch(ID)
    assert_whole(tmp_path)


def test_a_damaged_file_is_told_and_fetched_again(there: Zenodo, tmp_path: Path) -> None:
    """``verify`` names the file and both checksums and ends with 1; ``fetch`` replaces it."""
    path = archives.fetch(ID)
    path.write_bytes(CONTENT[::-1])
    shown = subprocess.run([*COMMAND, "verify", ID], capture_output=True, text=True, check=False)
    assert shown.returncode == 1
    assert re.search(rf"{FILE}: expected sha256 \w+, got \w+\. Run: noisebook weights fetch", shown.stderr)
    with pytest.raises(ValueError, match="expected sha256"):
        archives.verified(ID)
    assert "fetched again" in fetch().stderr
    assert_whole(tmp_path)


def test_the_checksum_of_the_registry_rules(there: Zenodo, tmp_path: Path) -> None:
    """Where the registry knows a sha256, other bytes are refused, and the right ones are not pinned."""
    data = tmp_path / "data"
    data.mkdir()
    text = (Path(__file__).parents[1] / "data" / "registry.yaml").read_text()
    entry = text.index(f"- id: {ID}\n")
    for sha256, size in (("f" * 64, "null"), (hashlib.sha256(CONTENT).hexdigest(), str(len(CONTENT)))):
        changed = text[entry:].replace("sha256: null", f"sha256: {sha256}", 1).replace("size: null", f"size: {size}", 1)
        (data / "registry.yaml").write_text(text[:entry] + changed)
        if sha256.startswith("fff"):
            with pytest.raises(ValueError, match=rf"sha256 \w+ instead of {sha256}"):
                archives.fetch(ID, data=data)
    archives.fetch(ID, data=data)
    assert tree(tmp_path / "cache" / "fetched") == [".lock", WHOLE[2]]
    assert archives.verified(ID, data)[1] == sha256


def test_pins_that_cannot_be_read_are_told(there: Zenodo, tmp_path: Path) -> None:
    """A damaged list of checksums is an error that names it, and is not written over."""
    pins = tmp_path / "cache" / "fetched" / "checksums.json"
    pins.parent.mkdir(parents=True)
    for content in ("{", "[]", '{"a": {"b": 1}}'):
        pins.write_text(content)
        with pytest.raises(ValueError, match=r"checksums\.json: expected pinned checksums, got .*Remove it"):
            archives.fetch(ID)
        assert pins.read_text() == content


def test_two_processes_on_one_file(there: Zenodo, tmp_path: Path) -> None:
    """The second waits for the first and finds its file: it is transferred once."""
    there.at = lambda fraction: time.sleep(0.03)
    both = [subprocess.Popen(FETCH, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert said[0][0] == said[1][0]
    assert sum("waiting for it" in err for _, err in said) == 1
    assert sum("content" in path for _, path in there.requests) == 1
    assert_whole(tmp_path)


MOMENTS = (-1.0, 0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 0.9, 1.0)


def interrupt(there: Zenodo, moment: float, sent: signal.Signals) -> int:
    """Start the command, send it a signal at a moment of the transfer, and say how it ended."""
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(FETCH, start_new_session=True, preexec_fn=HEARD, **quiet)
    there.at = lambda fraction: process.send_signal(sent) or time.sleep(0.1) if fraction == moment else None
    return process.wait(timeout=60)


def test_kill_at_ten_moments(there: Zenodo, tmp_path: Path) -> None:
    """Killed with -9 at ten moments, a fetch leaves no file under its name, and no process; the next one completes.

    What it may leave is a private folder, where zenodo-get ended in the very moment; the next fetch removes it.
    """
    for moment in MOMENTS:
        assert interrupt(there, moment, signal.SIGKILL) == -signal.SIGKILL
        deadline = time.monotonic() + 5
        while (left := tree(tmp_path)) != ["cache/fetched/.lock"] and time.monotonic() < deadline:
            time.sleep(0.02)  # zenodo-get ends when it sees that its parent has
        assert moment > 0.8 or left == ["cache/fetched/.lock"], moment
        assert {name.split("/")[2][:7] for name in left} <= {".lock", ".fetch-"}
        there.at = lambda fraction: None
    assert fetch().returncode == 0
    assert_whole(tmp_path)


def test_ctrl_c_cleans_up_at_once(there: Zenodo, tmp_path: Path) -> None:
    """Interrupted in the middle, the command ends without success and nothing is left."""
    assert interrupt(there, 0.5, signal.SIGINT) != 0
    assert tree(tmp_path) == ["cache/fetched/.lock"]


def test_what_a_dead_process_left_is_removed(there: Zenodo, tmp_path: Path) -> None:
    """A private folder that outlived its process, as after a power cut, is gone after the next fetch."""
    left = tmp_path / "cache" / "fetched" / ".fetch-old"
    left.mkdir(parents=True)
    (left / FILE).write_bytes(b"half")
    archives.fetch(ID)
    assert_whole(tmp_path)


def test_a_limit_on_file_size_is_told(there: Zenodo, tmp_path: Path) -> None:
    """Where the file cannot be written to its end, the system's reason is told and nothing is left."""
    limited = fetch(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)))
    assert limited.returncode == 2
    assert "File too large" in limited.stderr
    assert tree(tmp_path) == ["cache/fetched/.lock"]


@pytest.mark.parametrize(
    ("options", "reason"), [("size=64k", "No space left on device"), ("ro,size=64k", "Read-only file system")]
)
def test_a_full_and_a_read_only_disk_are_told(there: Zenodo, tmp_path: Path, options: str, reason: str) -> None:
    """On a small file system that is full, or read-only, the reason is told, with the remedy, and nothing is left."""
    (tmp_path / "cache").mkdir()
    shown = on_a_small_disk(tmp_path / "cache", options, FETCH)
    assert re.search(rf"expected .*{reason}", shown.stderr), shown.stderr
    left = [f"{tmp_path}/cache/fetched/.lock"] if "ro" not in options else []
    assert shown.stdout.splitlines() == ["status 2", *left]


def test_a_cache_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file where the cache should be is refused with the variable that names another place."""
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("NOISEBOOK_CACHE", str(tmp_path / "file"))
    with pytest.raises(ValueError, match=r"expected a folder that can be written.*NOISEBOOK_CACHE"):
        archives.fetch(ID)


def test_the_token_is_sent_and_never_shown(there: Zenodo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The token reaches the archive, and stands in no list of processes, no message and no file."""
    monkeypatch.setenv("ZENODO_ACCESS_TOKEN", "s3cret")
    commands: list[bytes] = []

    def note_processes(fraction: float) -> None:
        for process in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                commands.append(process.read_bytes())

    there.at = note_processes
    there.replies = {FILE: None}
    refused = fetch()
    assert "access_token=<token>" in refused.stderr
    assert "s3cret" not in refused.stdout + refused.stderr
    assert all("access_token=s3cret" in path for _, path in there.requests)
    there.replies = {}
    assert "s3cret" not in fetch().stderr
    assert any(b"zenodo" in command or b"_program" in command for command in commands) or not Path("/proc/1").exists()
    assert not any(b"s3cret" in command for command in commands)
    assert not any(b"s3cret" in p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())


def test_names_that_lead_out_of_the_cache_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry with a path for a file, or a word for a record, is refused before anything is asked for."""
    monkeypatch.setenv("NOISEBOOK_CACHE", str(tmp_path / "cache"))
    text = (Path(__file__).parents[1] / "data" / "registry.yaml").read_text()
    for old, new in ((FILE, "../../evil"), (FILE, "/evil"), ("'7784039'", "../7784039")):
        (tmp_path / "registry.yaml").write_text(text.replace(old, new))
        with pytest.raises(ValueError, match=rf"{ID}: expected a record that is a number and a file that is a plain"):
            archives.fetch(ID, data=tmp_path)
    assert tree(tmp_path) == ["registry.yaml"]


def test_the_command_takes_ids_and_chapters(there: Zenodo, tmp_path: Path) -> None:
    """Unknown names are refused with the nearest; list, verify and clean tell what is here."""
    run = lambda *words: subprocess.run([*COMMAND, *words], capture_output=True, text=True, check=False)  # noqa: E731
    assert "Did you mean 'regularity'" in run("fetch", "regularty").stderr
    assert f"{ID}: not fetched" in run("verify").stdout
    assert run("verify", ID).returncode == 1
    archives.fetch(ID)
    assert f"{ID}: fetched" in run("list").stdout
    assert f"{ID}: verified" in run("verify").stdout
    assert run("clean", "regularity").stdout == f"removed {tmp_path}/cache/fetched/{WHOLE[2]}\n"
    assert json.loads((tmp_path / "cache" / "fetched" / "checksums.json").read_text()).keys() == {WHOLE[2]}
