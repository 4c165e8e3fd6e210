"""Pictures of what was measured, as SVG that is readable on light and dark pages."""
