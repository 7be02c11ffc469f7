"""`python -m ccm_runtime` is `ccm`."""

from ccm_runtime.cli import main

main()
