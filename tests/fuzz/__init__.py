"""Coverage-guided fuzzing of everything that reads hostile input: ``python -m tests.fuzz.run all --seconds 60``.

A target is a function of bytes (see :mod:`.target`); targets lie beside the names of the packages whose parsers they meet,
and :mod:`.catalogue` lists them. What once crashed a target stays in ``regressions/TARGET/``, and the unit tests run it again.
"""
