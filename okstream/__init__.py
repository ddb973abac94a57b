"""okstream: market data of the OKX family of exchanges."""
