"""Each test begins with the number of torch's threads that it would have alone."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _threads():
    """Runs set torch's number of threads for their whole process; the next test has its own again."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
