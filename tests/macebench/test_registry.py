import pytest

from macebench import registry
from macebench.errors import DuplicateNameError, UnknownNameError, UserError


@pytest.mark.parametrize("group", sorted(registry.BUILTIN))
def test_every_built_in_name_loads(group):
    for name in registry.BUILTIN[group]:
        assert registry.get(group, name) is not None


@pytest.mark.parametrize("name", registry.BUILTIN["metrics"])
def test_every_built_in_metric_is_complete(name):
    found = registry.get_metric(name)
    assert found.name == name
    assert found.needs or found.feature
    for column in found.columns:
        assert column.summary
        assert column.unit


@pytest.mark.parametrize("name", registry.BUILTIN["models"])
def test_every_built_in_model_has_a_card(name):
    card = registry.get("models", name).card
    assert card.name == name
    assert card.summary


def test_a_short_list_of_names_is_given_whole():
    message = str(registry.unknown("variant", "foo", ("lodge", "fixed"), "macebench ls protocols"))
    assert "Allowed: fixed, lodge." in message
    many = [f"name{k}" for k in range(99)]
    assert "Allowed" not in str(registry.unknown("variant", "foo", many, "macebench ls protocols"))


def test_an_unknown_name_suggests_and_names_the_command():
    with pytest.raises(UnknownNameError, match="Did you mean 'fid_k'") as caught:
        registry.get("metrics", "fid_kk")
    assert "macebench ls metrics" in str(caught.value)


def test_a_second_thing_under_a_name_is_refused():
    @registry.metric("test-registry-twice", needs=("pose",))
    def first(evidence, protocol):
        """First."""
        return 1.0

    with pytest.raises(DuplicateNameError, match="registered twice"):

        @registry.metric("test-registry-twice", needs=("pose",))
        def second(evidence, protocol):
            """Second."""
            return 2.0

    with pytest.raises(DuplicateNameError, match="fid_k"):

        @registry.metric("fid_k")
        def fid_k(evidence, protocol):
            """Not the built-in one."""
            return 0.0


def test_a_plugin_file_registers_and_a_broken_one_is_named(tmp_path):
    good = tmp_path / "good.py"
    good.write_text(
        "from macebench.registry import metric\n"
        "@metric('test-plugin-file', needs=('pose',))\n"
        "def f(evidence, protocol):\n    '''F.'''\n    return 1.0\n"
    )
    registry.load_plugin(good)
    registry.load_plugin(good)
    assert "test-plugin-file" in registry.names("metrics")
    bad = tmp_path / "bad.py"
    bad.write_text("1/0")
    with pytest.raises(UserError, match=r"bad\.py failed: ZeroDivisionError"):
        registry.load_plugin(bad)
    with pytest.raises(UserError, match="does not exist"):
        registry.load_plugin(tmp_path / "none.py")
