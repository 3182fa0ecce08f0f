"""The settings: each declared once, read and checked here."""
