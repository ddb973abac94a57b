"""Several stores behind one okstream, in real processes, and what each of them holds at the end."""
