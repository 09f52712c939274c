"""What all tests have in common."""

from hypothesis import HealthCheck, settings

# How fast the machine is says nothing of the code. With CI set, hypothesis takes a profile of its own, which repeats
# the same examples each time: there fewer of them do, for what they can find was found the first time.
settings.register_profile("any-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("repeated", settings(), max_examples=40)
settings.load_profile("any-machine" if settings().deadline is not None else "repeated")
