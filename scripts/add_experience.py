"""Add to an older bundle what its manifest lacks: what transitions, returns and beliefs on training tasks are like.

    python scripts/add_experience.py BUNDLE

The graphs stay as they are; the manifest's digest, and with it the bundle's identity, changes: sign it anew.
"""

import argparse
from pathlib import Path

from ccm_export.experience import experience
from ccm_runtime.bundle import MANIFEST, load_bundle
from ccm_runtime.inference import OnnxPolicy
from ccm_runtime.manifest import to_bytes
from ccm_training.envs.registry import get_family


def main() -> None:
    """Rewrite the manifest."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    folder = parser.parse_args().bundle
    bundle = load_bundle(folder)
    manifest = bundle.manifest
    seed = int(manifest.provenance.config["tasks"]["seed"])  # type: ignore[index]  # a resolved config has it
    stats, plane = experience(OnnxPolicy(bundle), get_family(manifest.family), manifest.safety, seed=seed)
    draft = folder / f"{MANIFEST}.new"
    draft.write_bytes(to_bytes(manifest.model_copy(update={"experience": stats, "belief_map": plane})))
    draft.replace(folder / MANIFEST)


if __name__ == "__main__":
    main()
