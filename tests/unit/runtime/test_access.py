"""What a command shows a server that somebody else runs."""

import pytest

from ccm_runtime.commands.access import Access
from ccm_runtime.errors import ConfigError

TOKEN = "a-token-of-some-length"  # noqa: S105 (nobody's)


def test_the_token_is_the_one_line_of_its_file(tmp_path):
    (tmp_path / "token").write_text(f"\n {TOKEN}\r\n\n")
    assert TOKEN == Access(tmp_path / "token").token()
    assert Access().token() is None


@pytest.mark.parametrize(
    ("content", "got"),
    [
        (f"arm:{TOKEN}\nleg:{TOKEN}\n".encode(), "2 lines"),
        (b"", "0 lines"),
        (b"\n", "0 lines"),
        (b"\xff\x00", "other characters"),
    ],
)
def test_a_file_of_something_else_than_one_token_is_named(tmp_path, content, got):
    (tmp_path / "tokens").write_bytes(content)
    with pytest.raises(ConfigError, match=f"tokens: expected one token, .* got {got}; a client shows its own"):
        Access(tmp_path / "tokens").token()
