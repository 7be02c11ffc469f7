"""What each `ccm` command does; `ccm_runtime.cli` imports these only when its command runs."""
