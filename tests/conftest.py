"""What all tests have in common."""

from hypothesis import HealthCheck, settings

# How fast the machine is says nothing of the code. With CI set, hypothesis takes its own profile, which is like this
# one and repeats the same examples.
settings.register_profile("any-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
if settings.get_current_profile_name() == "default":
    settings.load_profile("any-machine")
