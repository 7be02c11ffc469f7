"""The agent that comes with the package, so that `ccm serve` and `ccm adapt` work at once."""

from pathlib import Path

from ccm_runtime.errors import BundleMissingError

_FOLDER = Path(__file__).parent / "default_bundle"


def embedded_bundle() -> Path:
    """Folder of the default bundle.

    Raises:
        BundleMissingError: This build of the package has none.
    """
    if not (_FOLDER / "manifest.json").is_file():
        raise BundleMissingError(
            "this build of the package holds no default bundle; name one (`ccm serve BUNDLE`), "
            "or make one (`ccm quickstart`)"
        )
    return _FOLDER
