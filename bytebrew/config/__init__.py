"""The configuration as YAML: read, validated, imported and exported."""
