"""The README's two commands as on a new machine: ``python -m tests.fresh.run``.

Each trial begins with a clone of this checkout's last commit: in Debian systems that hold Python and make only, as root and as
an ordinary user, and for each further Python at hand.
"""
