"""The documentation as a site: `make docs` stages the pages of the repository for Sphinx, and builds them."""
