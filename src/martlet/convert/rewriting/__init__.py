"""Graph to graph: lookups found and replaced, tables taken out, exporters' habits undone."""
