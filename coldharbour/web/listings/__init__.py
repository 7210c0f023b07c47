"""The tables that can be taken away whole, for the pages' downloads and the `export` command; only reads."""
