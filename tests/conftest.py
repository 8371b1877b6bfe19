"""Settings shared by all tests."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "ct2flow",
    deadline=None,  # a busy machine is no failure
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("ct2flow")
