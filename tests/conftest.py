"""What all tests have in common."""

from hypothesis import HealthCheck, settings

# How fast the machine is says nothing of the code. With CI set, hypothesis takes its own profile, which is like this
# one, without a deadline, and repeats the same examples.
settings.register_profile("any-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
if settings().deadline is not None:
    settings.load_profile("any-machine")
