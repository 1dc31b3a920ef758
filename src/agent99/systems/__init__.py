"""The systems that agent99 is proven by: real applications, each a room of its own.

Given:       a mesh.
Gives:       `shop`, `events`, `cache` and `analytics`. They meet on the mesh only.
May import:  agent99
Never:       imports one system's files from another.
"""

__all__: list[str] = []
