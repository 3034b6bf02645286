"""One file, one format. A module here is a format by existing; `converters.convert.formats` finds it by name.

Each defines: `NAME`, `DESCRIPTION`, `DTYPES` (what its arrays may be), `OURS` (pattern of the file names it writes into
a directory, or None when it writes one file, whose names end in `SUFFIXES`), `recognises(path)`, `fits_target(path)`,
`read(path)` and `write(checkpoint, path)`; a read-only or write-only format leaves out the other function.
"""
