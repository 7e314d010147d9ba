from __future__ import annotations

import lockstep


def test_all_names_what_is_public_in_order() -> None:
    public = [
        name
        for name in vars(lockstep)
        if not name.startswith("_")
        and (name == "sync" or not hasattr(vars(lockstep)[name], "__spec__"))
    ]
    assert sorted(public) == lockstep.__all__


def test_every_error_is_a_lockstep_error() -> None:
    for name in lockstep.__all__:
        value = getattr(lockstep, name)
        if isinstance(value, type) and issubclass(value, Exception):
            assert issubclass(value, lockstep.LockstepError), name
