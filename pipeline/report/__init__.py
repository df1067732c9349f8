"""The sections of the report, one module each: what a section shows, as data and as pictures.

Every module has a `section(compared, …)` that returns a `Section`, or None where there is nothing to
show. `pipeline/report/templates/<name>.html` turns its content into HTML.
"""
