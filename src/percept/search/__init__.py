"""Search: an embedded vector store on disk, queries by text and image, results as a web page or contact sheet.

>>> from percept.search.index import Index
>>> from percept.search.build import build
>>> from percept.search.query import ask
"""
