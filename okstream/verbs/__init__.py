"""One module a verb of the command line; each is imported when it is used."""
