"""Search: an embedded store of vectors on disk, queries by text and image, results as a page or a sheet.

>>> from percept.search.index import Index
>>> from percept.search.build import build
>>> from percept.search.query import search
"""
