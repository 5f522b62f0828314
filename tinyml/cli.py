"""The command line: `tinyml demo | compile | measure | boards`."""
