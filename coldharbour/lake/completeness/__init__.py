"""Whether the lake holds everything: how far it reaches, where it was blind, and what its own rows prove missing."""
