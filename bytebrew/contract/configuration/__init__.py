"""Sections of the configuration file, and settings that change at run time."""
