"""The operators' commands: operations without printing, and the command line over them.

cli.py        the entry point: the command tree, and errors as one line
root.py       the composition root: reads the settings once, makes the engine, installs the bell
commands/     one file for each group of commands: options in, an operation, a document or a table out
checks/       what `check` looks at
entering.py envelopes.py lines.py    `enqueue FILE`: bytes, lines, strict JSON, batches
documents.py tables.py terminal.py   what is printed: JSON documents, tables for people
options.py choosing.py moments.py    what is read: options, KEYs and filters, times
"""
