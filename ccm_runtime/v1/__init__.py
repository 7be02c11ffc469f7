"""Code generated from `proto/ccm_runtime/v1/adaptation.proto` by `make proto`. Do not edit."""
