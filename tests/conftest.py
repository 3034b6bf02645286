from pathlib import Path

import pytest
from hypothesis import settings

# The machine may be busy, and a first call loads libraries.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real input beside the project; tests that need it are skipped where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"the sample data is not at {SHARED_DATA}")
    return SHARED_DATA
