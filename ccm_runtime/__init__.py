"""The light half of ccm: the trial, the belief, the bundle, the wire, server and clients. Never imports torch."""

__version__ = "0.1.0"
