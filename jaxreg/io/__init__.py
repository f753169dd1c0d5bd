"""Reading and writing files: NIfTI, ITK formats, DICOM, point lists."""
