"""What tests share is started once, however many runners there are."""

import pytest


def test_tests_of_a_file_stay_on_one_runner(request):
    if not hasattr(request.config, "workerinput"):
        pytest.skip("there is one runner only")
    # The name of the group, by which pytest-xdist divides: pytest has to let it stand there.
    assert request.node.nodeid.endswith("@test_runners.py")
