"""An account's activities as the lake has them, followed by revision, and the cash flows that are made of them."""
