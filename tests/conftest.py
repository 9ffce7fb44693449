"""For all tests: a property is not false because the machine is busy."""

from hypothesis import settings

settings.register_profile("trainyard", deadline=None)
settings.load_profile("trainyard")
