"""The API document and the pages that show it."""
