import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from tests.support import close_hub_session

from fourfold.compat.files import ORIGINAL_TRANSFORMER_MODELS, append_to_last_row, http_get


class Answers(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/file")
            self.end_headers()
            return
        self.send_response(200 if self.path in ("/file", "/cut") else 404)
        self.send_header("Content-Length", "9" if self.path == "/cut" else "5")
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def address():
    server = HTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def _local_server_is_no_network(monkeypatch):
    # The hub's client refuses every request while HF_HUB_OFFLINE is set, as the suite does.
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    close_hub_session()
    yield
    close_hub_session()


def test_a_file_is_fetched_through_redirects(address, tmp_path):
    http_get(f"{address}/moved", str(tmp_path / "new" / "file.txt"))
    assert (tmp_path / "new" / "file.txt").read_text() == "hello"
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["file.txt"]


@pytest.mark.parametrize("path", ["absent", "cut"])
def test_a_failed_download_leaves_nothing(address, tmp_path, path):
    with pytest.raises(Exception, match=r"404|peer closed|incomplete"):
        http_get(f"{address}/{path}", str(tmp_path / "file.txt"))
    assert list(tmp_path.iterdir()) == []


def test_cells_join_the_last_row(tmp_path):
    table = tmp_path / "table.csv"
    table.write_text('a,b\n1,"x, y"\n\n')
    assert append_to_last_row(str(table), [3, "z"])
    assert table.read_bytes() == b'a,b\r\n1,"x, y",3,z\r\n'
    table.write_text("a,b\n")
    assert not append_to_last_row(str(table), [3])
    assert table.read_text() == "a,b\n"


def test_old_names_are_listed():
    assert "bert-base-uncased" in ORIGINAL_TRANSFORMER_MODELS
    assert len(ORIGINAL_TRANSFORMER_MODELS) == 68
