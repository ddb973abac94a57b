"""Files of JSON lines: how they are called, written, finished, mended after a crash, and read again."""
