"""Intents: every wish to replace a stop, on record from before it is sent until its outcome is proved."""
