"""Lots whose stops may move: read from the best source there is, and watched for the touch of their triggers."""
