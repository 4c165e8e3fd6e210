"""The goals of speed, load and the long run: figures that are held against others of the same run."""
