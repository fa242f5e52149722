"""What a reading means: one file per domain with its Pydantic model; everything else is derived from these.

Adding a domain is one file here (or in a folder named by `domains.directories`) and one migration.
"""

from telemetry.domains.metric import Kind, Metric, counter, gauge, state, without_none
from telemetry.domains.reading import Reading
from telemetry.domains.registry import Domain, Registry, domain, load_domains

__all__ = [
    "Domain",
    "Kind",
    "Metric",
    "Reading",
    "Registry",
    "counter",
    "domain",
    "gauge",
    "load_domains",
    "state",
    "without_none",
]
