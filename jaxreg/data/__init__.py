"""Images, fields and landmarks at the edges: checked host-side objects, readers and writers."""
