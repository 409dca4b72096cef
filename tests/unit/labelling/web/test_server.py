"""The page on a real socket: links, files, refusals, clients that are slow or silent, and a quick end."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import logging
import resource
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.base.errors import ConfigError
from pipeline.labelling.log.log import Log
from pipeline.labelling.settings import LabelSection
from pipeline.labelling.web import connections
from pipeline.labelling.web import server as module
from pipeline.labelling.web.request_checks import Rate
from pipeline.labelling.web.server import Server, is_loopback, own_names, read_consent, read_text
from tests.unit.labelling.helpers import open_log, pairs

PATIENCE = 9
"""Seconds: of a busy machine too, and less than the ten for which a connection that says nothing may stay."""


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    log = open_log(tmp_path / "labels", pairs(5), whole=True)
    yield log
    log.close()


def serve(log: Log, publish: Any = None, **settings: Any) -> Server:
    return Server(log, LabelSection(**{"port": 0, **settings}), "reviews", publish)


def get(server: Server, path: str, **headers: str) -> tuple[int, dict[str, str], str]:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)) as connection:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read().decode()


def raw(server: Server, *pieces: bytes) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)
    for piece in pieces:
        sock.sendall(piece)
    return sock


def joined(server: Server, place: int = 1) -> tuple[str, dict[str, str]]:
    """(the page's path, headers with its cookie) of a link."""
    status, headers, _ = get(server, server.links()[place][1].removeprefix(server.url))
    assert status == 303
    cookie = headers["set-cookie"].partition(";")[0]
    return headers["location"], {"Cookie": cookie, "Origin": server.url}


def test_links_lead_to_the_pages(log):
    log.people.add("one")
    gone = log.people.add("gone")
    log.people.withdraw(gone.id)
    with serve(log) as server:
        assert [name for name, _ in server.links()] == ["operator", "one"]
        assert server.url == f"http://127.0.0.1:{server.port}"
        for place, word in ((0, "Progress"), (1, "reviews")):
            path, headers = joined(server, place)
            status, sent, text = get(server, path, **headers)
            assert (status, word in text) == (200, True)
            assert sent["x-content-type-options"] == "nosniff"
            assert "server" not in sent
        assert get(server, "/", Host="evil.example")[0] == 421
        assert get(server, "/", Host="localhost:9000")[0] == 200


def test_the_title_is_the_project_unless_set(log):
    log.people.add("one")
    for settings, title in (({}, "reviews"), ({"title": "Mine"}, "Mine")):
        with serve(log, **settings) as server:
            path, headers = joined(server)
            assert json.loads(get(server, f"{path}api/state", **headers)[2])["title"] == title


def test_a_taken_port_is_one_clear_line(log):
    with serve(log) as server, pytest.raises(ConfigError, match="another program listens there") as error:
        serve(log, port=server.port).__enter__()
    assert f"label.port = {server.port}" in str(error.value)


@pytest.mark.parametrize("host", ["", "no.such.host.invalid", "192.0.2.1", "a" * 70, "x..y"])
def test_an_address_that_is_not_ours_is_one_clear_line(log, host):
    with pytest.raises(ConfigError, match="is not an address"):
        serve(log, host=host).__enter__()


def test_the_port_is_free_again_at_once(log):
    with serve(log) as server:
        port = server.port
        # Whoever closes first keeps the port for a minute: here that is the server.
        idle = http.client.HTTPConnection("127.0.0.1", port)
        idle.request("GET", "/")
        idle.getresponse().read()
    idle.close()
    with serve(log, port=port) as server:
        assert get(server, "/")[0] == 200


def test_files_that_cannot_be_read(tmp_path):
    file = tmp_path / "text.txt"
    with pytest.raises(ConfigError, match=r"label.guidelines: .*No such file"):
        read_text(str(file), "label.guidelines")
    with pytest.raises(ConfigError, match="Is a directory"):
        read_text(str(tmp_path), "label.guidelines")
    for content, told in ((b"\xff\xfe", "is not UTF-8"), (b" \n", "is empty"), (b"x" * (2**20 + 1), "1,048,577")):
        file.write_bytes(content)
        with pytest.raises(ConfigError, match=told):
            read_text(str(file), "label.guidelines")
    file.write_bytes("\ufeffBe fair – ü\r\n".encode())
    assert read_text(str(file), "label.guidelines") == "Be fair – ü\r\n"


def test_nothing_listens_where_a_file_is_missing(log):
    server = serve(log, consent="/nowhere/consent.txt")
    with pytest.raises(ConfigError, match="label\\.consent"):
        server.__enter__()
    assert server._socket is None


def test_the_consent_text_is_named_and_hashed(tmp_path):
    file = tmp_path / "consent-v3.txt"
    file.write_text("I agree – ü", encoding="utf-8")
    consent = read_consent(str(file))
    assert (consent.text, consent.version) == ("I agree – ü", "consent-v3")
    assert consent.sha256 == hashlib.sha256("I agree – ü".encode()).hexdigest()
    assert read_consent(None).version == "default"
    assert "skip" in read_consent(None).text


def test_another_address_is_warned_of(log, capsys):
    with serve(log) as server:
        assert "reachable" not in capsys.readouterr().out
    with serve(log, host="0.0.0.0") as server:
        assert server.url == f"http://127.0.0.1:{server.port}"
        assert get(server, "/", Host="10.1.2.3:8765")[0] == 200
        assert get(server, "/", Host="evil.example")[0] == 421
        assert get(server, "/operator/")[0] == 403
    assert "reachable from other machines" in capsys.readouterr().out


PUBLIC = "https://annotate.example.org"


def test_a_proxy_in_front(log, capsys):
    """As nginx passes requests on: plain, with the public Host, or with this page's own."""
    log.people.add("one")
    with serve(log, public_url=f"{PUBLIC}/") as server:
        assert server.url == PUBLIC
        assert all(link.startswith(f"{PUBLIC}/join/") for _, link in server.links())
        for host, told in (("annotate.example.org", {}), ("127.0.0.1", {"X-Forwarded-Proto": "https"})):
            for place, action in ((0, "/operator/annotators"), (1, "api/consent")):
                link = server.links()[place][1].removeprefix(PUBLIC)
                status, sent, _ = get(server, link, Host=host, **told)
                assert (status, sent["location"][0]) == (303, "/")
                assert "; secure" in sent["set-cookie"].lower()
                cookie = sent["set-cookie"].partition(";")[0]
                status, _, text = get(server, sent["location"], Host=host, Cookie=cookie)
                assert status == 200
                if place == 0:
                    assert f"{PUBLIC}/join/" in text
                    assert f"http://{host}" not in text
                    for origin, expected in ((PUBLIC, 303), ("http://annotate.example.org", 403), ("null", 403)):
                        headers = {"Host": host, "Cookie": cookie, "Origin": origin}
                        assert post(server, action, "name=two", **headers) == expected, (host, origin)
        # And as before on this machine itself, where no cookie is for HTTPS alone.
        _, sent, _ = get(server, server.links()[0][1].removeprefix(PUBLIC))
        assert "secure" not in sent["set-cookie"].lower()
        own = {"Cookie": sent["set-cookie"].partition(";")[0], "Origin": server.local_url}
        assert post(server, "/operator/annotators", "name=three", **own) == 303
        assert get(server, "/", Host="evil.example")[0] == 421
        assert get(server, "/", Host="annotate.example.org:8765")[0] == 421
    assert capsys.readouterr().out == ""


def post(server: Server, path: str, form: str, **headers: str) -> int:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)) as connection:
        media = {"Content-Type": "application/x-www-form-urlencoded"}
        connection.request("POST", path, form, {**media, **headers})
        return connection.getresponse().status


def test_a_proxy_is_not_believed_without_a_public_address(log):
    with serve(log) as server:
        told = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "evil.example"}
        _, sent, _ = get(server, server.links()[0][1].removeprefix(server.url), **told)
        cookie = sent["set-cookie"].partition(";")[0]
        for origin, expected in ((f"https://127.0.0.1:{server.port}", 403), (server.url, 303)):
            headers = {"Cookie": cookie, "Origin": origin, **told}
            assert post(server, "/operator/annotators", "name=two", **headers) == expected


def test_a_public_address_that_is_not_encrypted_is_warned_of(log, capsys):
    with serve(log, public_url="http://annotate.example.org:8080") as server:
        assert server.url == "http://annotate.example.org:8080"
        assert get(server, "/", Host="annotate.example.org:8080")[0] == 200
    assert "annotate.example.org:8080 is not https" in capsys.readouterr().out


def test_which_addresses_are_this_machine_alone():
    assert [is_loopback(h) for h in ("127.0.0.1", "::1", "localhost", "127.9.9.9")] == [True] * 4
    assert [is_loopback(h) for h in ("0.0.0.0", "::", "10.0.0.1", "box", "")] == [False] * 5
    assert socket.gethostname() not in own_names("127.0.0.1")
    assert socket.gethostname() in own_names("0.0.0.0")


def test_slow_clients_hold_nobody_up(log, monkeypatch):
    monkeypatch.setattr(Rate, "check", lambda *_: None)  # which refuses most of them at once
    log.people.add("one")
    with serve(log) as server:
        path, headers = joined(server)
        head = f"POST {path}api/events HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in headers.items()) + "Content-Length: 100\r\n\r\n{"
        head = head.replace(server.url, "http://127.0.0.1")
        # More than there are worker threads (40): reading happens on none of them.
        slow = [raw(server, head.encode()) for _ in range(45)]
        slow += [raw(server, b"GET / HTTP/1.1\r\nHost: 127") for _ in range(5)]
        assert get(server, f"{path}api/next", **headers)[0] == 200
        for sock in slow:
            # None was answered or given up before, which would have made room.
            sock.setblocking(False)
            with pytest.raises(BlockingIOError):
                sock.recv(1)
            sock.close()


def test_a_silent_connection_is_ended(log, monkeypatch):
    monkeypatch.setattr(connections, "HEADERS_SECONDS", 0.1)
    with serve(log) as server:
        for pieces in ((), (b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n",)):
            with raw(server, *pieces) as sock:
                assert sock.recv(100) == b""


def gone(sock: socket.socket) -> bool:
    """Whether the other side ends this connection soon."""
    sock.settimeout(PATIENCE)
    try:
        while sock.recv(65536):
            pass
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False
    return True


def test_idle_connections_make_room_for_others(log, monkeypatch):
    """Seen failing with uvicorn's own limit alone: 503 until the idle ones time out."""
    monkeypatch.setattr(connections, "MOST_CONNECTIONS", 20)
    monkeypatch.setattr(connections, "BACKLOG", 64)
    answered = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    with serve(log) as server, contextlib.ExitStack() as stack:
        idle: list[socket.socket] = []
        for _ in range(20):
            idle += [stack.enter_context(raw(server, *pieces)) for pieces in ((), (b"GET / HT",), (answered,))]
            idle[-1].recv(1, socket.MSG_PEEK)  # it is idle again, before the next one comes
        for _ in range(5):
            assert get(server, "/")[0] == 200
        assert all(map(gone, idle[:30])), "those that were idle for longest went first"
        last = idle[-1]
        last.settimeout(PATIENCE)
        assert last.recv(20).startswith(b"HTTP/1.1 200"), "and the newest stayed"


@pytest.mark.slow
def test_those_that_send_a_body_make_room_when_none_is_idle(log, monkeypatch):
    monkeypatch.setattr(connections, "MOST_CONNECTIONS", 16)
    monkeypatch.setattr(connections, "BACKLOG", 2)
    log.people.add("one")
    with serve(log) as server, contextlib.ExitStack() as stack:
        path, headers = joined(server)
        head = f"POST {path}api/events HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
        head += "Content-Type: application/json\r\n" + "".join(f"{n}: {v}\r\n" for n, v in headers.items())
        for _ in range(40):
            stack.enter_context(raw(server, f"{head}Content-Length: 100\r\n\r\n{{".encode()))
        assert get(server, "/")[0] == 200


def test_a_byte_now_and_then_holds_no_connection(log, monkeypatch):
    """Seen failing with uvicorn's own timer, which the first byte after an answer stops for good."""
    monkeypatch.setattr(connections, "HEADERS_SECONDS", 0.1)
    with serve(log) as server:
        # A body that nobody asked for, and the beginning of another request.
        for more in (b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\nx", b"GET / HT"):
            with raw(server, b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n") as sock:
                sock.settimeout(PATIENCE)
                assert sock.recv(20).startswith(b"HTTP/1.1 200")
                sock.sendall(more)
                assert gone(sock)


def test_answers_that_nobody_takes_hold_no_connection(log, monkeypatch):
    monkeypatch.setattr(connections, "STALLED_SECONDS", 0.1)
    request = b"GET /static/annotate.js HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    with serve(log) as server, socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        assert server._socket is not None
        server._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        sock.connect(("127.0.0.1", server.port))
        sock.settimeout(PATIENCE)
        sock.sendall(request)
        assert sock.recv(20).startswith(b"HTTP/1.1 200")
        there = server._server.server_state.connections
        assert len(there) == 1
        sock.sendall(request * 100)
        until = time.monotonic() + 10
        while there and time.monotonic() < until:
            time.sleep(0.01)
        assert not there


def test_as_many_connections_as_there_may_be_files(monkeypatch):
    for soft, most in ((1024, 512), (256, 128), (20, 16), (resource.RLIM_INFINITY, 512)):
        monkeypatch.setattr(resource, "getrlimit", lambda kind, soft=soft: (soft, soft))
        assert connections.most_connections() == most


def test_a_body_without_a_length_is_refused_on_the_way(log):
    log.people.add("one")
    with serve(log) as server:
        path, headers = joined(server)
        head = f"POST {path}api/events HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nTransfer-Encoding: chunked\r\n"
        head += "Content-Type: application/json\r\n" + "".join(f"{n}: {v}\r\n" for n, v in headers.items())
        with raw(server, head.encode() + b"\r\n") as sock:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                for _ in range(300):
                    sock.sendall(b"400\r\n" + b" " * 1024 + b"\r\n")
            assert sock.recv(20).startswith(b"HTTP/1.1 413")


def test_what_is_not_http_says_nothing_on_the_terminal(log, capfd, caplog):
    with serve(log) as server:
        for garbage in (b"\x16\x03\x01\x02\x00\x01", b"secret\r\n\r\n", b"GET /secret HTTP/1.1\r\n\r\n"):
            with raw(server, garbage + b"\r\n\r\n") as sock:
                assert sock.recv(20).startswith(b"HTTP/1.1 4")
    assert capfd.readouterr() == ("", "")
    assert not caplog.records
    assert not logging.getLogger("uvicorn").handlers, "the logging of the process is not ours to change"


def test_waiting_ends_when_it_is_enough(log, monkeypatch):
    monkeypatch.setattr(module, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(module, "LINGER_SECONDS", 0.01)
    asked = []
    with serve(log) as server:
        server.wait(lambda: asked.append(1) or len(asked) == 3)
        assert len(asked) == 3
        assert get(server, "/")[0] == 200, "still there until the block ends"
    with pytest.raises(OSError, match="refused"):
        raw(server)


def test_a_server_that_died_is_a_bug(log, monkeypatch):
    monkeypatch.setattr(module, "POLL_SECONDS", 0.01)
    with serve(log) as server:
        server._server.should_exit = True
        with pytest.raises(RuntimeError, match="ended by itself"):
            server.wait(lambda: False)


def test_it_ends_soon_whatever_is_open(log, capfd, monkeypatch):
    monkeypatch.setattr(connections, "HEADERS_SECONDS", 60)
    log.people.add("one")
    begun, go = threading.Event(), threading.Event()

    def publish() -> str:
        begun.set()
        go.wait(60)
        return ""

    with serve(log, publish) as server:
        _, headers = joined(server, 0)
        idle = http.client.HTTPConnection("127.0.0.1", server.port)
        idle.request("GET", "/")
        idle.getresponse().read()
        head = "POST /operator/publish HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        form = "Content-Type: application/x-www-form-urlencoded\r\n"
        cookie = f"Cookie: {headers['Cookie']}\r\nOrigin: http://127.0.0.1\r\n"
        working = raw(server, (head + form + cookie + "Content-Length: 0\r\n\r\n").encode())
        half = raw(server, (head + form + cookie + "Content-Length: 9\r\n\r\nx").encode())
        silent = raw(server, b"GET / HT")
        assert begun.wait(30)
        started = time.monotonic()
    # Two seconds where nothing else runs.
    assert time.monotonic() - started < PATIENCE
    go.set()
    for sock in (idle, working, half, silent):
        sock.close()
    assert capfd.readouterr().err == ""


def test_the_server_is_gone_when_the_block_ends(log):
    with serve(log) as server:
        idle = http.client.HTTPConnection("127.0.0.1", server.port)
        idle.request("GET", "/")
        idle.getresponse().read()
        cookie = joined(server, 0)[1]["Cookie"]
        half = f"POST /operator/publish HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: {cookie}\r\n"
        half += "Origin: http://127.0.0.1\r\nContent-Length: 9\r\n"
        half += "Content-Type: application/x-www-form-urlencoded\r\n\r\nx"
        open_ones = [idle, raw(server, half.encode()), raw(server, b"GET / HT"), raw(server)]
    assert server._thread is not None
    assert not server._thread.is_alive()
    for sock in open_ones:
        sock.close()


def test_ctrl_c_ends_it(tmp_path):
    script = """
        import signal, sys
        from pathlib import Path
        from pipeline.labelling.log.log import Log
        from pipeline.labelling.web.server import Server
        from pipeline.labelling.settings import LabelSection
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a test run in the background ignores it
        log = Log(Path(sys.argv[1]))
        try:
            with Server(log, LabelSection(port=0), "p", None) as server:
                print(server.port, flush=True)
                server.wait(lambda: False)
        except KeyboardInterrupt:
            print("ended", flush=True)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path / "labels")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE):
            started = time.monotonic()
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        assert time.monotonic() - started < PATIENCE
    assert (out, err, process.returncode) == ("ended\n", "", 0)
