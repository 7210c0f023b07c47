"""The lab: what closed trades would have brought under other rules; reads and computes, and never touches an order."""
