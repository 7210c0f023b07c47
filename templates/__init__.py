"""The templates and static files of the pages, installed as `coldharbour_templates`; holds no code."""
